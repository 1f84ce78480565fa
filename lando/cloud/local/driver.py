"""The local cloud: a "VM" is a detached process group on this machine, with a directory named by its mark.

The root directory has three directories; ``vm_directory.py`` says what is in the directory of a VM:

    vms/MARK/       a VM
    limbo/new-*     being built; a VM from the moment that it is renamed to vms/MARK
    limbo/old-*     deleted; its files are being removed
    deleted/MARK    kept for a week, so that a create that was in progress does not start a deleted VM
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from lando.cloud.interface import (
    Ambiguous,
    CloudError,
    NoCapacity,
    Quota,
    Refused,
    Server,
    ServerRequest,
    Share,
    Size,
    Unreachable,
)
from lando.cloud.local import containers, full_disk, launcher, processes, vm_directory
from lando.failpoints import reach

CREATE_STEPS = ("local-create-begun", "local-create-built", "local-create-placed", "local-create-started")
"""The failpoints of ``create``, in order."""

_DELETE_WAIT_SECONDS = 0.25
"""How long ``delete`` waits for a deletion, which goes on in the background."""
_START_SECONDS = 30.0
_KILL_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.02
_REMEMBERED_SECONDS = 7 * 24 * 3600.0

_NO_CAPACITY = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_NO_PERMISSION = {errno.EROFS, errno.EACCES, errno.EPERM}
_NOT_INHERITED = ("LANDO_CRASH_AT", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class LocalCloud:
    """Runs each "VM" as processes of this machine, detached from whoever created it; Linux only.

    Args:
        root: directory that holds everything; made when it is missing.
        term_grace: seconds between SIGTERM and SIGKILL when a VM is deleted.
        gone_check: seconds between two checks of a VM whether its directory still exists.
    """

    settle_time = 0.0
    has_quota = False
    floating_ips = None
    project = None

    def __init__(self, root: Path, term_grace: float = 5.0, gone_check: float = 30.0) -> None:
        root = root.absolute()
        self._root = root
        self._vms = root / "vms"
        self._limbo = root / "limbo"
        self._deleted = root / "deleted"
        self._term_grace = term_grace
        self._gone_check = gone_check
        self._deletions: dict[str, Future[None]] = {}
        self._deletions_lock = threading.Lock()
        self._sweeper: threading.Thread | None = None

    def create(self, request: ServerRequest) -> Server:
        """Start a VM; see ``Cloud.create``. Repeated with the same mark, it finds the VM and starts nothing.

        Raises:
            NoCapacity: the disk is full, or the machine cannot start another process.
            Refused: the directory cannot be written.
            Unreachable: it could not be started for another reason, or the VM of this mark was deleted.
            Ambiguous: it was started, and then its directory could not be read.
        """
        directory = self._directory(request.mark)
        with _errors(f"cannot create a VM in {self._root}", self._root):
            reach(CREATE_STEPS[0])
            lock = self._claim(request, directory)
            if lock is not None:
                try:
                    self._start(directory, lock)
                finally:
                    os.close(lock)
        reach(CREATE_STEPS[3])
        try:
            server = self._server(request.mark)
        except OSError as error:
            raise Ambiguous(f"{directory}: {error.strerror}") from error
        if server is None:
            raise Unreachable(f"{directory} was deleted while it was being created")
        return server

    def _claim(self, request: ServerRequest, directory: Path) -> int | None:
        """Make a VM. Returns its lock if this call has to start it, None if it was started before."""
        if directory.exists():
            return self._claim_unstarted(directory)
        building, lock = self._build(request)
        try:
            reach(CREATE_STEPS[1])
            self._vms.mkdir(mode=0o700, exist_ok=True)
            building.rename(directory)  # fails if the VM exists, because its directory is never empty
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            os.close(lock)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return self._claim_unstarted(directory)
            raise
        reach(CREATE_STEPS[2])
        return lock

    def _claim_unstarted(self, directory: Path) -> int | None:
        """Lock a VM whose creator died before starting the launcher. Returns None if there is a launcher."""
        if vm_directory.read_record(directory) is not None:
            return None
        try:
            lock = vm_directory.try_lock(directory)
        except vm_directory.Replaced as error:
            raise Unreachable(f"cannot start the VM {directory}: its lock is replaced: {error}") from error
        if lock is not None and vm_directory.read_record(directory) is not None:
            os.close(lock)
            return None
        return lock

    def _build(self, request: ServerRequest) -> tuple[Path, int]:
        """A complete directory in limbo, and its lock, which is held."""
        self._limbo.mkdir(mode=0o700, parents=True, exist_ok=True)
        building, lock = vm_directory.make_locked(self._limbo)
        try:
            vm_directory.write_files(building, request)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            os.close(lock)
            raise
        return building, lock

    def _start(self, directory: Path, lock: int) -> None:
        """Start the launcher of a VM that never ran.

        Raises:
            OSError, Unreachable: nothing was started, and the VM's directory is removed.
        """
        try:
            if self._is_deleted(directory.name):
                raise Unreachable(f"the VM {directory.name} was deleted; it is not started again")
            error_number = self._launch(directory, lock)
            if error_number:
                raise OSError(error_number, os.strerror(error_number), str(directory))
        except (OSError, Unreachable):
            self._discard(directory)
            raise

    def _launch(self, directory: Path, lock: int) -> int:
        """The errno for which the launcher could not write its record; 0 if it wrote it, or may have."""
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
        environment |= {processes.MARK_VARIABLE: directory.name, "LANDO_VM_DIR": str(directory)}
        environment.setdefault("LANDO_PYTHON", sys.executable)
        with (directory / launcher.CONSOLE).open("ab") as console:
            starting = subprocess.Popen(
                [sys.executable, "-I", "-S", launcher.__file__, str(lock), str(self._gone_check)],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=console,
                pass_fds=[lock],
                start_new_session=True,
            )
        try:
            report, _ = starting.communicate(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            return 0
        return int(report) if report.isdigit() else 0

    def get(self, server_id: str) -> Server | None:
        """See ``Cloud.get``."""
        with _errors(f"cannot read {self._vms}"):
            return self._server(server_id)

    def servers(self) -> list[Server]:
        """See ``Cloud.servers``. A VM whose creator died before starting it is deleted, and not listed.

        The first call also starts to remove what interrupted calls left behind, in the background.
        """
        self._start_sweep()
        with _errors(f"cannot read {self._vms}"):
            if not self._vms.is_dir():
                return []
            found = (self._server(path.name) for path in sorted(self._vms.iterdir()))
            return [server for server in found if server is not None and not self._delete_unstarted(server)]

    def _server(self, mark: str) -> Server | None:
        if not vm_directory.is_valid_mark(mark):
            return None
        return vm_directory.describe(self._vms / mark, lambda: self._is_deleted(mark))

    def _delete_unstarted(self, server: Server) -> bool:
        """Delete a VM that never started; returns whether it was one."""
        if server.status != "ERROR" or server.deployment is None:
            return False
        with suppress(CloudError):  # the next list tries again
            self.delete(server.id)
        return True

    def _start_sweep(self) -> None:
        """Once in the life of this object."""
        if self._sweeper is None:
            self._sweeper = threading.Thread(target=self._sweep, name="sweep", daemon=True)
            self._sweeper.start()

    def _sweep(self) -> None:
        for path in list(self._limbo.glob("old-*")):
            vm_directory.remove(path)
        for path in list(self._limbo.glob("new-*")):
            with suppress(OSError, vm_directory.Replaced):
                vm_directory.remove_unlocked(path)
        for path in list(self._deleted.glob("*")):
            with suppress(OSError):
                if path.lstat().st_mtime < time.time() - _REMEMBERED_SECONDS:
                    path.unlink()

    def console_log(self, server_id: str) -> str:
        """See ``Cloud.console_log``; "" for a VM that does not exist."""
        with _errors(f"cannot read the console log of {server_id}"):
            try:
                return vm_directory.read_console(self._directory(server_id))
            except FileNotFoundError:
                return ""

    def delete(self, server_id: str) -> bool:
        """See ``Cloud.delete``. Returns soon: a deletion that takes longer continues in the background.

        Calling it again continues a deletion that the death of an earlier daemon interrupted.

        Raises:
            CloudError: processes or containers could not be stopped, or the directory could not be moved, by
                this call or since the call before.
        """
        if not vm_directory.is_valid_mark(server_id):
            return True
        with _errors(f"cannot delete {self._vms / server_id}"):
            if not self._remember_deleted(server_id):
                return True
            with self._deletions_lock:
                deletion = self._deletions.get(server_id) or self._start_deletion(server_id)
            wait([deletion], timeout=_DELETE_WAIT_SECONDS)
            if deletion.done():
                self._forget_deletion(server_id, deletion)
                deletion.result()
            return not os.path.lexists(self._vms / server_id)

    def _remember_deleted(self, mark: str) -> bool:
        """Record the deletion of a VM. Returns whether the VM exists.

        In this order, because ``create`` makes the VM's directory first and then looks for the deletion: of
        two concurrent calls, at least one sees the other.
        """
        with suppress(OSError):  # a VM must be deleted although the disk is full
            self._deleted.mkdir(mode=0o700, exist_ok=True)
            (self._deleted / mark).touch(mode=0o600)
        return os.path.lexists(self._vms / mark)

    def _start_deletion(self, mark: str) -> Future[None]:
        deletion: Future[None] = Future()
        self._deletions[mark] = deletion

        def run() -> None:
            try:
                with _errors(f"cannot delete {self._vms / mark}"):
                    self._stop_and_remove(self._vms / mark)
            except BaseException as error:
                deletion.set_exception(error)
            else:
                self._forget_deletion(mark, deletion)
                deletion.set_result(None)

        # A daemon thread: this process may exit meanwhile; the next call of delete continues.
        threading.Thread(target=run, name=f"delete-{mark}", daemon=True).start()
        return deletion

    def _forget_deletion(self, mark: str, deletion: Future[None]) -> None:
        with self._deletions_lock:
            if self._deletions.get(mark) is deletion:
                del self._deletions[mark]

    def _stop_and_remove(self, directory: Path) -> None:
        try:
            lock = self._stop_processes(directory)
        except FileNotFoundError:
            if os.path.lexists(directory):
                raise
            return  # another process deleted it
        try:
            containers.remove(directory / containers.ID_DIRECTORY)
            self._discard(directory)
        except containers.NotStopped as error:
            raise CloudError(f"cannot delete {directory}: {error}") from error
        finally:
            if lock is not None:
                os.close(lock)

    def _stop_processes(self, directory: Path) -> int | None:
        """Stop every process of the VM. Returns its lock, without which no process can be started; None if it
        is replaced by something else: then nobody can lock it any more."""
        deadline = time.monotonic() + _KILL_SECONDS
        while True:
            # Locked before the search, so that no launcher starts after it.
            try:
                lock = vm_directory.try_lock(directory, os.O_CREAT)
            except vm_directory.Replaced:
                self._stop_visible_processes(directory)
                return None
            try:
                self._stop_visible_processes(directory)
            except BaseException:
                if lock is not None:
                    os.close(lock)
                raise
            if lock is not None:
                return lock
            if time.monotonic() > deadline + self._term_grace:
                raise CloudError(
                    f"cannot delete {directory}: its lock is held by a process that is not visible here; "
                    "was the VM created in another container?"
                )
            time.sleep(_LOCK_POLL_SECONDS)

    def _stop_visible_processes(self, directory: Path) -> None:
        record = vm_directory.read_record(directory)
        process = record.process() if record is not None else None
        try:
            processes.stop(directory.name, process, self._term_grace, _KILL_SECONDS)
        except processes.StillRunning as error:
            raise CloudError(f"cannot delete {directory}: processes are {error}") from error

    def _discard(self, directory: Path) -> None:
        """Make the VM absent at once, and remove as many of its files as possible."""
        # limbo exists since the first create: the move must work on a full disk.
        self._limbo.mkdir(mode=0o700, exist_ok=True)
        old = self._limbo / f"old-{directory.name}-{os.urandom(4).hex()}"
        with suppress(FileNotFoundError):
            try:
                directory.rename(old)
            except PermissionError:  # a directory that its owner may not write cannot be moved
                vm_directory.let_owner_use(directory)
                directory.rename(old)
        vm_directory.remove(old)

    def quota(self, volumes: bool = False) -> Quota:
        """See ``Cloud.quota``: there is none."""
        unlimited = Share(0, None)
        return Quota(unlimited, unlimited, unlimited)

    def size(self, flavor: str | None) -> Size:
        """See ``Cloud.size``: there are no flavors."""
        return Size(servers=1)

    def check_services(self) -> None:
        """See ``Cloud.check_services``: there are none."""

    def _directory(self, mark: str) -> Path:
        if not vm_directory.is_valid_mark(mark):
            raise ValueError(f"not a valid mark: {mark!r}")
        return self._vms / mark

    def _is_deleted(self, mark: str) -> bool:
        return (self._deleted / mark).exists()


@contextmanager
def _errors(action: str, root: Path | None = None) -> Iterator[None]:
    """Raise an error of the operating system as a CloudError that says what to do.

    Args:
        action: begins the error's message, as in ``cannot read PATH``.
        root: the state directory; given where the job that fills its disk is to be named.
    """
    try:
        yield
    except OSError as error:
        message = f"{action}: {error.strerror or error}"
        if error.filename:
            message += f" ({error.filename})"
        if error.errno in _NO_CAPACITY:
            full = full_disk.words(root) if root is not None else ""
            advice = "free some space, memory or processes"
            raise NoCapacity("; ".join(filter(None, (message, advice, full)))) from error
        if error.errno in _NO_PERMISSION:
            raise Refused(
                f"{message}; choose a directory that the daemon can write", origin="site"
            ) from error
        raise Unreachable(message) from error
