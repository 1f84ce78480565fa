"""Since when a daemon cannot use its database, and why: a file beside the daemon's lock, for ``status``.

What is in the database says nothing of that while it lasts.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from lando.beneath import read_file

_BYTES = 10_000


@dataclass(frozen=True)
class OutageRecord:
    """What the daemon says."""

    pid: int
    since: float
    """Epoch seconds."""
    reason: str


def write(state_dir: Path, record: OutageRecord | None) -> None:
    """Record an outage, or its end (None). A state directory that cannot be written is left as it is.

    Args:
        state_dir: where the daemon's lock is.
        record: what to tell.
    """
    path = _file_in(state_dir)
    part = path.with_name(f"{path.name}.part")
    with contextlib.suppress(OSError):
        if record is None:
            path.unlink(missing_ok=True)
            return
        with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
            json.dump(asdict(record), file)
        part.replace(path)


def read(state_dir: Path, pid: int | None) -> OutageRecord | None:
    """The outage of the daemon that runs; None if it has not recorded any.

    Args:
        state_dir: where the daemon's lock is.
        pid: the daemon's; None if none runs.
    """
    try:
        record = OutageRecord(**json.loads(read_file(_file_in(state_dir), _BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    is_valid = isinstance(record.since, (int, float)) and isinstance(record.reason, str)
    return record if is_valid and pid is not None and record.pid == pid else None


def _file_in(state_dir: Path) -> Path:
    return state_dir / "database-outage.json"
