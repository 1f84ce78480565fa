"""A database with many jobs, made by SQL within seconds: most have ended, some wait, run and end."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {jobs})"
STATE = """CASE WHEN n % 100 = 0 THEN 'queued' WHEN n % 100 = 1 THEN 'running'
    WHEN n % 100 = 2 THEN 'terminating' WHEN n % 7 = 0 THEN 'failed' ELSE 'done' END"""
VALUES = {
    "id": "printf('%08x-0000-4000-8000-000000000000', n)",
    "name": "'job ' || n",
    "body": """json_object('git_clone', 'https://example.org/a.git', 'cd', '.', 'run_cwl', 'main.cwl',
        'name', 'job ' || n, 'input', json_object('text', hex(zeroblob(100))))""",
    "submitted_by": "'account-' || (n % 10)",
    "state": STATE,
    "version": "7",
    "attempts": "3",
    "priority": "n % 5",
    "run_timeout": "3600.0",
    "flavor": "'m1.small'",
    "wishes": "''",
    "runnable": "n % 50 > 0",
    "outcome": "'succeeded'",
    "reason": "'exit code 0'",
    **dict.fromkeys(("attempt", "seq"), "1"),
    **dict.fromkeys(("failures", "doubtful", "excused", "unanswered", "misses", "exit_code"), "0"),
    "not_before": "0.0",
    "requests": "'[]'",
    "heard_at": "1700000000.25 + n",
    "outputs": """'{"o": 1}'""",
    "log_tail": "'the end of the log, in German: äöü ' || n",
    "submitted_at": "1700000000.5 + n",
    "entered_at": "1700000100.125 + n * 60",
    "updated_at": "1700000100.1 + n",
}
OTHERS = (
    """INSERT INTO history (job_id, at, event, source, target, reason, attempt)
    SELECT jobs.id, jobs.submitted_at + k, 'event-' || k, NULL, 'queued', 'because of ' || k, 1
    FROM jobs, (SELECT 1 AS k UNION ALL SELECT 2 UNION ALL SELECT 3)
    WHERE k <= {history}""",
    """INSERT INTO logs (job_id, attempt, seq, text)
    SELECT id, 1, 1, 'line of ' || name || char(10) || 'another' FROM jobs
    WHERE number % {logs} = 0""",
    """INSERT INTO log_totals (job_id, rows, characters, attempt, seqs)
    SELECT id, 1, 20, 1, '[[1, 1]]' FROM jobs WHERE number % {logs} = 0""",
    """INSERT INTO effects (job_id, kind, rank, servers, due_at, tries, words)
    SELECT id, 'delete_server', 1, '["a"]', 1700000000.0, 2, '' FROM jobs WHERE state = 'terminating'""",
    """INSERT INTO processed_messages (id, at) SELECT 'client:start-' || id, submitted_at FROM jobs
    WHERE number % {logs} = 0""",
    "INSERT INTO consoles (job_id, attempt, text) SELECT id, 1, 'console' FROM jobs WHERE state = 'failed'",
    "INSERT INTO early_cancels (job_id, at) VALUES ('not-there', 1.5)",
    """INSERT INTO facts (name, value) VALUES ('deployment', '"d9e1"'), ('swept', '{"servers": 3}')""",
)


def fill(database: Path, jobs: int, history: int = 3, logs: int = 1) -> None:
    """Fill a database that is migrated and empty.

    Args:
        database: its file.
        jobs: how many.
        history: how many changes of state each has, of at most three.
        logs: one of so many has a log, and a message that is remembered.
    """
    columns, values = ", ".join(VALUES), ", ".join(VALUES.values())
    insert = f"{NUMBERS.format(jobs=jobs)} INSERT INTO jobs ({columns}) SELECT {values} FROM numbers"
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for statement in (insert, *OTHERS):
            connection.execute(statement.replace("{history}", str(history)).replace("{logs}", str(logs)))
