"""Removal of a local VM's containers, which are known by the id files that the CWL runner writes."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lando.beneath import OPEN_DIRECTORY, read_file

ID_DIRECTORY = "containers"
"""The directory of a VM's directory where the CWL runner writes the ids of its containers."""
ENGINES = ("docker", "podman")
BATCH = 500
"""Containers that one call of an engine removes: a command line has a limit."""
SHOWN = 5
"""Ids that an error names."""
_TIMEOUT_SECONDS = 60.0
_ID = re.compile("[0-9a-f]{64}")
"""As engines write it. A name, the beginning of an id, or an option could mean somebody else's containers."""
_ID_FILE_BYTES = 100


class NotStopped(Exception):
    """Some containers may still be running."""


def remove(id_files: Path) -> None:
    """Remove every container that has an id file in a directory, running or not.

    The workflow can write there, too: whatever is no file with an id is ignored.

    Args:
        id_files: the directory; if it does not exist, there are no containers.

    Raises:
        NotStopped: the directory cannot be read, or no engine confirmed that they are gone.
    """
    try:
        ids = _read_ids(id_files)
    except OSError as error:
        raise NotStopped(f"containers may still be running: {id_files}: {error.strerror}") from error
    if not ids:
        return
    engines = [engine for engine in ENGINES if shutil.which(engine)]
    failures = [failure for engine in engines if (failure := _remove_by(engine, ids))]
    # One engine that answers is enough: one that is installed but does not work has started no containers.
    if len(failures) == len(engines):
        reason = "; ".join(failures) or f"none of {', '.join(ENGINES)} is on PATH"
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        raise NotStopped(f"containers {', '.join(ids[:SHOWN])}{more} may still be running: {reason}")


def _read_ids(id_files: Path) -> list[str]:
    try:
        directory = _open(id_files)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return []  # the runner has not made, or the workflow has replaced it
        raise
    try:
        with os.scandir(directory) as entries:
            return sorted({id_ for entry in entries if (id_ := _id_in(entry.name, directory))})
    finally:
        os.close(directory)


def _open(id_files: Path) -> int:
    try:
        return os.open(id_files, OPEN_DIRECTORY)
    except PermissionError:
        # The workflow may have forbidden it. The directory is not a symbolic link, or this would be ELOOP.
        id_files.chmod(0o700)
        return os.open(id_files, OPEN_DIRECTORY)


def _id_in(name: str, directory: int) -> str | None:
    try:
        content = read_file(name, _ID_FILE_BYTES, directory)
    except OSError:
        return None
    text = content.decode("ascii", errors="replace").strip()
    return text if _ID.fullmatch(text) else None


def _remove_by(engine: str, ids: Sequence[str]) -> str:
    """Remove the containers; why the engine could not, "" when they are gone."""
    for start in range(0, len(ids), BATCH):
        failure = _remove_batch(engine, ids[start : start + BATCH])
        if failure:
            return failure
    return ""


def _remove_batch(engine: str, ids: Sequence[str]) -> str:
    command = [engine, "rm", "--force", *ids]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{engine}: {error}"
    errors = [line for line in done.stderr.splitlines() if "no such container" not in line.lower()]
    if done.returncode == 0 or (done.stderr and not errors):
        return ""
    return f"{engine} rm: {' '.join(errors) or f'exit code {done.returncode}'}"
