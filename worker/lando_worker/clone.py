"""Clones the job's repository, or copies a plain folder, at the commit given by ``git_ref``.

Every failure quotes git's own error. Credentials are passed to git in its environment, never on a command
line: https://git-scm.com/docs/gitcredentials
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from lando.repository import clone_name
from lando_worker.result import SystemFailure, WorkflowFailure

ALLOWED_PROTOCOLS = "https:http:ssh:git:file"
TRIES = 4
FIRST_WAIT = 1.0
"""Seconds, at most, before the third try; the fourth waits up to twice as long, the second not at all."""

TRANSIENT = re.compile(
    r"could not resolve host|temporary failure|connection (refused|reset|timed out|closed)|timed? ?out"
    r"|early eof|rpc failed|remote end hung up|returned error: (429|5\d\d)|failed to connect"
    r"|operation too slow|unexpected disconnect|network is unreachable|no route to host|ssl_error_syscall",
    re.IGNORECASE,
)
REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
CREDENTIAL_HELPER = (
    '!f() { test "$1" = get && echo "username=$LANDO_GIT_USER" && echo "password=$LANDO_GIT_PASSWORD"; }; f'
)
STALL_LIMIT = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")
# Maintenance in the background would outlive the command.
NO_MAINTENANCE = ("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "advice.detachedHead=false")


@dataclass(frozen=True)
class Source:
    """What to clone."""

    address: str
    """Address or absolute path, without credentials."""
    ref: str | None = None
    """Branch, tag or commit; None for the default branch."""
    user: str | None = None
    password: str | None = None

    @property
    def name(self) -> str:
        """The name of the clone's directory, as git chooses it: ``toyworkflow`` for ``…/toyworkflow.git``."""
        name = clone_name(self.address)
        return name if name not in ("", ".", "..") else "clone"


class GitFailed(Exception):
    """A git command failed. The text is git's error."""

    @property
    def is_transient(self) -> bool:
        """Whether trying again can help: the network or the server is at fault, not the job."""
        return TRANSIENT.search(str(self)) is not None


def fetch(source: Source, parent: Path, first_wait: float = FIRST_WAIT) -> tuple[Path, str | None]:
    """Clone ``source`` into a directory of its own name inside ``parent``; retry transient failures.

    Args:
        source: what to clone.
        parent: an existing directory.
        first_wait: see FIRST_WAIT.

    Returns:
        The clone, and its commit: None for a plain folder and for an empty repository.

    Raises:
        WorkflowFailure: it cannot be cloned.
        SystemFailure: it cannot be cloned on this VM: the disk is full, or git is not installed.
    """
    destination = parent / source.name
    if _is_plain_folder(source.address):
        _copy(source, destination)
        return destination, None
    try:
        return destination, _clone_with_retries(source, destination, first_wait)
    except GitFailed as error:
        if "No space left on device" in str(error):
            raise SystemFailure(f"git clone {source.address} failed: {error}") from error
        tries = f" after {TRIES} tries" if error.is_transient else ""
        raise WorkflowFailure(f"git clone {source.address} failed{tries}: {error}") from error


def _is_plain_folder(address: str) -> bool:
    path = Path(address)
    if not path.is_absolute() or not path.is_dir():
        return False
    return not (path / ".git").exists() and not ((path / "HEAD").is_file() and (path / "objects").is_dir())


def _copy(source: Source, destination: Path) -> None:
    if source.ref is not None:
        raise WorkflowFailure(
            f"git_ref: {source.address} is a plain folder, not a repository, so it has no {source.ref!r}"
        )
    target = destination.resolve()

    def not_copied(folder: str, names: list[str]) -> Iterable[str]:
        """Special files, and the directory of the copy itself: the folder may contain this VM's directory."""
        paths = {name: Path(folder, name) for name in names}
        return [
            name
            for name, path in paths.items()
            if not (path.is_symlink() or path.is_file() or path.is_dir())
            or (path.is_dir() and not path.is_symlink() and path.resolve() in target.parents)
        ]

    try:
        shutil.copytree(source.address, destination, symlinks=True, ignore=not_copied)
    except shutil.Error as error:
        failures = "; ".join(f"{path}: {why}" for path, _, why in error.args[0][:5])
        raise WorkflowFailure(
            f"git_clone: the folder {source.address} cannot be copied: {failures}"
        ) from error


def _clone_with_retries(source: Source, destination: Path, first_wait: float) -> str | None:
    try:
        return _clone(source, destination)
    except GitFailed as error:
        if not error.is_transient:
            raise
    # Imported here only: most clones succeed at once, and the import takes longer than many of them.
    from tenacity import (  # noqa: PLC0415
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        wait_random_exponential,
    )

    retrying = Retrying(
        stop=stop_after_attempt(TRIES - 1),
        wait=wait_random_exponential(multiplier=first_wait),
        retry=retry_if_exception(lambda error: isinstance(error, GitFailed) and error.is_transient),
        before=lambda _: print("lando: trying git again", file=sys.stderr, flush=True),
        reraise=True,
    )
    return retrying(_clone, source, destination)


def _clone(source: Source, destination: Path) -> str | None:
    """One try, shallow if the server supports it. Returns the commit."""
    shutil.rmtree(destination, ignore_errors=True)
    git = _Git(source, destination)
    try:
        _clone_at_ref(git, source, depth=("--depth", "1"))
    except GitFailed as error:
        shallow_is_refused = re.search(r"shallow|not our ref|unadvertised object", str(error))
        if error.is_transient or not (shallow_is_refused or _is_commit(source.ref)):
            raise
        shutil.rmtree(destination, ignore_errors=True)
        _clone_at_ref(git, source, depth=())
    if (destination / ".gitmodules").exists():
        _update_submodules(git)
    return git.commit()


def _clone_at_ref(git: _Git, source: Source, depth: tuple[str, ...]) -> None:
    if source.address.startswith("/"):
        depth = ()  # git makes hard links to the objects of a local repository, which is faster
    if source.ref is None:
        git.clone(*depth)
    elif not _is_commit(source.ref) and not source.ref.startswith("refs/"):
        git.clone(*depth, "--branch", source.ref)
    elif depth:
        git.run("init", "--quiet", "--", str(git.destination))
        git.run("fetch", "--quiet", *depth, "--", source.address, source.ref, inside=True)
        git.run("checkout", "--quiet", "--detach", "FETCH_HEAD", inside=True)
    else:
        git.clone("--no-checkout")
        # The ref may be a branch, another reference, or a commit, perhaps abbreviated.
        refspec = source.ref if source.ref.startswith("refs/") else f"refs/heads/{source.ref}"
        try:
            git.run("fetch", "--quiet", "--", source.address, refspec, inside=True)
            commit = "FETCH_HEAD"
        except GitFailed:
            commit = source.ref
        git.run("checkout", "--quiet", "--detach", commit, "--", inside=True)


def _is_commit(ref: str | None) -> bool:
    return ref is not None and re.fullmatch(r"[0-9a-f]{7,64}", ref) is not None


def _update_submodules(git: _Git) -> None:
    update = ("submodule", "--quiet", "update", "--init", "--recursive")
    try:
        git.run(*update, "--depth", "1", inside=True)
    except GitFailed as error:
        if error.is_transient:
            raise
        git.run(*update, inside=True)


class _Git:
    """Runs git commands for one clone."""

    def __init__(self, source: Source, destination: Path) -> None:
        self.destination = destination
        self._source = source
        self._options = [*STALL_LIMIT, *NO_MAINTENANCE, *_credential_options(source)]
        self._environment = _environment(source)

    def clone(self, *options: str) -> None:
        self.run("clone", "--quiet", *options, "--", self._source.address, str(self.destination))

    def commit(self) -> str | None:
        try:
            return self.run("rev-parse", "--verify", "--quiet", "HEAD", inside=True).strip() or None
        except GitFailed:
            return None

    def run(self, *arguments: str, inside: bool = False) -> str:
        """Run a command, and return its standard output.

        Args:
            arguments: of git.
            inside: run in the clone, not in its parent directory.

        Raises:
            GitFailed: the command failed.
        """
        # Files, not pipes: an ssh master that stays in the background would keep a pipe open.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                status = subprocess.run(
                    ["git", *self._options, *arguments],
                    cwd=self.destination if inside else self.destination.parent,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    check=False,
                ).returncode
            except FileNotFoundError:
                raise SystemFailure("git is not installed: install it in the worker image") from None
            printed = _text(errors)
            if printed:
                print(printed, file=sys.stderr, flush=True)
            if status != 0:
                raise GitFailed(_error_lines(printed) or f"git {arguments[0]} exited with status {status}")
            return _text(output)


def _text(file: BinaryIO) -> str:
    file.seek(max(file.seek(0, os.SEEK_END) - 64 * 1024, 0))
    return file.read().decode(errors="replace").strip()


def _error_lines(printed: str) -> str:
    """The lines that say what went wrong, without the progress around them."""
    lines = [
        line
        for line in printed.splitlines()
        if re.match(r"(fatal|error|remote|ssh|.*denied)\b", line, re.IGNORECASE)
    ]
    return " ".join(lines or printed.splitlines()[-3:])


def _environment(source: Source) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in REPOSITORY_VARIABLES}
    environment.setdefault(
        "GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30"
    )
    environment.update(
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="",
        GIT_ALLOW_PROTOCOL=ALLOWED_PROTOCOLS,
        LC_ALL="C",
        LANDO_GIT_USER=source.user or "",
        LANDO_GIT_PASSWORD=source.password or "",
    )
    return environment


def _credential_options(source: Source) -> list[str]:
    """Pass the credentials for the address's host only: submodules on other hosts must not get them."""
    if source.user is None and source.password is None:
        return []
    parts = urlsplit(source.address)
    key = f"credential.{parts.scheme}://{parts.netloc}.helper"
    return ["-c", f"{key}=", "-c", f"{key}={CREDENTIAL_HELPER}"]
