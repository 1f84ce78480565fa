"""What keeps the embedded queue from being read or written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lando.errors import DatabaseOutage, DatabaseUnusable, UsageError
from lando.sqlite.failures import is_damage, is_outage, refusal, sentence
from lando.workqueue.interface import QueueUnavailable


class QueueOutage(QueueUnavailable, DatabaseOutage):
    """Another process holds the lock of the queue's file, or its disk is full or fails."""


class QueueUnusable(QueueUnavailable, DatabaseUnusable):
    """The queue's file is damaged."""


class QueueForbidden(QueueUnavailable, UsageError):
    """This account may not read or write the queue's file (exit code 2)."""


class QueueClosed(QueueUnavailable, UsageError):
    """The queue takes no more messages: see ``lando.workqueue.closed`` (exit code 2)."""


@contextlib.contextmanager
def as_queue_errors(database: Path) -> Iterator[None]:
    """Turn errors of SQLite into QueueUnavailable, with the file's name."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        kind = _kind(error, database)
        raise kind(f"{database}: {sentence(error, database)}") from error


def _kind(error: Exception, database: Path) -> type[QueueUnavailable]:
    if is_outage(error):
        return QueueOutage
    if is_damage(error):
        return QueueUnusable
    if isinstance(error, sqlite3.IntegrityError):  # of a trigger; the tables have no other constraint
        return QueueClosed
    return QueueUnavailable if refusal(error, database) is None else QueueForbidden
