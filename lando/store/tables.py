"""The tables, and their indexes but for those of ``partial_indexes``. Times are epoch seconds; nested records
are JSON text. Nothing here is one database's own.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from lando.store.types import StoredText

METADATA = MetaData()

ENDED = "coalesce(state, '') IN ('done', 'failed')"
"""As SQL: a partial index is used only where a query says the same. By an expression, since for the column
alone SQLite would take ``jobs_in_order``, and sort."""


_COUNTED = BigInteger().with_variant(Integer, "sqlite")  # SQLite's INTEGER has 64 bits, and counts by itself

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", _COUNTED, primary_key=True, autoincrement=True),  # the order of arrival
    Column("id", String(36), nullable=False, unique=True),
    Column("name", StoredText, nullable=False),
    Column("body", StoredText, nullable=False),  # the start_worker body, JSON
    Column("submitted_by", StoredText),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("boot_timeout", Float(53)),
    Column("run_timeout", Float(53)),
    Column("flavor", StoredText),
    Column("wishes", StoredText, nullable=False),  # JSON
    Column("runnable", Boolean, nullable=False),
    Column("lost_secrets", Boolean, nullable=False),
    Column("outcome", String(16)),
    Column("verdict", String(16)),
    Column("reason", StoredText, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("doubtful", Integer, nullable=False),
    Column("excused", Integer, nullable=False),
    Column("unanswered", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
    Column("not_before", Float(53), nullable=False),
    Column("waiting", Integer),  # of a queued job: 1 for its back-off, 0 if it is ready
    Column("doubt", Integer),  # of a queued job: doubtful + unanswered
    Column("deadline_at", Float(53)),
    Column("requests", StoredText, nullable=False),  # JSON
    Column("server_name", StoredText),
    Column("server_id", StoredText),
    Column("server_ip", StoredText),
    Column("floating_ip", StoredText),
    Column("seq", Integer, nullable=False),
    Column("heard_at", Float(53)),
    Column("worker_version", StoredText),
    Column("phase", StoredText),
    Column("step", Integer),
    Column("steps", Integer),
    Column("step_name", StoredText),
    Column("git_commit", StoredText),
    Column("exit_code", Integer),
    Column("outputs", StoredText),  # JSON
    Column("log_tail", StoredText, nullable=False),
    Column("submitted_at", Float(53), nullable=False),
    Column("entered_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    # When retention removed what; None if it did not.
    Column("secrets_dropped_at", Float(53)),
    Column("logs_removed_at", Float(53)),
    Column("results_removed_at", Float(53)),
    Index("jobs_by_state", "state", "number"),
    Index("jobs_by_server", "server_name"),
    Index("jobs_by_submitter", "submitted_by", "state", "entered_at", "number"),
    sqlite_autoincrement=True,
)

KEPT_BY_TRIGGERS = frozenset({"job_counts"})
"""Tables whose rows follow from those of others: nobody else writes or copies them."""
JOB_COUNTS = Table(
    "job_counts",
    METADATA,
    Column("state", String(16), primary_key=True),
    Column("jobs", Integer, nullable=False),
)

JOB_LABELS = Table(  # triggers keep state and entered_at as in ``jobs``
    "job_labels",
    METADATA,
    Column("job_id", String(36), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),  # the order in the job file
    Column("key", StoredText, nullable=False),  # both as they are shown
    Column("value", StoredText, nullable=False),
    Column("digest", String(32), nullable=False),  # of both, which are too long for an index
    Column("state", String(16), nullable=False),
    Column("entered_at", Float(53), nullable=False),
    Index("job_labels_by_digest", "digest", "state", "entered_at", "job_id"),
)

HISTORY = Table(
    "history",
    METADATA,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("job_id", String(36), ForeignKey("jobs.id"), nullable=False, index=True),
    Column("at", Float(53), nullable=False),
    Column("event", String(32), nullable=False),
    Column("source", String(16)),
    Column("target", String(16), nullable=False),
    Column("reason", StoredText, nullable=False),
    Column("attempt", Integer, nullable=False),
)

EFFECTS = Table(
    "effects",
    METADATA,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("job_id", String(36), ForeignKey("jobs.id"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("rank", Integer, nullable=False),  # 1 for the deletion, which is last
    Column("lane", Integer),  # of the job's next effect; see lando/store/effect_rows.py
    Column("servers", StoredText, nullable=False),  # JSON
    Column("due_at", Float(53), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("words", StoredText, nullable=False),  # why it was postponed
    Index("effects_in_order", "job_id", "rank", "id"),
    Index("effects_in_lanes", "lane", "due_at", "id"),
    sqlite_autoincrement=True,
)

PROCESSED = Table(
    "processed_messages",
    METADATA,
    Column("id", String(110), primary_key=True),  # origin:id
    Column("at", Float(53), nullable=False, index=True),
)

EARLY_CANCELS = Table(
    "early_cancels",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("at", Float(53), nullable=False),
)

FACTS = Table(
    "facts",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", StoredText, nullable=False),  # JSON
)

FORGOTTEN = Table(  # jobs that were removed, or will be within seconds
    "forgotten_jobs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("attempt", Integer, nullable=False),  # the last one
    Column("ended_at", Float(53), nullable=False),
    Column("at", Float(53), nullable=False),  # when that was decided
    Column("with_results", Boolean, nullable=False),
    Column("has_rows", Boolean, nullable=False),
    Column("has_files", Boolean, nullable=False),  # its directory was not looked at yet
    Index("forgotten_by_age", "at", "id"),
)

LOGS = Table(
    "logs",
    METADATA,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("job_id", String(36), ForeignKey("jobs.id"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("text", StoredText, nullable=False),
    UniqueConstraint("job_id", "attempt", "seq"),
)

LOG_TOTALS = Table(
    "log_totals",
    METADATA,
    Column("job_id", String(36), ForeignKey("jobs.id"), primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("characters", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),  # of the sequence numbers
    Column("seqs", StoredText, nullable=False),  # the ranges of those that are stored, JSON
)

CONSOLES = Table(
    "consoles",
    METADATA,
    Column("job_id", String(36), ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("text", StoredText, nullable=False),
)

OLDEST_VERSION = Table(  # see ``lando.store.schema``; never changed again
    "oldest_version",
    METADATA,
    Column("version_num", String(32), primary_key=True),
)
