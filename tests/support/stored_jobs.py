"""Fills a database with many jobs, in seconds: by executemany, not through the engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from lando.states.job import Job, State
from lando.store.pending import job_values
from lando.store.shown import label_rows
from lando.store.store import Store
from lando.store.tables import HISTORY, JOB_LABELS, JOBS
from lando.yaml_json import write_json

BODY: dict[str, Any] = {
    "git_clone": "https://example.org/rna/quantify.git",
    "cd": ".",
    "input": {"reads": [{"class": "File", "location": f"https://example.org/{n}.fastq"} for n in range(8)]},
    "run_cwl": "quantify.cwl",
}
PAGE = 2_000


def job_id(number: int) -> str:
    """The id of the job that was stored with this number."""
    return f"{number * 2654435761 % 2**32:08x}-0000-4000-8000-{number:012x}"


def store_jobs(
    store: Store,
    count: int,
    state: State | Callable[[int], State] = "done",
    labels: Callable[[int], dict[str, str]] = lambda _: {},
    submitter: Callable[[int], str] = lambda _: "ana",
    first: int = 1,
    **fields: Any,
) -> list[str]:
    """Store jobs; the later they arrived, the later they entered their state.

    Args:
        store: where.
        count: how many.
        state: theirs, or that of each number.
        labels: of each number.
        submitter: of each number.
        first: the first number.
        fields: more of the records.

    Returns:
        Their ids, in order of arrival.
    """
    now, ids = time.time(), []
    for begin in range(first, first + count, PAGE):
        numbers = range(begin, min(begin + PAGE, first + count))
        jobs, history, of_labels = [], [], []
        for number in numbers:
            at = now - 10 * (first + count - number)
            where = state(number) if callable(state) else state
            job = replace(
                Job(job_id(number), where, reason="the workflow succeeded", log_tail="line\n" * 200),
                submitted_at=at - 3600,
                entered_at=at,
                updated_at=at,
                **fields,
            )
            body = {**BODY, "labels": labels(number)}
            name, who = f"quantify sample {number}", submitter(number)
            jobs.append({**job_values(job), "name": name, "body": write_json(body), "submitted_by": who})
            for event, source, target in (("start_worker", None, "queued"), ("moved", "queued", where)):
                change = {"job_id": job.id, "at": at, "event": event, "source": source, "target": target}
                history.append({**change, "reason": job.reason, "attempt": 1})
            for row in label_rows(body):
                of_labels.append({"job_id": job.id, **row, "state": where, "entered_at": at})
            ids.append(job.id)
        with store.transaction() as transaction:
            connection = transaction._connection
            connection.execute(sa.insert(JOBS), jobs)
            connection.execute(sa.insert(HISTORY), history)
            if of_labels:
                connection.execute(sa.insert(JOB_LABELS), of_labels)
    return ids
