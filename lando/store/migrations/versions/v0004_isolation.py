"""What keeps jobs apart: wishes of the cloud, counted logs, versions of workers, and bounded job files."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from lando.config import yaml_document
from lando.errors import UsageError

revision = "0004"
down_revision = "0003"

WISHES = ("flavor", "image", "volume_size")
MOST = {
    "attempts": 100,
    "priority": 1_000_000,
    "boot_timeout": 366 * 86400.0,
    "run_timeout": 366 * 86400.0,
    "volume_size": 65_536,
}
"""What a job file may ask for from this version on; of a negative priority, this much below zero."""
IN_THE_RECORD = ("attempts", "priority", "boot_timeout", "run_timeout")
LABELS, LABEL_KEY, LABEL = 100, 200, 1000
"""How many labels there may be, and the characters of a key and a value."""


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
    _bound_jobs()
    _fill_wishes()
    _count_logs()


def _bound_jobs() -> None:
    """A job that an older version has accepted stays accepted: the daemon checks its body again before each
    create. A body that has no equal within the limits, such as one with a longer path, is left as it is."""
    record: list[Any] = [sa.column(name) for name in IN_THE_RECORD]
    runnable = sa.column("runnable", sa.Boolean)
    jobs = sa.table("jobs", sa.column("number"), sa.column("body"), runnable, *record)
    connection = op.get_bind()
    found = connection.execute(sa.select(jobs.c.number, jobs.c.body, *record).where(jobs.c.runnable)).all()
    for number, text, *values in found:
        body = json.loads(text)
        before = dict(zip(IN_THE_RECORD, values, strict=True))
        after = {name: _bounded(name, value) for name, value in before.items()}
        changed = {name: value for name, value in after.items() if value != before[name]}
        bounded = {**body, **changed, **_readable(body)}
        if bounded != body:
            update = sa.update(jobs).where(jobs.c.number == number)
            connection.execute(update.values(body=json.dumps(bounded), **changed))


def _bounded(name: str, value: Any) -> Any:
    return None if value is None else max(-MOST[name], min(MOST[name], value))


def _readable(body: dict[str, Any]) -> dict[str, Any]:
    """What is in the body only, and no longer taken as it is."""
    volume_size, labels, given = (body.get(name) for name in ("volume_size", "labels", "input"))
    readable: dict[str, Any] = {}
    if isinstance(volume_size, int):
        readable["volume_size"] = _bounded("volume_size", volume_size)
    if isinstance(labels, dict):
        readable["labels"] = {key[:LABEL_KEY]: labels[key][:LABEL] for key in list(labels)[:LABELS]}
    if isinstance(given, str):
        readable["input"] = _as_object(given)
    return readable


def _as_object(text: str) -> Any:
    """Parameters that were given as YAML text; the text if it cannot be read."""
    try:
        document = yaml_document.parse(text, "input")
        document.check()
    except UsageError:
        return text
    return {} if document.value is None else document.value


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
