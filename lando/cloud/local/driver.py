"""The local cloud: a "VM" is a detached process group on this machine, with a directory named by its mark.

The root directory has three directories; ``vm_directory.py`` says what is in the directory of a VM:

    vms/MARK/       a VM
    limbo/new-*     being built; a VM from the moment that it is renamed to vms/MARK
    limbo/old-*     deleted; its files are still to be removed
    deleted/MARK    remembered, so that a create that was under way cannot bring the VM back
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
from lando.cloud.local import containers, launcher, processes, vm_directory
from lando.failpoints import reach

CREATE_STEPS = ("local-create-begun", "local-create-built", "local-create-placed", "local-create-started")
"""The crash points of ``create``, in order."""

CONTAINER_IDS = "containers"
"""Directory of the VM where the CWL runner leaves the ids of its containers."""

_QUICK_SECONDS = 0.25
_START_SECONDS = 30.0
_KILL_SECONDS = 30.0
_LOCK_POLL_SECONDS = 0.02
_REMEMBERED_SECONDS = 7 * 24 * 3600.0

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}
_NOT_FOR_VMS = ("LANDO_CRASH_AT", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class LocalCloud:
    """Runs each "VM" as processes of this machine, detached from whoever created it; Linux only.

    Args:
        root: directory that holds everything; made when it is missing.
        term_grace: seconds between SIGTERM and SIGKILL when a VM is deleted.
        gone_check: seconds between a VM's looks whether its directory still exists.
    """

    settle_time = 0.0
    has_quota = False
    floating_ips = None

    def __init__(self, root: Path, term_grace: float = 5.0, gone_check: float = 30.0) -> None:
        root = root.absolute()
        self._root = root
        self._vms = root / "vms"
        self._limbo = root / "limbo"
        self._deleted = root / "deleted"
        self._term_grace = term_grace
        self._gone_check = gone_check
        self._endings: dict[str, Future[None]] = {}
        self._endings_lock = threading.Lock()
        self._sweeping: threading.Thread | None = None

    def create(self, request: ServerRequest) -> Server:
        """Start a VM; see ``Cloud.create``. Repeated with the same mark, it finds the VM and starts nothing.

        Raises:
            NoCapacity: the disk is full, or the machine has no room for another process.
            Refused: the directory cannot be written.
            Unreachable: not started for another reason, or its mark was deleted.
            Ambiguous: it was started, and then could not be looked at.
        """
        directory = self._directory(request.mark)
        with _errors(f"cannot create a VM in {self._root}"):
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

    def get(self, server_id: str) -> Server | None:
        """See ``Cloud.get``."""
        with _errors(f"cannot read {self._vms}"):
            return self._server(server_id)

    def servers(self) -> list[Server]:
        """See ``Cloud.servers``. A VM whose creator died before it started anything is withdrawn, not listed.

        The first call also begins to remove what interrupted calls left behind.
        """
        self._sweep_once()
        with _errors(f"cannot read {self._vms}"):
            if not self._vms.is_dir():
                return []
            found = (self._server(path.name) for path in sorted(self._vms.iterdir()))
            return [server for server in found if server is not None and not self._withdraw(server)]

    def _withdraw(self, server: Server) -> bool:
        """Delete a VM that never ran and never will; whether it is one."""
        if server.status != "ERROR" or server.deployment is None:
            return False
        with suppress(CloudError):  # the next list tries again
            self.delete(server.id)
        return True

    def delete(self, server_id: str) -> bool:
        """See ``Cloud.delete``. Returns soon; the VM's end goes on in the background, if it takes longer.

        Called again, a deletion that was cut short by the death of this process goes on, and one that failed
        since the last call is told.

        Raises:
            CloudError: processes or containers could not be stopped, or files not be touched.
        """
        if not vm_directory.is_valid_mark(server_id):
            return True
        with _errors(f"cannot delete {self._vms / server_id}"):
            if not self._remember_deleted(server_id):
                return True
            with self._endings_lock:
                ending = self._endings.get(server_id) or self._begin_ending(server_id)
            wait([ending], timeout=_QUICK_SECONDS)
            if ending.done():
                self._forget_ending(server_id, ending)
                ending.result()
            return not (self._vms / server_id).exists()

    def console_log(self, server_id: str) -> str:
        """See ``Cloud.console_log``; "" for a VM that does not exist."""
        with _errors(f"cannot read the console log of {server_id}"):
            try:
                return vm_directory.read_console(self._directory(server_id))
            except FileNotFoundError:
                return ""

    def quota(self) -> Quota:
        """See ``Cloud.quota``: this machine sets none."""
        none = Share(0, None)
        return Quota(none, none, none)

    def size(self, flavor: str | None) -> Size:
        """See ``Cloud.size``: all VMs are alike."""
        return Size(servers=1)

    def _directory(self, mark: str) -> Path:
        if not vm_directory.is_valid_mark(mark):
            raise ValueError(f"not a mark: {mark!r}")
        return self._vms / mark

    # create

    def _claim(self, request: ServerRequest, directory: Path) -> int | None:
        """The lock of a VM that is ours to start; None when the VM needs no starting."""
        if directory.exists():
            return self._claim_unstarted(directory)
        building, lock = self._build(request)
        try:
            reach(CREATE_STEPS[1])
            self._vms.mkdir(mode=0o700, exist_ok=True)
            building.rename(directory)  # fails when the VM exists, for its directory is never empty
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            os.close(lock)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return self._claim_unstarted(directory)
            raise
        reach(CREATE_STEPS[2])
        return lock

    def _claim_unstarted(self, directory: Path) -> int | None:
        """Take over from a creator that died before it started anything: the lock shows that it did."""
        if vm_directory.read_record(directory) is not None:
            return None
        lock = vm_directory.try_lock(directory)
        if lock is not None and vm_directory.read_record(directory) is not None:
            os.close(lock)
            return None
        return lock

    def _build(self, request: ServerRequest) -> tuple[Path, int]:
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
        """Start the launcher of a VM that never ran; if that fails, nothing of the VM is left.

        Raises:
            OSError: nothing was run, and the VM is gone.
        """
        try:
            if self._is_deleted(directory.name):
                raise Unreachable(f"the VM {directory.name} was deleted; it is not started again")
            failure = self._launch(directory, lock)
            if failure:
                raise OSError(failure, os.strerror(failure), str(directory))
        except (OSError, Unreachable):
            self._discard(directory)
            raise

    def _launch(self, directory: Path, lock: int) -> int:
        """Answers the errno for which the launcher could not record itself, 0 when it has, or may have."""
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_VMS}
        environment |= {processes.MARK_VARIABLE: directory.name, "LANDO_VM_DIR": str(directory)}
        environment.setdefault("LANDO_PYTHON", sys.executable)
        with (directory / launcher.CONSOLE).open("ab") as console:
            starter = subprocess.Popen(
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
            report, _ = starter.communicate(timeout=_START_SECONDS)
        except subprocess.TimeoutExpired:
            return 0
        return int(report) if report.isdigit() else 0

    # status

    def _server(self, mark: str) -> Server | None:
        if not vm_directory.is_valid_mark(mark):
            return None
        return vm_directory.describe(self._vms / mark, lambda: self._is_deleted(mark))

    # delete

    def _remember_deleted(self, mark: str) -> bool:
        """First remember, then look: a create places its VM first and then looks here. Is there a VM?"""
        with suppress(OSError):  # a full disk must not keep a VM alive
            self._deleted.mkdir(mode=0o700, exist_ok=True)
            (self._deleted / mark).touch(mode=0o600)
        return (self._vms / mark).exists()

    def _is_deleted(self, mark: str) -> bool:
        return (self._deleted / mark).exists()

    def _begin_ending(self, mark: str) -> Future[None]:
        ending: Future[None] = Future()
        self._endings[mark] = ending

        def carry_out() -> None:
            try:
                with _errors(f"cannot delete {self._vms / mark}"):
                    self._end(self._vms / mark)
            except BaseException as error:
                ending.set_exception(error)
            else:
                self._forget_ending(mark, ending)
                ending.set_result(None)

        # A daemon thread: who ends this process need not wait for it; the next delete goes on.
        threading.Thread(target=carry_out, name=f"end-{mark}", daemon=True).start()
        return ending

    def _forget_ending(self, mark: str, ending: Future[None]) -> None:
        with self._endings_lock:
            if self._endings.get(mark) is ending:
                del self._endings[mark]

    def _end(self, directory: Path) -> None:
        try:
            lock = self._end_processes(directory)
        except FileNotFoundError:
            if directory.exists():
                raise
            return  # another process deleted it
        try:
            containers.remove(directory / CONTAINER_IDS)
            self._discard(directory)
        except containers.NotStopped as error:
            raise CloudError(f"cannot delete {directory}: {error}") from error
        finally:
            os.close(lock)

    def _end_processes(self, directory: Path) -> int:
        """End everything that runs; answers the VM's lock, with which nothing can run any more."""
        deadline = time.monotonic() + _KILL_SECONDS
        while True:
            # Taken before the search: what is not found then cannot be about to start either.
            lock = vm_directory.try_lock(directory, os.O_CREAT)
            try:
                self._end_visible(directory)
            except BaseException:
                if lock is not None:
                    os.close(lock)
                raise
            if lock is not None:
                return lock
            if time.monotonic() > deadline + self._term_grace:
                raise CloudError(
                    f"cannot delete {directory}: its lock is held, but by no process that can be seen here; "
                    "was it created in another container?"
                )
            time.sleep(_LOCK_POLL_SECONDS)

    def _end_visible(self, directory: Path) -> None:
        record = vm_directory.read_record(directory)
        init = record.process() if record is not None else None
        try:
            processes.end(directory.name, init, self._term_grace, _KILL_SECONDS)
        except processes.StillRunning as error:
            raise CloudError(f"cannot delete {directory}: processes are {error}") from error

    def _discard(self, directory: Path) -> None:
        """The VM is gone at once, and its files as far and as soon as they can be removed."""
        # Renamed into a directory that was made by the first create: this must work on a full disk.
        self._limbo.mkdir(mode=0o700, exist_ok=True)
        waste = self._limbo / f"old-{directory.name}-{os.urandom(4).hex()}"
        with suppress(FileNotFoundError):
            directory.rename(waste)
        vm_directory.remove(waste)

    # what was left behind

    def _sweep_once(self) -> None:
        if self._sweeping is None:
            self._sweeping = threading.Thread(target=self._sweep, name="sweep", daemon=True)
            self._sweeping.start()

    def _sweep(self) -> None:
        with suppress(OSError):
            for path in list(self._limbo.glob("old-*")):
                vm_directory.remove(path)
        with suppress(OSError):
            for path in list(self._limbo.glob("new-*")):
                vm_directory.remove_unlocked(path)
        with suppress(OSError):
            for path in list(self._deleted.iterdir()):
                if path.stat().st_mtime < time.time() - _REMEMBERED_SECONDS:
                    path.unlink()


@contextmanager
def _errors(doing: str) -> Iterator[None]:
    """Say in a sentence what the operating system refused, and what to do."""
    try:
        yield
    except OSError as error:
        words = f"{doing}: {error.strerror or error}"
        if error.filename:
            words += f" ({error.filename})"
        if error.errno in _NO_ROOM:
            raise NoCapacity(f"{words}; free some space or processes") from error
        if error.errno in _NO_RIGHT:
            raise Refused(f"{words}; choose a directory that the daemon may write", names="site") from error
        raise Unreachable(words) from error
