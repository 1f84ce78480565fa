"""Texts as every database stores them, and lists of texts as one parameter."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_NOT_STORED = re.compile("[\x00\ud800-\udfff]")
"""NUL, which PostgreSQL refuses, and half of a surrogate pair, which UTF-8 does not have. The console of a
server and the name of a file may have them."""
REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with what cannot be stored replaced, so that no row is refused for ever."""
    return text if text.isprintable() else _NOT_STORED.sub(REPLACEMENT, text)


class StoredText(sa.types.TypeDecorator[str]):
    """A text of any length, whatever it holds."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """See ``storable``."""
        return None if value is None else storable(value)


class _TextList(sa.types.TypeDecorator[Sequence[str]]):
    """JSON for SQLite, which has no lists; an array for PostgreSQL."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        is_postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(sa.ARRAY(sa.Text) if is_postgres else sa.Text())

    def process_bind_param(self, value: Sequence[str] | None, dialect: sa.Dialect) -> Any:
        texts = [storable(text) for text in value or ()]
        return texts if dialect.name == "postgresql" else json.dumps(texts)


class _Each(FunctionElement[str]):
    """The texts of a list, one a row."""

    inherit_cache = True
    name = "each"


@compiles(_Each)
def _(element: _Each, compiler: SQLCompiler, **more: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **more)})"


@compiles(_Each, "postgresql")
def _(element: _Each, compiler: SQLCompiler, **more: Any) -> str:
    return f"(SELECT unnest({compiler.process(element.clauses, **more)}) AS value)"


def listed(name: str) -> sa.Select[Any]:
    """The texts of a list that is one parameter, of which a statement has a limited number.

    Args:
        name: of the parameter.
    """
    return sa.select(_Each(sa.bindparam(name, type_=_TextList)).table_valued("value").c.value)
