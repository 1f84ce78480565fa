"""The steps of a copy. After each of them the process may end: a next copy goes on.

1. The original gets a random id, and the copy says that it is an incomplete copy of the original of this id.
2. Each table is copied in the order of its key, some thousand rows a transaction. What an interrupted copy
   has left is read again, and compared with as many rows of the original: if they differ, somebody has used
   the original meanwhile, and the copy begins anew.
3. All of the copy is read again: numbers of rows and checksums are those of the original.
4. The original says that it was copied: no daemon uses it any more.
5. The copy says that it is complete: a daemon may use it.

Both say so of themselves, see ``lando.store.copying.mark``; at no time may a daemon use both.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lando.errors import LandoError, UsageError
from lando.failpoints import reach
from lando.store.copying.mark import CopyMark
from lando.store.copying.original import Original
from lando.store.copying.rows import Change, Checksum, CopiedTable, Row
from lando.store.copying.target import Target
from lando.store.schema import VERSION_TABLES
from lando.store.tables import METADATA

BATCH_ROWS = 5_000
BATCH_CHARACTERS = 8 * 1024 * 1024
"""Of a transaction."""


class OriginalChanged(LandoError):
    """Somebody has written to the original while it was copied."""


@dataclass(frozen=True)
class TableCopy:
    """What was copied of a table."""

    name: str
    rows: int
    checksum: str
    left_out: int
    """Rows of jobs that are not there."""


@dataclass(frozen=True)
class Copied:
    """What came of it."""

    tables: tuple[TableCopy, ...]
    changes: tuple[Change, ...]
    """Values that were replaced."""
    was_complete: bool
    """It was complete before; nothing was done."""
    resumed: int
    """Rows that an interrupted copy had left, and that were as in the original."""
    restarted: bool
    """The copy began anew, since the original had changed."""


Progress = Callable[[str, str, int, int], None]
"""Is told what is done to which table, the rows so far, and all rows of the table."""


def copy_database(
    path: Path,
    original: Original,
    target: Target,
    progress: Progress,
    close_queue: Callable[[], None],
) -> Copied:
    """Copy, or go on with a copy that was interrupted. No daemon may use either meanwhile: the caller holds
    the locks.

    Args:
        path: the original's file.
        original: opened.
        target: connected.
        progress: is told how far it is.
        close_queue: called in the last transaction of the original.

    Raises:
        UsageError: the target holds something else, or the original was copied elsewhere.
        OriginalChanged: somebody has written to the original meanwhile.
        LandoError: the databases cannot be read or written, or a row cannot be stored.
    """
    there = target.mark()
    mine = original.mark()
    is_same = mine is not None and there is not None and there.role == "copy" and there.id == mine.id
    if is_same and there is not None and there.is_complete:
        return Copied((), (), was_complete=True, resumed=0, restarted=False)
    if not is_same:
        refuse_second(mine, path)
        target.refuse_contents() if there is None else refuse_other(there, target)
    if mine is None:
        mine = CopyMark(uuid.uuid4().hex, "original", False, target.shown, time.time())
        original.set_mark(mine)
    mark = CopyMark(mine.id, "copy", False, str(path), time.time())
    target.prepare(mark)
    reach("copy-begun")
    original.begin()
    tables = [CopiedTable(each) for each in METADATA.sorted_tables if each.name not in VERSION_TABLES]
    found = _copy_tables(original, target, tables, is_same, progress)
    restarted = found is None
    if found is None:
        target.clear(tables, mark)
        for table in tables:
            table.changes.clear()
        found = _copy_tables(original, target, tables, False, progress)
        assert found is not None
    copied, resumed = found
    _verify(original, target, tables, copied, progress)
    target.set_numbers({table.name: original.last_number(table) for table in tables})
    target.analyze()
    left_out = {table.name: original.count(table) - copied[table.name].rows for table in tables}
    reach("copy-verified")
    _finish(original, target, mine, mark, close_queue)
    return Copied(
        tuple(TableCopy(name, sum_.rows, sum_.text, left_out[name]) for name, sum_ in copied.items()),
        tuple(change for table in tables for change in table.changes),
        was_complete=False,
        resumed=resumed,
        restarted=restarted,
    )


def refuse_second(mine: CopyMark | None, path: Path) -> None:
    """Refuse to make a second copy.

    Raises:
        UsageError: there is a first one.
    """
    if mine is not None and mine.role == "original" and mine.is_complete:
        words = mine.refusal(str(path)) or ""
        raise UsageError(f"{words}. For another copy: lando-fsm database reopen")


def refuse_other(there: CopyMark, target: Target) -> None:
    """Refuse a target that is the copy of another database.

    Raises:
        UsageError: always.
    """
    state = "a copy" if there.is_complete else "an incomplete copy"
    raise UsageError(f"{target.shown}: is {state} of another database ({there.other}); name a new database")


def _copy_tables(
    original: Original, target: Target, tables: list[CopiedTable], is_resumed: bool, progress: Progress
) -> tuple[dict[str, Checksum], int] | None:
    """The checksum of each table, and how many rows were there already; None if these are others now."""
    copied, resumed = {}, 0
    for table in tables:
        there = target.checksum(table) if is_resumed else Checksum()
        found = _copy_table(original, target, table, there, progress)
        if found is None:
            return None
        copied[table.name] = found
        resumed += there.rows
    return copied, resumed


def _copy_table(
    original: Original, target: Target, table: CopiedTable, there: Checksum, progress: Progress
) -> Checksum | None:
    total, checksum = original.count(table), Checksum()
    batch: list[Row] = []
    size = 0
    for raw in original.rows(table, first=there.rows):
        if checksum.rows == there.rows and checksum.state != there.state:
            return None
        rows, encoded = table.stored(raw)
        checksum.add(rows, encoded)
        if checksum.rows > there.rows:
            batch += rows
            size += len(encoded)
        if len(batch) >= BATCH_ROWS or size >= BATCH_CHARACTERS:
            _append(target, table, batch)
            progress("copying", table.name, checksum.rows, total)
            batch, size = [], 0
    if checksum.rows <= there.rows and checksum.state != there.state:
        return None
    if batch:
        _append(target, table, batch)
    progress("copying", table.name, checksum.rows, total)
    return checksum


def _append(target: Target, table: CopiedTable, batch: list[Row]) -> None:
    target.append(table, batch)
    reach("copy-batch")


def _verify(
    original: Original,
    target: Target,
    tables: list[CopiedTable],
    copied: dict[str, Checksum],
    progress: Progress,
) -> None:
    for table in tables:
        found, wanted = target.checksum(table), copied[table.name]
        if found.state != wanted.state:
            raise LandoError(
                f"{target.shown}: table {table.name} has {found.rows} rows with checksum {found.text}, the "
                f"original {wanted.rows} with {wanted.text}; the copy stays incomplete, and the original in "
                "use. Does anything else write to the copy? Copy again"
            )
        progress("comparing", table.name, found.rows, wanted.rows)


def _finish(
    original: Original, target: Target, mine: CopyMark, mark: CopyMark, close_queue: Callable[[], None]
) -> None:
    if not original.lock():
        raise OriginalChanged(
            f"{mark.other}: was written to while it was copied, by a command of lando-fsm, say; nothing is "
            "lost: run this again, and it goes on"
        )
    close_queue()
    now = time.time()
    original.set_mark(replace(mine, is_complete=True, other=target.shown, at=now))
    original.commit()
    reach("copy-left")
    target.complete(replace(mark, is_complete=True, at=now))
    reach("copy-complete")
