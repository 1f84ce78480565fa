"""Whether a disk is full, and how much of it a directory takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

LITTLE = 1024 * 1024
"""Bytes: a disk with less room is full."""
PATIENCE = 2.0
"""Seconds for which is counted at most: what was counted until then is a lower bound."""


def is_full(path: Path) -> bool:
    """Whether the disk has no room to speak of for this account. False if it cannot be asked."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < LITTLE or (found.f_files > 0 and found.f_favail == 0)


def used(path: Path, patience: float = PATIENCE) -> int:
    """Bytes of the disk that a directory takes, with all that is in it.

    Args:
        path: the directory.
        patience: seconds to count.
    """
    deadline = time.monotonic() + patience
    total = 0
    for size in _sizes(os.fspath(path)):
        total += size
        if time.monotonic() > deadline:
            break
    return total


def _sizes(root: str) -> Iterator[int]:
    directories = [root]
    while directories:
        try:
            with os.scandir(directories.pop()) as entries:
                for entry in entries:
                    try:
                        yield entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            directories.append(entry.path)
                    except OSError:
                        continue
        except OSError:
            continue


def shown(size: int) -> str:
    """A number of bytes for people: ``3.2 GB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size // 1000} kB"
