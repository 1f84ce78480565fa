"""A database for a facility."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

COUNTED = (("jobs", "number"), ("history", "id"), ("effects", "id"), ("logs", "id"))


def upgrade() -> None:
    """On PostgreSQL: numbers that do not run out, and texts in an order that no upgrade changes."""
    if op.get_bind().dialect.name == "postgresql":
        _widen_numbers()
        _order_texts_by_bytes()


def _widen_numbers() -> None:
    """A thousand reports a second use up 31 bits in a month; SQLite's numbers have 64."""
    for table, column in COUNTED:
        op.alter_column(table, column, type_=sa.BigInteger())
        op.execute(f"ALTER SEQUENCE {table}_{column}_seq AS bigint")


def _order_texts_by_bytes() -> None:
    """As SQLite does. The order of a language belongs to a version of the system's library: an index would be
    wrong after an upgrade of it, or on a replica with another one. The last step: texts of all tables."""
    connection = op.get_bind()
    inspector = sa.inspect(connection)
    for table in inspector.get_table_names():
        for column in inspector.get_columns(table):
            if isinstance(column["type"], sa.String) and table != "alembic_version":
                type_ = column["type"].compile(connection.dialect)
                op.execute(f'ALTER TABLE {table} ALTER COLUMN "{column["name"]}" TYPE {type_} COLLATE "C"')
