"""What keeps jobs apart: wishes of the cloud, counted logs, and the version of each worker."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

WISHES = ("flavor", "image", "volume_size")


def upgrade() -> None:
    """Add columns and table; jobs and logs that are there are counted once."""
    op.add_column("jobs", sa.Column("wishes", sa.Text(), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("worker_version", sa.Text(), nullable=True))
    op.drop_index("jobs_in_order", "jobs")
    in_order = ["state", "priority", "number", "not_before", "wishes", "flavor"]
    op.create_index("jobs_in_order", "jobs", in_order)
    op.create_table(
        "log_totals",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("characters", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("seqs", sa.Text(), nullable=False),
    )
    _fill_wishes()
    _count_logs()


def _fill_wishes() -> None:
    jobs = sa.table("jobs", sa.column("number"), sa.column("body"), sa.column("wishes"))
    connection = op.get_bind()
    for number, body in connection.execute(sa.select(jobs.c.number, jobs.c.body)).all():
        asked = json.loads(body)
        given = {name: asked[name] for name in WISHES if asked.get(name) is not None}
        if given:
            wishes = json.dumps(given)
            connection.execute(sa.update(jobs).where(jobs.c.number == number).values(wishes=wishes))


def _count_logs() -> None:
    connection = op.get_bind()
    logs = sa.table("logs", *(sa.column(name) for name in ("job_id", "attempt", "seq", "text")))
    totals = sa.table(
        "log_totals", *(sa.column(name) for name in ("job_id", "rows", "characters", "attempt", "seqs"))
    )
    counted = sa.select(
        logs.c.job_id, sa.func.count(), sa.func.sum(sa.func.length(logs.c.text)), sa.func.max(logs.c.attempt)
    ).group_by(logs.c.job_id)
    for job_id, rows, characters, attempt in connection.execute(counted).all():
        stored = sa.select(logs.c.seq).where(logs.c.job_id == job_id, logs.c.attempt == attempt)
        seqs = json.dumps(_ranges(sorted(connection.execute(stored.distinct()).scalars())))
        values: dict[str, Any] = {"job_id": job_id, "rows": rows, "characters": characters}
        connection.execute(sa.insert(totals).values(**values, attempt=attempt, seqs=seqs))


def _ranges(seqs: list[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for seq in seqs:
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1][1] = seq
        else:
            ranges.append([seq, seq])
    return ranges
