"""The account that workflows run as on a VM."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from lando_worker.result import SystemTrouble


@dataclass(frozen=True)
class Account:
    """An account of this machine to become."""

    name: str
    uid: int
    gid: int
    home: str

    def enter(self) -> None:
        """Become this account, for good. Needs root."""
        os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.environ.update(HOME=self.home, USER=self.name, LOGNAME=self.name)


def to_become(name: str | None) -> Account | None:
    """The account to change to, None to stay who we are.

    Raises:
        SystemTrouble: there is no such account, or it takes root to change.
    """
    if name is None:
        return None
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SystemTrouble(
            f"the account {name!r} does not exist in this VM: make it in the image, or name another in"
            " worker.user of landoconfig.yml (root is allowed)"
        ) from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise SystemTrouble(
            f"the worker would need to be root to become {name!r} (worker.user of landoconfig.yml),"
            f" and runs as uid {os.geteuid()}"
        )
    return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
