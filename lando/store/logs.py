"""The logs of workflows: which pieces are stored, and how much of a log is kept.

A worker decides what it sends, so everything here is bounded: rows, characters and sequence numbers. Running
counts (table ``log_totals``) make a new piece cost the same, however long the log is.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.states.records import replace
from lando.store.tables import LOG_TOTALS, LOGS

MAX_LOG = 1024 * 1024
"""Characters of workflow log kept for a job: the newest."""
MAX_ROWS = 2048
"""Rows of a job's log; beyond that the oldest are merged, since a slow workflow's pieces are small."""
ROW = 16 * 1024
"""Characters of a row, if it has several reports: what is dropped is dropped row by row."""
MARK = "[lando: {:,} characters of log left out here]\n"
"""The first line of a log of which the oldest part was dropped."""
MAX_RANGES = 64
"""Ranges of sequence numbers; beyond that the oldest gaps are closed: what is in them counts as stored."""

Ranges = tuple[tuple[int, int], ...]
"""First and last numbers, in order, with gaps between them."""


def contains(ranges: Ranges, seq: int) -> bool:
    """Whether the number is in one of the ranges."""
    place = bisect_right(ranges, seq, key=lambda each: each[0])
    return place > 0 and seq <= ranges[place - 1][1]


def with_added(ranges: Ranges, seqs: Iterable[int]) -> Ranges:
    """The ranges with these numbers in them, too."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((*ranges, *((seq, seq) for seq in seqs))):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    excess = len(merged) - MAX_RANGES
    if excess > 0:
        merged[: excess + 1] = [(merged[0][0], merged[excess][1])]
    return tuple(merged)


@dataclass(frozen=True)
class LogTotals:
    """A row of ``log_totals``: the counts of all that is stored of a job's log, and the sequence numbers of
    its last attempt."""

    rows: int = 0
    characters: int = 0
    attempt: int = 0
    seqs: Ranges = ()


# Built once: building a statement costs more than executing it.
_TOTALS = sa.select(LOG_TOTALS).where(LOG_TOTALS.c.job_id == sa.bindparam("job"))
_INSERT_TOTALS = sa.insert(LOG_TOTALS)
_UPDATE_TOTALS = (
    sa.update(LOG_TOTALS)
    .where(LOG_TOTALS.c.job_id == sa.bindparam("job"))
    .values({name: sa.bindparam(name) for name in ("rows", "characters", "attempt", "seqs")})
)
_INSERT = sa.insert(LOGS)
_MARK = re.compile(re.escape(MARK).replace(re.escape("{:,}"), "([0-9,]{1,20})"))
_OLDEST = (
    sa.select(
        LOGS.c.attempt,
        LOGS.c.seq,
        sa.func.length(LOGS.c.text).label("length"),
        sa.func.substr(LOGS.c.text, 1, 100).label("start"),
    )
    .where(LOGS.c.job_id == sa.bindparam("job"))
    .order_by(LOGS.c.attempt, LOGS.c.seq)
)
_OLDEST_TEXTS = (
    sa.select(LOGS.c.attempt, LOGS.c.seq, LOGS.c.text)
    .where(LOGS.c.job_id == sa.bindparam("job"))
    .order_by(LOGS.c.attempt, LOGS.c.seq)
    .limit(sa.bindparam("count"))
)
_DELETE_UP_TO = sa.delete(LOGS).where(
    LOGS.c.job_id == sa.bindparam("job"),
    sa.or_(
        LOGS.c.attempt < sa.bindparam("last_attempt"),
        sa.and_(LOGS.c.attempt == sa.bindparam("last_attempt"), LOGS.c.seq <= sa.bindparam("last_seq")),
    ),
)


class PendingLogs:
    """Pieces of log that a transaction writes later, together: one read and one write of totals a job."""

    def __init__(self) -> None:
        self._totals: dict[str, LogTotals] = {}
        self._is_new: set[str] = set()
        self._changed: set[str] = set()
        self._pieces: list[dict[str, Any]] = []

    def unseen(self, connection: Connection, job_id: str, attempt: int, seqs: Iterable[int]) -> list[int]:
        """See ``Ledger.unseen_log``."""
        stored = self._of_attempt(connection, job_id, attempt).seqs
        return [seq for seq in seqs if not contains(stored, seq)]

    def append(
        self, connection: Connection, job_id: str, attempt: int, seqs: Sequence[int], text: str
    ) -> None:
        """See ``Ledger.append_log``."""
        totals = self._of_attempt(connection, job_id, attempt)
        totals = replace(totals, seqs=with_added(totals.seqs, seqs))
        if len(text) > MAX_LOG:
            mark = ""
            for _ in range(3):  # the mark takes the place of some more
                mark = MARK.format(len(text) - MAX_LOG + len(mark))
            text = mark + text[len(mark) - MAX_LOG :]
        size = max(ROW, -(-len(text) // len(seqs)))
        for start, seq in zip(range(0, len(text), size), seqs, strict=False):
            piece = text[start : start + size]
            self._pieces.append({"job_id": job_id, "attempt": attempt, "seq": seq, "text": piece})
            totals = replace(totals, rows=totals.rows + 1, characters=totals.characters + len(piece))
        self._totals[job_id] = totals
        self._changed.add(job_id)

    def _of_attempt(self, connection: Connection, job_id: str, attempt: int) -> LogTotals:
        totals = self._totals.get(job_id)
        if totals is None:
            row = connection.execute(_TOTALS, {"job": job_id}).first()
            if row is None:
                self._is_new.add(job_id)
                totals = LogTotals()
            else:
                seqs = tuple((first, last) for first, last in json.loads(row.seqs))
                totals = LogTotals(row.rows, row.characters, row.attempt, seqs)
            self._totals[job_id] = totals
        return totals if totals.attempt == attempt else replace(totals, attempt=attempt, seqs=())

    def write(self, connection: Connection) -> None:
        """Write the pieces, drop the oldest ones beyond the bounds, and write the totals."""
        if self._pieces:
            connection.execute(_INSERT, self._pieces)
        new, old = [], []
        for job_id in sorted(self._changed):
            totals = _bounded(connection, job_id, self._totals[job_id])
            counts = {**totals.__dict__, "seqs": json.dumps(totals.seqs)}
            if job_id in self._is_new:
                new.append({"job_id": job_id, **counts})
            else:
                old.append({"job": job_id, **counts})
        if new:
            connection.execute(_INSERT_TOTALS, new)
        if old:
            connection.execute(_UPDATE_TOTALS, old)


def _bounded(connection: Connection, job_id: str, totals: LogTotals) -> LogTotals:
    if totals.rows > MAX_ROWS:
        totals = _merge_oldest(connection, job_id, totals)
    if totals.rows > MAX_ROWS or totals.characters > MAX_LOG:  # more rows still: as many attempts
        totals = _drop_oldest(connection, job_id, totals)
    return totals


def _merge_oldest(connection: Connection, job_id: str, totals: LogTotals) -> LogTotals:
    """Half of the rows, so that it is not done for each new one. A merged row has the last number of its
    rows: whoever follows the log and has read a part of them sees that part again rather than no more."""
    surplus = totals.rows - MAX_ROWS // 2
    rows = connection.execute(_OLDEST_TEXTS, {"job": job_id, "count": surplus}).all()
    merged: list[dict[str, Any]] = []
    for attempt, seq, text in rows:
        last = merged[-1] if merged else None
        if last and last["attempt"] == attempt and len(last["text"]) + len(text) <= ROW:
            last.update(seq=seq, text=last["text"] + text)
        else:
            merged.append({"job_id": job_id, "attempt": attempt, "seq": seq, "text": text})
    _delete_up_to(connection, job_id, rows[-1].attempt, rows[-1].seq)
    connection.execute(_INSERT, merged)
    return replace(totals, rows=totals.rows - len(rows) + len(merged))


def _drop_oldest(connection: Connection, job_id: str, totals: LogTotals) -> LogTotals:
    """The row that says how much was dropped takes the place of the last one: whoever follows the log and has
    read that far does not see it."""
    rows, characters, last, dropped, mark = totals.rows, totals.characters, (0, 0), 0, ""
    oldest = connection.execute(_OLDEST, {"job": job_id})
    for row in oldest:
        if rows < MAX_ROWS and characters + len(mark) <= MAX_LOG:
            break
        rows, characters, last = rows - 1, characters - row.length, (row.attempt, row.seq)
        dropped += row.length
        if earlier := _MARK.match(row.start):
            dropped += int(earlier[1].replace(",", "")) - len(earlier[0])
        mark = MARK.format(dropped)
    oldest.close()
    _delete_up_to(connection, job_id, *last)
    attempt, seq = last
    connection.execute(_INSERT, [{"job_id": job_id, "attempt": attempt, "seq": seq, "text": mark}])
    return replace(totals, rows=rows + 1, characters=characters + len(mark))


def _delete_up_to(connection: Connection, job_id: str, attempt: int, seq: int) -> None:
    connection.execute(_DELETE_UP_TO, {"job": job_id, "last_attempt": attempt, "last_seq": seq})
