"""The keys that Keystone makes its tokens with."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from tests.openstack.lab.backing import forget_cache
from tests.openstack.lab.place import ETC

KEYS = {"fernet": ETC / "keystone" / "fernet", "credential": ETC / "keystone" / "credential"}
"""A key is a file there: 0 is the next one, the highest number the one in use."""


def new_keys(directory: Path) -> None:
    """Replace the keys, or make the first ones; there is no moment without keys."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in ("1", "0"):
        new = directory.parent / f"{directory.name}-{number}.new"
        new.touch(0o600)
        new.write_bytes(base64.urlsafe_b64encode(os.urandom(32)))
        new.rename(directory / number)


def revoke_all() -> None:
    """Make every token void that there is, the services' too, at once.

    What Keystone revokes it revokes to the second, which would also hit tokens that are asked for just after;
    and those who validated a token remember it for minutes.
    """
    new_keys(KEYS["fernet"])
    forget_cache()
