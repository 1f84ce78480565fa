"""Which PostgreSQL server a daemon has used: remembered in its state directory, outside of the database.

A promoted replica begins a new timeline. The old primary, when it returns, has an older one, and lacks all
that was written since: a URL that names both would find it. Another cluster has another system identifier.

Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT_SESSIONS = 8
"""Of this many last daemons the session's name is kept."""


@dataclass(frozen=True)
class Identity:
    """Which history of which cluster a server has; None where it does not tell."""

    system: str | None = None
    timeline: int | None = None


def file_in(state_dir: Path) -> Path:
    """The file of the state directory."""
    return state_dir / "database-server.json"


class SeenServer:
    """What is remembered. Nothing of it is needed to go on: a file that cannot be written is left.

    Args:
        path: the file.
        database: the database's address without account; another one begins anew.
    """

    def __init__(self, path: Path, database: str) -> None:
        self.path = path
        self._database = database
        found = _read(path)
        self._directory = _identity(path.parent)
        is_copied = found.get("directory") != self._directory
        self.sessions: tuple[str, ...] = () if is_copied else tuple(map(str, found.get("sessions", ())))
        """The names of the last daemons' sessions, of whatever database; not of another state directory, of
        which this one is a copy."""
        self.identity = Identity()
        """The newest that was seen."""
        system, timeline = found.get("system"), found.get("timeline")
        if found.get("database") == database and isinstance(system, str) and isinstance(timeline, int):
            self.identity = Identity(system, timeline)

    def add_session(self, name: str) -> None:
        """Remember a session before it begins."""
        self.sessions = (*self.sessions, name)[-KEPT_SESSIONS:]
        self._write()

    def is_other_cluster(self, found: Identity) -> bool:
        """Whether a server is of another cluster than the one seen."""
        return None not in (found.system, self.identity.system) and found.system != self.identity.system

    def is_older(self, found: Identity) -> bool:
        """Whether a server of the cluster has an older history than one seen."""
        seen = self.identity.timeline
        is_known = found.timeline is not None and seen is not None and not self.is_other_cluster(found)
        return is_known and (found.timeline or 0) < (seen or 0)

    def note(self, found: Identity) -> None:
        """A server is used. What it does not tell stays as it was."""
        seen = self.identity
        self.identity = Identity(found.system or seen.system, found.timeline or seen.timeline)
        if self.identity != seen:
            self._write()

    def _write(self) -> None:
        value = {
            "database": self._database,
            "system": self.identity.system,
            "timeline": self.identity.timeline,
            "directory": self._directory,
            "sessions": self.sessions,
        }
        part = self.path.with_name(f"{self.path.name}.part")
        with contextlib.suppress(OSError):
            with os.fdopen(os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
                json.dump(value, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)


def _identity(directory: Path) -> list[int] | None:
    """What a copy of a directory does not have."""
    try:
        found = directory.stat()
    except OSError:
        return None
    return [found.st_dev, found.st_ino]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
