"""Which job takes most of a full disk: its VM's directory, and the outputs that it left."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from lando import disk_usage
from lando.cloud.local import vm_directory

PATIENCE = 3.0
"""Seconds for which is counted at most."""


def words(root: Path) -> str:
    """What to say where the disk of the state directory is full.

    Args:
        root: the state directory.

    Returns:
        The directory, the job that takes most of its disk, and where; empty if the disk is not full.
    """
    if not disk_usage.is_full(root):
        return ""
    said = f"the disk of {root} is full"
    deadline = time.monotonic() + PATIENCE
    sizes: Counter[tuple[str, str]] = Counter()
    for path, job in _directories(root):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sizes[(job, str(path))] = disk_usage.used(path, left)
    jobs: Counter[str] = Counter()
    for (job, _), size in sizes.items():
        jobs[job] += size
    if not jobs:
        return said
    (job, size), *_ = jobs.most_common(1)
    where = max((path for owner, path in sizes if owner == job), key=lambda path: sizes[(job, path)])
    return f"{said}; the largest of its jobs is {job}: {disk_usage.shown(size)}, in {where}"


def _directories(root: Path) -> list[tuple[Path, str]]:
    """The directories of jobs, and whose they are."""
    found: list[tuple[Path, str]] = []
    with suppress(OSError):
        found += [(path, vm_directory.job_of(path) or path.name) for path in (root / "vms").iterdir()]
    with suppress(OSError):
        found += [(path, path.name) for path in (root / "jobs").iterdir()]
    return found
