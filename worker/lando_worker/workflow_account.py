"""The account that workflows run as on a VM."""

from __future__ import annotations

import ctypes
import os
import pwd
from dataclasses import dataclass

from lando_worker.result import SystemFailure

PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class WorkflowAccount:
    """An account of this machine that the child changes to."""

    name: str
    uid: int
    gid: int
    home: str

    def become(self) -> None:
        """Change to this account, for the rest of the process. Needs root."""
        os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)
        # Its memory is a copy of the worker's; the kernel says so itself, unless fs.suid_dumpable is 1.
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)


def find_account(name: str | None) -> WorkflowAccount | None:
    """The account to change to; None if ``name`` is None or the current account.

    Raises:
        SystemFailure: the account does not exist, or changing to it needs root.
    """
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SystemFailure(
            f"the account {name!r} does not exist in this VM: create it in the image, or set worker.user in"
            " landoconfig.yml to another account (root is allowed)"
        ) from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise SystemFailure(
            f"the worker must run as root to change to the account {name!r} (worker.user in landoconfig.yml),"
            f" but it runs as uid {os.geteuid()}"
        )
    return WorkflowAccount(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
