"""Runs git commands for one clone: without questions, without the person's own repository, and with the job's
credentials in the environment, never on a command line (https://git-scm.com/docs/gitcredentials)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from lando.repository import ENVIRONMENT
from lando_worker import git_errors
from lando_worker.result import SystemFailure
from lando_worker.source import Source

ALLOWED_PROTOCOLS = "https:http:ssh:git:file"
# printf, since some shells' echo takes a backslash in a password for the beginning of an escape sequence.
PRINT_CREDENTIALS = r'printf "username=%s\npassword=%s\n" "$LANDO_GIT_USER" "$LANDO_GIT_PASSWORD"'
CREDENTIAL_HELPER = f'!f() {{ test "$1" = get && {PRINT_CREDENTIALS}; }}; f'
OPTIONS = (
    # A transfer that stalls is given up.
    *("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"),
    # Maintenance in the background would outlive the command.
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    *("-c", "advice.detachedHead=false", "-c", "init.defaultBranch=main"),
    # Hooks of the account, or of a template, are for a person's own repositories.
    *("-c", "core.hooksPath=/dev/null"),
    # Relative addresses of submodules start from the remote of this name.
    *("-c", "clone.defaultRemoteName=origin"),
    *("-c", "clone.rejectShallow=false"),
)
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=30"

ERRORS, OUTPUT = 64 * 1024, 64 * 1024 * 1024
"""Bytes of a command's error output and standard output that are read, from its end."""


class GitFailed(Exception):
    """A git command failed. The text is git's words."""

    @property
    def is_transient(self) -> bool:
        """Whether trying again can help: the network or the server is at fault, not the job."""
        return git_errors.is_transient(str(self))


class Git:
    """Runs git commands for the clone of one source.

    Args:
        source: its credentials are given to its own host only: submodules elsewhere do not get them.
        destination: the clone's directory, in one that exists.
    """

    def __init__(self, source: Source, destination: Path) -> None:
        self.source = source
        self.destination = destination
        self._options = [*OPTIONS, *_credential_options(source)]
        self._environment = _environment(source)
        if "GIT_SSH" not in os.environ and not self.setting("core.sshCommand", destination.parent):
            self._environment.setdefault("GIT_SSH_COMMAND", SSH)

    def setting(self, key: str, directory: Path, file: Path | None = None) -> str | None:
        """A setting of git as it holds in a directory, or in a file alone; None if it is not set."""
        where = () if file is None else ("--file", str(file))
        try:
            return self.run("config", *where, "--get", key, at=directory).strip()
        except GitFailed:
            return None

    def run(self, *arguments: str, at: Path | None = None) -> str:
        """Run a command, and return its standard output.

        Args:
            arguments: of git.
            at: the directory to run in; None for the clone.

        Raises:
            GitFailed: the command failed.
            SystemFailure: git is not installed.
        """
        # Files, not pipes: an ssh master that stays in the background would keep a pipe open.
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                status = subprocess.run(
                    ["git", *self._options, *arguments],
                    cwd=self.destination if at is None else at,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    check=False,
                ).returncode
            except FileNotFoundError:
                raise SystemFailure("git is not installed: install it in the worker image") from None
            printed = git_errors.without_credentials(_tail(errors, ERRORS).decode(errors="replace").strip())
            if printed:
                print(printed, file=sys.stderr, flush=True)
            if status != 0:
                said = git_errors.words(printed) or f"git {arguments[0]} exited with status {status}"
                raise GitFailed(said)
            # Paths may be of any bytes.
            return _tail(output, OUTPUT).decode(errors="surrogateescape")


def _tail(file: BinaryIO, most: int) -> bytes:
    file.seek(max(file.seek(0, os.SEEK_END) - most, 0))
    return file.read()


def _environment(source: Source) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in ENVIRONMENT}
    environment.update(
        # Nobody is there to answer a question.
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="",
        SSH_ASKPASS_REQUIRE="never",
        GCM_INTERACTIVE="never",
        GIT_ALLOW_PROTOCOL=ALLOWED_PROTOCOLS,
        # Large files are fetched after the checkout, all at once.
        GIT_LFS_SKIP_SMUDGE="1",
        LC_ALL="C",
        LANDO_GIT_USER=source.user or "",
        LANDO_GIT_PASSWORD=source.password or "",
    )
    return environment


def _credential_options(source: Source) -> list[str]:
    if not source.has_credentials:
        return []
    scheme, _, rest = source.address.partition("://")  # no urlsplit, which raises for what git refuses itself
    key = f"credential.{scheme}://{rest.partition('/')[0]}.helper"
    return ["-c", f"{key}=", "-c", f"{key}={CREDENTIAL_HELPER}"]
