"""Whether the database is a new one where another one was, which somebody removed or replaced."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lando.config.site_config import Config


def remains(config: Config) -> str | None:
    """What is left of an earlier database, if this one is missing or new: its copy, or VMs of its jobs.

    Args:
        config: names the database and the state directory.

    Returns:
        Text for a sentence; None if there is nothing, or nothing can be seen.
    """
    database = config.database_path
    if database is None:
        return None
    saved = [path for path in _in(database.parent) if path.name.startswith(f"{database.name}.saved-")]
    saved = [path for path in saved if path.suffix != ".part"]
    vms = _in(config.state_dir / "vms") if config.cloud == "local" else []
    found = []
    if saved:
        found.append(f"{saved[-1]} has what a daemon saved of an earlier one")
    if vms:
        found.append(f"{config.state_dir / 'vms'} has {len(vms)} VM{'s' * (len(vms) != 1)}")
    return " and ".join(found) or None


def warning(config: Config, left: str) -> str:
    """What to say where the database is missing, or no daemon has used it yet.

    Args:
        config: names the database.
        left: of ``remains``.
    """
    path = config.database_path
    is_there = path is not None and path.exists()
    state = "is new: no daemon has used it yet" if is_there else "does not exist"
    return (
        f"{path}: {state}, but {left}. If a database was removed or replaced, put the right one back before "
        'a daemon starts: docs/operations.md, "A database that was replaced"'
    )


def _in(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(directory.iterdir())
    return []
