"""Removal of a local VM's containers, which are known by the id files that the CWL runner writes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ID_DIRECTORY = "containers"
"""The directory of a VM's directory where the CWL runner writes the ids of its containers."""
ENGINES = ("docker", "podman")
_TIMEOUT_SECONDS = 60.0


class NotStopped(Exception):
    """Some containers may still be running."""


def remove(id_files: Path) -> None:
    """Remove every container that has an id file in a directory, running or not.

    Args:
        id_files: the directory; if it does not exist, there are no containers.

    Raises:
        NotStopped: no engine confirmed that they are gone.
    """
    ids = sorted({content[0] for path in id_files.glob("*") if (content := path.read_text().split())})
    if not ids:
        return
    engines = [engine for engine in ENGINES if shutil.which(engine)]
    failures = [failure for engine in engines if (failure := _remove_by(engine, ids))]
    # One engine that answers is enough: one that is installed but does not work has started no containers.
    if len(failures) == len(engines):
        reason = "; ".join(failures) or f"none of {', '.join(ENGINES)} is on PATH"
        raise NotStopped(f"containers {', '.join(ids)} may still be running: {reason}")


def _remove_by(engine: str, ids: Iterable[str]) -> str:
    """Remove the containers; why the engine could not, "" when they are gone."""
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
