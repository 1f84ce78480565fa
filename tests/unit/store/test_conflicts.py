"""A transaction that another one keeps from being committed is tried again, whole and at once."""

from __future__ import annotations

import pytest

from lando.store.conflicts import TRIES, tried_again
from lando.store.database import StoreConflict, StoreOutage
from lando.store.store import Store


def test_it_is_tried_again_until_it_succeeds() -> None:
    outcomes = iter([StoreConflict("a"), StoreConflict("b"), None])
    tried = []

    def transaction() -> str:
        tried.append(1)
        if (outcome := next(outcomes)) is not None:
            raise outcome
        return "done"

    assert tried_again(transaction) == "done"
    assert len(tried) == 3


def test_after_several_tries_it_is_an_outage() -> None:
    tried = []

    def transaction() -> None:
        tried.append(1)
        raise StoreConflict("the same rows")

    with pytest.raises(StoreOutage, match=f"the same rows; tried {TRIES} times") as raised:
        tried_again(transaction)
    assert not isinstance(raised.value, StoreConflict)
    assert len(tried) == TRIES


def test_two_transactions_that_write_the_same_fact_on_postgres(postgres_url: str) -> None:
    """The second one is refused by the server, and sees what the first has written when it is tried again."""
    store, other = Store(postgres_url), Store(postgres_url)
    with store.transaction() as transaction:
        transaction.set_fact("count", 1)
    interfered = []

    def count() -> int:
        with store.transaction() as transaction:
            before = int(transaction.fact("count"))
            if not interfered:
                interfered.append(1)
                with other.transaction() as theirs:
                    theirs.set_fact("count", 10)
            transaction.set_fact("count", before + 1)
        return before + 1

    try:
        assert tried_again(count) == 11
    finally:
        store.close()
        other.close()
