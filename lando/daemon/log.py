"""What the daemon writes to its log about jobs, and about bugs."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from lando.engine.ledger import StateChange
from lando.store.database import StoreUnavailable
from lando.store.transaction import Transaction

log = logging.getLogger("lando")


def log_changes(changes: Sequence[StateChange]) -> None:
    """One line for each job that went to another state."""
    for change in changes:
        log.info(
            "job %s  %s → %s  %s",
            change.job_id[:8],
            change.source or "new",
            change.target,
            change.reason,
            extra={"fields": _fields(change)},
        )


def _fields(change: StateChange) -> dict[str, Any]:
    """As in ``history --json``, and of which job."""
    return {
        "job": change.job_id,
        "event": change.event,
        "from": change.source,
        "to": change.target,
        "reason": change.reason,
        "attempt": change.attempt,
    }


@contextlib.contextmanager
def guarded(transaction: Transaction, what: str) -> Iterator[None]:
    """A part of a transaction that is rolled back alone if it fails; the failure is a bug, and is logged.

    Args:
        transaction: the transaction of the iteration.
        what: the part, as the log names it.

    Raises:
        StoreUnavailable: the database cannot be used; the whole transaction fails.
    """
    try:
        with transaction.part():
            yield
    except StoreUnavailable:
        raise
    except Exception:
        log.exception("%s failed; this is a bug in lando-fsm", what)
