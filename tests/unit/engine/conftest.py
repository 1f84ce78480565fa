from __future__ import annotations

import contextlib

import pytest

from tests.model.ledger import MemoryLedger
from tests.support.engine_rules import Open, Rules


@pytest.fixture(params=["memory", "sqlite"])
def ledgers(request: pytest.FixtureRequest) -> Open:
    """Opens a transaction over each of the two ledgers, which must behave alike."""
    if request.param == "sqlite":
        transaction: Open = request.getfixturevalue("store").transaction
        return transaction
    memory = MemoryLedger()
    return lambda: contextlib.nullcontext(memory)


@pytest.fixture
def rules(ledgers: Open) -> Rules:
    return Rules(ledgers)
