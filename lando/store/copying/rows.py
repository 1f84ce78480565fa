"""Rows as PostgreSQL stores them, and the checksum of a table.

SQLite stores any value in any column. What PostgreSQL cannot store is replaced, and said, where that loses
nothing that anything depends on; else the copy is refused, with the row's key. The checksum is of the rows as
they are stored in the end, and the same for both databases.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import sqlalchemy as sa

from lando.errors import LandoError
from lando.store.types import storable

Kind = Literal["integer", "number", "boolean", "text"]
Row = tuple[Any, ...]

CHUNK = 100
"""Rows that are looked at together: the largest ones have 4 MB each."""
SHOWN = 40
"""Characters of a value or key in a message."""

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_SUSPECT = ("\\u0000", "\\ud")
"""How JSON writes what may have to be replaced: NUL, and one of a pair of surrogates."""
_USUAL: dict[Kind, type] = {"integer": int, "number": float, "boolean": int, "text": str}
"""The types as which SQLite returns what is as it should be; beside None."""


class Unstorable(LandoError):
    """A row that PostgreSQL cannot store and that nothing may be replaced in."""


@dataclass(frozen=True)
class Change:
    """A value that was replaced."""

    table: str
    key: str
    column: str
    what: str


class Checksum:
    """SHA-256 of rows, each a list in JSON, in the order of their key."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = sha256()

    def add(self, rows: Sequence[Row], encoded: str | None = None) -> int:
        """Add rows.

        Args:
            rows: the next ones.
            encoded: the same as ``encode`` returns them, if somebody did so already.

        Returns:
            How many characters they have.
        """
        text = _encode(rows) if encoded is None else encoded
        self.rows += len(rows)
        self._hash.update(text[1:-1].encode() + b"," if rows else b"")
        return len(text)

    @property
    def text(self) -> str:
        """The first 32 of its hexadecimal digits."""
        return self._hash.hexdigest()[:32]

    @property
    def state(self) -> tuple[int, str]:
        """To compare."""
        return self.rows, self.text


@dataclass(frozen=True)
class Column:
    """What PostgreSQL can store in it."""

    name: str
    kind: Kind
    length: int | None
    least: int
    most: int
    is_key: bool


@dataclass
class CopiedTable:
    """A table, and what had to be replaced in it."""

    table: sa.Table
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.table.name
        self.keys = tuple(column.name for column in self.table.primary_key)
        referring = {column.name for column in self.table.columns if column.foreign_keys}
        fixed = {*self.keys, *referring, *_unique(self.table)}
        self.columns = tuple(_column(each, each.name in fixed) for each in self.table.columns)
        self.names = tuple(each.name for each in self.columns)
        self._key = tuple(self.names.index(name) for name in self.keys)
        self.key_columns = tuple(self.columns[place] for place in self._key)

    def stored(self, rows: Sequence[Row]) -> tuple[Sequence[Row], str]:
        """Rows of SQLite's as PostgreSQL stores them, and the same encoded for the checksum.

        Raises:
            Unstorable: one cannot be stored.
        """
        columns = list(zip(*rows, strict=True))
        if all(_is_usual(column, values) for column, values in zip(self.columns, columns, strict=True)):
            for place, column in enumerate(self.columns):
                if column.kind == "boolean":
                    columns[place] = tuple(None if value is None else value == 1 for value in columns[place])
            usual = list(zip(*columns, strict=True))
            encoded = _encode(usual)
            if not any(words in encoded for words in _SUSPECT):
                return usual, encoded
        fitted = [self._replaced(row) for row in rows]
        return fitted, _encode(fitted)

    def _replaced(self, row: Row) -> Row:
        values = []
        for column, value in zip(self.columns, row, strict=True):
            fitted, what = (None, "") if value is None else self._fitted(column, value, row)
            values.append(fitted)
            if what:
                self.changes.append(Change(self.name, self.shown_key(row), column.name, what))
        return tuple(values)

    def _fitted(self, column: Column, value: Any, row: Row) -> tuple[Any, str]:
        """What is stored, and what was replaced in it; empty if nothing was."""
        if column.kind == "text":
            return self._text(column, value, row)
        if column.kind == "number" and isinstance(value, (int, float)):
            return float(value), ""
        if column.kind == "boolean" and isinstance(value, int):
            return value != 0, "" if value in (0, 1) else f"{value} is taken as true"
        if column.kind == "integer" and isinstance(value, int):
            nearest = max(column.least, min(column.most, value))
            if nearest == value:
                return value, ""
            if not column.is_key:
                return nearest, f"{value} is stored as {nearest}, the nearest that PostgreSQL can store there"
        raise self._unstorable(column, f"holds {str(value)[:SHOWN]!r} where its type is {column.kind}", row)

    def _text(self, column: Column, value: Any, row: Row) -> tuple[str, str]:
        what = []
        if isinstance(value, bytes):
            what.append("bytes are taken as text")
            value = value.decode("utf-8", "surrogateescape")
        text = storable(str(value))
        if text != value:
            count = sum(one != other for one, other in zip(text, str(value), strict=True))
            what.append(f"{count} characters that PostgreSQL cannot store are replaced by U+FFFD")
        if what and column.is_key:
            raise self._unstorable(column, f"holds {str(value)[:SHOWN]!r}, which it cannot store", row)
        if column.length is not None and len(text) > column.length:
            raise self._unstorable(column, f"has {len(text)} characters where {column.length} fit", row)
        return text, ", ".join(what)

    def _unstorable(self, column: Column, what: str, row: Row) -> Unstorable:
        return Unstorable(
            f"table {self.name}, {self.shown_key(row)}: column {column.name} {what}, so that PostgreSQL "
            "refuses the row; correct or remove it with sqlite3, and copy again"
        )

    def shown_key(self, row: Row) -> str:
        """The primary key of a row, for people."""
        return ", ".join(f"{self.names[place]} {str(row[place])[:SHOWN]}" for place in self._key)


def _is_usual(column: Column, values: Sequence[Any]) -> bool:
    """Whether PostgreSQL stores all values of a column as they are, but for single characters of texts."""
    types = set(map(type, values))
    if not types <= {_USUAL[column.kind], type(None)}:
        return False
    given = values if type(None) not in types else [value for value in values if value is not None]
    if not given or column.kind == "number":
        return True
    if column.kind == "text":
        return column.length is None or max(map(len, given)) <= column.length
    return bool(column.least <= min(given) and max(given) <= column.most)


def _column(column: sa.Column[Any], is_key: bool) -> Column:
    kind_of = column.type.impl_instance if isinstance(column.type, sa.types.TypeDecorator) else column.type
    length = kind_of.length if isinstance(kind_of, sa.String) else None
    kind = _kind(kind_of)
    bits = 63 if isinstance(kind_of, sa.BigInteger) else 31
    least, most = (0, 1) if kind == "boolean" else (-(2**bits), 2**bits - 1)
    return Column(column.name, kind, length, least, most, is_key)


def _kind(type_of: sa.types.TypeEngine[Any]) -> Kind:
    for kind, types in _KINDS.items():
        if isinstance(type_of, types):
            return kind
    raise AssertionError(f"{type_of!r} is not copied: say how in _KINDS of {__file__}")


_KINDS: dict[Kind, tuple[type[sa.types.TypeEngine[Any]], ...]] = {
    "boolean": (sa.Boolean,),
    "integer": (sa.Integer,),
    "number": (sa.Float,),
    "text": (sa.String,),
}


def _unique(table: sa.Table) -> set[str]:
    constraints = [each.columns for each in table.constraints if isinstance(each, sa.UniqueConstraint)]
    indexes = [each.columns for each in table.indexes if each.unique]
    return {column.name for columns in (*constraints, *indexes) for column in columns}
