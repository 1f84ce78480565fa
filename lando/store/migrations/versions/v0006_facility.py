"""A database for a facility."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from lando.store.migrations import v0006_lists

revision = "0006"
down_revision = "0005"
oldest = "0006"
"""Programs that know this version, or a later one, may use the result: CONTRIBUTING.md, "Add a migration"."""

COUNTED = (("jobs", "number"), ("history", "id"), ("effects", "id"), ("logs", "id"))
LANES = {
    "create_server": 1,
    "delete_server": 2,
    "delete_twins": 3,
    "attach_floating_ip": 4,
    "save_console_log": 4,
}


ENDED = "coalesce(state, '') IN ('done', 'failed')"


def upgrade() -> None:
    """Each step under its own comment."""
    # Which programs may use a newer schema. Filled by ``lando.store.schema``; never changed again.
    op.create_table("oldest_version", sa.Column("version_num", sa.String(32), primary_key=True))
    # What is due is found through indexes.
    _mark_what_is_next()
    # Commands read no more jobs than they show.
    v0006_lists.add_tables()
    # What retention has removed of jobs, and which jobs.
    _remember_removals()
    # PostgreSQL: numbers that do not run out; last, texts in an order that no upgrade changes.
    if op.get_bind().dialect.name == "postgresql":
        _widen_numbers()
        _order_texts_by_bytes()
    # After the types of the columns are what they are: PostgreSQL changes none that a trigger names.
    v0006_lists.add_triggers()


def _mark_what_is_next() -> None:
    op.add_column("jobs", sa.Column("waiting", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("doubt", sa.Integer(), nullable=True))
    op.execute(
        "UPDATE jobs SET waiting = CASE WHEN not_before > 0 THEN 1 ELSE 0 END, doubt = doubtful + unanswered "
        "WHERE state = 'queued'"
    )
    op.drop_index("jobs_in_order", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "number"])
    ready, in_back_off = _only("waiting = 0"), _only("waiting = 1")
    in_order: list[Any] = [sa.text("priority DESC"), "number"]
    op.create_index("jobs_ready", "jobs", in_order, **ready)
    op.create_index("jobs_ready_by_wishes", "jobs", ["wishes", *in_order], **ready)
    op.create_index("jobs_ready_by_doubt", "jobs", ["wishes", "doubt", *in_order], **ready)
    op.create_index("jobs_in_back_off", "jobs", ["not_before"], **in_back_off)
    op.add_column("effects", sa.Column("lane", sa.Integer(), nullable=True))
    lanes = " ".join(f"WHEN '{kind}' THEN {lane}" for kind, lane in LANES.items())
    op.execute(
        f"UPDATE effects SET lane = CASE kind {lanes} END WHERE NOT EXISTS (SELECT 1 FROM effects AS earlier "  # noqa: S608
        "WHERE earlier.job_id = effects.job_id AND (earlier.rank < effects.rank "
        "OR (earlier.rank = effects.rank AND earlier.id < effects.id)))"
    )
    op.execute(
        "UPDATE effects SET lane = 5 WHERE lane = 2 AND EXISTS "
        "(SELECT 1 FROM jobs WHERE jobs.id = effects.job_id AND jobs.server_id IS NULL)"
    )
    op.drop_index("ix_effects_due_at", "effects")
    op.create_index("effects_in_lanes", "effects", ["lane", "due_at", "id"])


def _remember_removals() -> None:
    op.add_column("jobs", sa.Column("lost_secrets", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in ("secrets_dropped_at", "logs_removed_at", "results_removed_at"):
        op.add_column("jobs", sa.Column(name, sa.Float(53)))
    _index("jobs_by_end", "jobs", ["entered_at"], ENDED)
    _index("jobs_with_secrets", "jobs", ["entered_at"], f"{ENDED} AND secrets_dropped_at IS NULL")
    _index("jobs_with_logs", "jobs", ["entered_at"], f"{ENDED} AND logs_removed_at IS NULL")
    op.create_table(
        "forgotten_jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Float(53), nullable=False) for name in ("ended_at", "at")),
        *(
            sa.Column(name, sa.Boolean(), nullable=False)
            for name in ("with_results", "has_rows", "has_files")
        ),
    )
    op.create_index("forgotten_by_age", "forgotten_jobs", ["at", "id"])
    _index("forgotten_with_rows", "forgotten_jobs", ["at"], "has_rows")
    _index("forgotten_with_files", "forgotten_jobs", ["at", "id"], "has_files")


def _index(name: str, table: str, columns: list[Any], condition: str) -> None:
    op.create_index(name, table, columns, **_only(condition))


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


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
