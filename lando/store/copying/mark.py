"""What a database says about its being copied: a fact, of another content in the original and in the copy.

Both have one deployment, by whose name a daemon deletes VMs of jobs that it does not know to be in progress:
daemons may never use both. So the copy refuses a daemon until it is complete, and the original does so from
the moment before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lando.times import rfc3339

DOCS = "docs/moving-to-postgresql.md"


@dataclass(frozen=True)
class CopyMark:
    """The fact ``COPY_FACT``."""

    id: str
    """A random one, the same in both."""
    role: Literal["original", "copy"]
    is_complete: bool
    other: str
    """Where the other one is, for people."""
    at: float
    """Epoch seconds: when it was complete; until then, when it was begun."""

    def refusal(self, database: str) -> str | None:
        """Why no daemon may use this database, and what to do; None if one may.

        Args:
            database: how it is named to people.
        """
        if self.role == "original" and self.is_complete:
            return (
                f"{database}: was copied to {self.other} ({rfc3339(self.at)}), and is used no more, since "
                "two daemons of one deployment delete each other's VMs: set database.url to the copy, or see "
                f'{DOCS}, "Go back"'
            )
        if self.role == "copy" and not self.is_complete:
            return (
                f"{database}: is an incomplete copy of {self.other}: `lando-fsm database copy --to URL`, "
                "with the configuration of the original, goes on with it"
            )
        return None


def to_mark(value: Mapping[str, Any] | None) -> CopyMark | None:
    """The mark that a fact has."""
    return None if value is None else CopyMark(**value)


def mark_value(mark: CopyMark) -> dict[str, Any]:
    """A mark as a fact."""
    return asdict(mark)
