"""Transactions that other transactions have kept from being committed: tried again, whole and at once.

Source: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lando.store.database import StoreConflict, StoreOutage

T = TypeVar("T")

TRIES = 5
"""After as many in a row, a conflict counts as an outage."""


def tried_again(transaction: Callable[[], T]) -> T:
    """The result of a transaction.

    Args:
        transaction: begins one, does all that belongs to it, and commits it; leaves nothing when it fails.

    Raises:
        StoreOutage: it failed so for the TRIES-th time.
    """
    tries = 0
    while True:
        try:
            return transaction()
        except StoreConflict as error:
            tries += 1
            if tries == TRIES:
                raise StoreOutage(f"{error}; tried {TRIES} times") from error
