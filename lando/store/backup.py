"""A backup of the database: a consistent copy, made while the daemon runs, checked before it counts.

SQLite: ``VACUUM INTO``, one read transaction, with what the write-ahead log holds. The embedded queue is in
the same file, so its messages are, too. PostgreSQL: ``pg_dump`` in its custom format.

Source: https://www.sqlite.org/lang_vacuum.html#vacuuminto and https://www.postgresql.org/docs/current/app-pgdump.html.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from lando.errors import LandoError, UsageError
from lando.sqlite.failures import damage
from lando.sqlite.quick_check import quick_check
from lando.store.backup_files import made_whole, new_name, remove_old
from lando.store.database import errors, parsed, sqlite_path

LONGEST_CHECK = 3600.0
"""Seconds; a copy that takes longer to check counts as whole."""
WORDS = 2000
"""Characters of what ``pg_dump`` says that are shown, from their end."""


@dataclass(frozen=True)
class Backup:
    """What was made."""

    path: Path
    size: int
    """Bytes."""
    removed: tuple[Path, ...] = ()
    """Older ones that are not kept any more."""


def make(url: str, target: Path, keep: int | None = None) -> Backup:
    """Make a backup.

    Args:
        url: of the database.
        target: a directory, in which the backup gets a name with the time; or a file that does not exist.
        keep: how many backups of this database stay in the directory; None: all.

    Raises:
        UsageError: there is no such database, or the target cannot be used.
        LandoError: it cannot be made; nothing is left of it, and what was there before is untouched.
    """
    address = parsed(url)
    database = sqlite_path(address)
    stem, suffix = (database.stem, ".db") if database is not None else (address.database or "lando", ".dump")
    is_directory = target.is_dir()
    if keep is not None and not is_directory:
        raise UsageError(f"{target}: is not a directory; --keep needs one")
    path = new_name(target, stem, suffix) if is_directory else target
    try:
        with made_whole(path) as part:
            if database is not None:
                _copy_sqlite(database, part)
            else:
                _dump_postgresql(address, part)
        removed = remove_old(target, stem, suffix, keep) if keep is not None else []
        return Backup(path, path.stat().st_size, tuple(removed))
    except OSError as error:
        raise LandoError(f"{error.filename or path}: {error.strerror or error}") from error


def _copy_sqlite(database: Path, part: Path) -> None:
    if not os.path.exists(database):
        raise UsageError(f"{database}: there is no database yet, and nothing to back up")
    with errors(database), contextlib.closing(_opened(database)) as source:
        source.execute("VACUUM INTO ?", (str(part),))
    with errors(part):
        found, _ = quick_check(part, LONGEST_CHECK)
    if found is not None:
        raise LandoError(f"{database}: {damage(found)}; no backup was made of it, keep the older ones")


def _opened(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=60.0)


def _dump_postgresql(address: sa.URL, part: Path) -> None:
    pg_dump = shutil.which("pg_dump")
    if pg_dump is None:
        raise UsageError("pg_dump is not installed (apt-get install postgresql-client)")
    with errors():
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - only where the database is PostgreSQL

        _, settings = address.get_dialect()().create_connect_args(address)
    password = settings.pop("password", None)
    secret = {} if password is None else {"PGPASSWORD": str(password)}  # other accounts see arguments
    command = [
        pg_dump,
        "--format=custom",
        "--no-password",
        "--lock-wait-timeout=60s",
        f"--file={part}",
        f"--dbname={make_conninfo(**settings)}",
    ]
    _run(command, secret)
    # A dump whose table of contents cannot be read restores nothing.
    pg_restore = shutil.which("pg_restore") or str(Path(pg_dump).with_name("pg_restore"))
    _run([pg_restore, "--list", str(part)], {})


def _run(command: list[str], secret: dict[str, str]) -> None:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, env={**os.environ, **secret}, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise LandoError(f"{name}: {error.strerror}") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-WORDS:]
        raise LandoError(f"{name} failed ({done.returncode}), and no backup was made: {words}")
