"""Stopping the containers of a local VM, known by the id files that the CWL runner leaves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

ENGINES = ("docker", "podman")
_TIMEOUT_SECONDS = 60.0


class NotStopped(Exception):
    """Containers that may still be running, and why."""


def remove(id_files: Path) -> None:
    """Force the removal of every container that has an id file in a directory.

    Args:
        id_files: the directory; one that does not exist holds no containers.

    Raises:
        NotStopped: no engine could say that they are gone.
    """
    ids = sorted({words[0] for path in id_files.glob("*") if (words := path.read_text().split())})
    if not ids:
        return
    engines = [engine for engine in ENGINES if shutil.which(engine)]
    complaints = [text for engine in engines if (text := _complaint(engine, ids))]
    # An engine that does not answer has none of them if another one has; if none answers, nobody knows.
    if len(complaints) == len(engines):
        why = "; ".join(complaints) or f"none of {', '.join(ENGINES)} is on PATH"
        raise NotStopped(f"containers {', '.join(ids)} may still be running: {why}")


def _complaint(engine: str, ids: Iterable[str]) -> str:
    """Remove the containers; what the engine had to say against it, "" when they are gone."""
    command = [engine, "rm", "--force", *ids]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{engine}: {error}"
    complaints = [line for line in done.stderr.splitlines() if "no such container" not in line.lower()]
    if done.returncode == 0 or (done.stderr and not complaints):
        return ""
    return f"{engine} rm: {' '.join(complaints) or f'exit code {done.returncode}'}"
