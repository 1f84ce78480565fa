"""A fact that the daemon keeps up to date for ``status``: written only when its value has changed."""

from __future__ import annotations

from typing import Any

from lando.store.transaction import Transaction


class RecordedFact:
    """Remembers what was written last.

    Args:
        name: the stored name of the fact.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._written: Any = None
        self._is_written = False

    def write(self, transaction: Transaction, value: Any) -> None:
        """Record the value, if it is not the one that was written last."""
        if not self._is_written or value != self._written:
            transaction.set_fact(self._name, value)
            self._written, self._is_written = value, True

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._is_written = False
