"""The files of jobs that have ended, in their directories below ``jobs``, when they are removed."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from lando import state_dir
from lando.cloud.local import vm_directory

_ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def job_ids(root: Path) -> list[str]:
    """The jobs that have a directory.

    Args:
        root: the state directory.

    Raises:
        OSError: it cannot be read.
    """
    with suppress(FileNotFoundError), os.scandir(state_dir.jobs(root)) as entries:
        return sorted(entry.name for entry in entries if _ID.fullmatch(entry.name))
    return []


def remove(root: Path, ids: list[str]) -> dict[str, str]:
    """Remove the directories of these jobs, as much of them as possible.

    Returns:
        Those that could not be moved away, with the reason. What could not be removed afterwards is logged,
        and in ``limbo``, where the next daemon tries again.
    """
    failed: dict[str, str] = {}
    moved: list[Path] = []
    for job_id in ids:  # all of them first: a job that is retried meanwhile makes a new one
        try:
            moved += _moved(root, state_dir.jobs(root) / job_id)
        except OSError as error:
            failed[job_id] = f"{error.strerror or error} ({error.filename})"
    for directory in moved:
        vm_directory.remove(directory)
    return failed


def remove_empty(root: Path, ids: list[str]) -> None:
    """Remove those of these jobs' directories that have no files."""
    for job_id in ids:
        outputs = state_dir.outputs(root, job_id)
        for directory in (outputs, outputs.parent):
            with suppress(OSError):
                directory.rmdir()


def _moved(root: Path, directory: Path) -> list[Path]:
    if not os.path.lexists(directory):
        return []
    limbo = root / "limbo"
    limbo.mkdir(mode=0o700, exist_ok=True)
    old = limbo / f"old-{directory.name}-{os.urandom(4).hex()}"
    try:
        directory.rename(old)
    except PermissionError:  # a directory that its owner may not write cannot be moved
        vm_directory.let_owner_use(directory)
        directory.rename(old)
    return [old]
