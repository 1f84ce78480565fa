"""For lists of jobs, a part of version 0006: indexes in their order, labels, and counts by state."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from lando.store.shown import label_rows
from lando.yaml_json import read_json

SQLITE_TRIGGERS = """
CREATE TRIGGER job_added AFTER INSERT ON jobs
BEGIN
    INSERT INTO job_counts (state, jobs) VALUES (new.state, 1)
        ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
END;

CREATE TRIGGER job_removed AFTER DELETE ON jobs
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
END;

CREATE TRIGGER job_moved AFTER UPDATE OF state ON jobs WHEN old.state <> new.state
BEGIN
    UPDATE job_counts SET jobs = jobs - 1 WHERE state = old.state;
    INSERT INTO job_counts (state, jobs) VALUES (new.state, 1)
        ON CONFLICT (state) DO UPDATE SET jobs = jobs + 1;
    UPDATE job_labels SET state = new.state, entered_at = new.entered_at WHERE job_id = new.id;
END
"""
POSTGRESQL_TRIGGERS = """
CREATE FUNCTION job_counts_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE job_counts SET jobs = jobs - 1 WHERE state = OLD.state;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO job_counts (state, jobs) VALUES (NEW.state, 1)
            ON CONFLICT (state) DO UPDATE SET jobs = job_counts.jobs + 1;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        UPDATE job_labels SET state = NEW.state, entered_at = NEW.entered_at WHERE job_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER job_added_or_removed AFTER INSERT OR DELETE ON jobs
    FOR EACH ROW EXECUTE FUNCTION job_counts_kept();

CREATE TRIGGER job_moved AFTER UPDATE OF state ON jobs
    FOR EACH ROW WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION job_counts_kept();
"""
PAGE = 500
"""Bodies that are read at once: each may have a MiB."""


def add_tables() -> None:
    """The indexes, and the tables with what they have of the jobs that are there."""
    by_time = ["state", "entered_at", "number"]
    in_queue: list[Any] = ["state", sa.text("priority DESC"), "number"]
    op.create_index("jobs_in_queue", "jobs", in_queue, **_only("state = 'queued'"))
    in_progress = _only("state IN ('booting', 'running', 'terminating')")
    op.create_index("jobs_in_progress", "jobs", by_time, **in_progress)
    op.create_index("jobs_ended", "jobs", by_time, **_only("state IN ('done', 'failed')"))
    op.create_index("jobs_by_submitter", "jobs", ["submitted_by", "state", "entered_at", "number"])
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(36), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("place", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("entered_at", sa.Float(53), nullable=False),
    )
    op.create_index("job_labels_by_digest", "job_labels", ["digest", "state", "entered_at", "job_id"])
    _fill_labels()
    op.create_table(
        "job_counts",
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("jobs", sa.Integer(), nullable=False),
    )
    op.execute("INSERT INTO job_counts SELECT state, count(*) FROM jobs GROUP BY state")


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def _fill_labels() -> None:
    jobs = sa.table("jobs", *(sa.column(name) for name in ("number", "id", "body", "state", "entered_at")))
    names = ("job_id", "place", "key", "value", "digest", "state", "entered_at")
    labels = sa.table("job_labels", *(sa.column(name) for name in names))
    connection, last = op.get_bind(), -1
    page = sa.select(jobs).where(jobs.c.number > sa.bindparam("last")).order_by(jobs.c.number).limit(PAGE)
    while found := connection.execute(page, {"last": last}).all():
        last = found[-1].number
        rows = [
            {"job_id": job.id, "state": job.state, "entered_at": job.entered_at, **row}
            for job in found
            if '"labels"' in job.body
            for row in label_rows(read_json(job.body))
        ]
        if rows:
            connection.execute(sa.insert(labels), rows)


def add_triggers() -> None:
    """The triggers by which the database itself keeps both tables, whoever adds, changes or removes jobs."""
    connection = op.get_bind()
    is_sqlite = connection.dialect.name == "sqlite"
    for statement in (SQLITE_TRIGGERS if is_sqlite else POSTGRESQL_TRIGGERS).split(";\n\n"):
        connection.exec_driver_sql(statement)
