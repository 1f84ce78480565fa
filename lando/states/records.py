"""``dataclasses.replace`` for plain records, ten times as fast: one transition copies a job several times."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import replace
else:

    def replace(record, /, **changes):
        """A copy with these fields changed; for dataclasses without slots, InitVar and __post_init__."""
        if not changes.keys() <= record.__dict__.keys():
            raise TypeError(
                f"{type(record).__name__} has no field {min(changes.keys() - record.__dict__.keys())}"
            )
        copy = object.__new__(type(record))
        copy.__dict__.update(record.__dict__)
        copy.__dict__.update(changes)
        return copy


__all__ = ["replace"]
