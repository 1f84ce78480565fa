"""The table of jobs."""

from __future__ import annotations

from lando.cli.formatting import plain_table
from lando.states.job import Job, State
from lando.views.job_status import JobStatus

OUTAGE = "no job is started at present: the cloud does not answer: HTTP 503: Service Unavailable"
DISCONNECTED = " (the daemon has been disconnected from the work queue since 2026-11-27T21:35:43.158Z)"


def shown(*jobs: tuple[State, str]) -> list[str]:
    """The last column, for jobs 1, 2, …"""
    found = [
        JobStatus(Job(str(number) * 8, state=state), "a job", None, reason, {})
        for number, (state, reason) in enumerate(jobs, start=1)
    ]
    _, *rows = plain_table(found)
    return [row.rsplit("  ", 1)[-1].strip() for row in rows]


def test_what_many_jobs_wait_for_is_told_once() -> None:
    assert shown(
        ("queued", f"{OUTAGE}; position 1"),
        ("queued", f"{OUTAGE}; position 2"),
        ("queued", "waits for its turn; position 3"),
        ("queued", f"{OUTAGE}; position 4{DISCONNECTED}"),
        ("queued", f"{OUTAGE}; position 15{DISCONNECTED}"),
    ) == [
        f"{OUTAGE}; position 1",
        "the same as 11111111; position 2",
        "waits for its turn; position 3",
        f"{OUTAGE}; position 4{DISCONNECTED}",
        "the same as 44444444; position 15",
    ]


def test_what_is_short_or_of_another_state_or_of_a_job_that_has_ended_is_told_for_each() -> None:
    rows: tuple[tuple[State, str], ...] = (
        ("running", "the workflow is running"),
        ("running", "the workflow is running"),
        ("failed", OUTAGE),
        ("failed", OUTAGE),
        ("booting", OUTAGE),
        ("terminating", OUTAGE),
    )
    assert shown(*rows) == [reason for _, reason in rows]
    assert (
        shown(("running", f"x{DISCONNECTED}"), ("running", f"x{DISCONNECTED}"))[1] == "the same as 11111111"
    )
