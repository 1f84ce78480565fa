"""The state machine: its table against the design's, an answer to everything, and what moves record."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, get_args

import pytest

from lando.states.events import (
    EVENTS,
    Admitted,
    BootFailed,
    BootFailuresJudged,
    BootTimeout,
    Cancel,
    CreateAbsent,
    CreateRefused,
    CreateSent,
    Event,
    Rejected,
    Retry,
    RunTimeout,
    ServerActive,
    ServerCreated,
    ServerGone,
    ServerLost,
    WorkerLost,
    WorkerProgress,
    WorkerStarted,
    WorkflowFinished,
)
from lando.states.job import CreateRequest, Job, Outcome, State
from lando.states.machine import STATES, TABLE, Fired, NewEffect, UnansweredEvent, build, fire
from lando.states.table import Policy, Row

NOW = 5000.0
POLICY = Policy(boot_timeout=100.0, run_timeout=1000.0, retry_first=10.0, retry_longest=60.0, hold=30.0)

# The transition table of the design: what moves a job where, and what that orders.
DELETE = ("delete_server",)
LOOK_AND_DELETE = ("save_console_log", "delete_server")
DESIGN: dict[State, dict[str, tuple[set[State], tuple[str, ...]]]] = {
    "queued": {
        "admitted": ({"booting"}, ("create_server",)),
        "rejected": ({"failed"}, ()),
        "cancel": ({"failed"}, ()),
        "boot_failures_judged": ({"failed"}, ()),
    },
    "booting": {
        "create_refused": ({"queued", "failed"}, ()),
        "create_absent": ({"queued"}, ()),
        "worker_started": ({"running"}, ()),
        "worker_progress": ({"running"}, ()),
        "workflow_finished": ({"terminating"}, DELETE),
        "boot_failed": ({"terminating"}, LOOK_AND_DELETE),
        "boot_timeout": ({"terminating"}, LOOK_AND_DELETE),
        "server_lost": ({"terminating"}, LOOK_AND_DELETE),
        "cancel": ({"terminating"}, DELETE),
    },
    "running": {
        "workflow_finished": ({"terminating"}, DELETE),
        "worker_lost": ({"terminating"}, LOOK_AND_DELETE),
        "server_lost": ({"terminating"}, LOOK_AND_DELETE),
        "boot_failed": ({"terminating"}, LOOK_AND_DELETE),
        "run_timeout": ({"terminating"}, LOOK_AND_DELETE),
        "cancel": ({"terminating"}, DELETE),
    },
    "terminating": {"server_gone": ({"done", "failed", "queued"}, ())},
    "done": {},
    "failed": {"retry": ({"queued"}, ())},
}

SAMPLES: tuple[Event, ...] = (
    Admitted(NOW, "mark-2", "token-2", "lando-a-2"),
    Rejected(NOW, "cd: missing"),
    CreateSent(NOW, "mark-1"),
    ServerCreated(NOW, "mark-1", "server-1"),
    ServerActive(NOW, "server-1", "192.0.2.1"),
    CreateRefused(NOW, "mark-1", "quota", "used up"),
    CreateAbsent(NOW, "mark-1", 30.0, "HTTP 500", True, "mark-2", "token-2"),
    BootFailed(NOW, "server-1", "no valid host"),
    BootTimeout(NOW),
    WorkerStarted(NOW, 1, "token-1", 1),
    WorkerProgress(NOW, 1, "token-1", 2),
    WorkflowFinished(NOW, 1, "token-1", 3),
    WorkerLost(NOW, 600.0),
    ServerLost(NOW, "server-1", "vanished"),
    RunTimeout(NOW),
    Cancel(NOW),
    Retry(NOW),
    ServerGone(NOW, "server-1"),
    BootFailuresJudged(NOW, counted=True),
)


def job_in(state: State, **changes: Any) -> Job:
    """A job as it usually looks in a state."""
    job = Job("a", state=state, entered_at=1000.0, submitted_at=900.0, updated_at=1000.0)
    if state in ("booting", "running", "terminating"):
        job = replace(
            job,
            attempt=1,
            requests=(CreateRequest("mark-1", "token-1", "adopted"),),
            server_name="lando-a-1",
            server_id="server-1",
            verdict="system_failed" if state == "terminating" else None,
        )
    if state in ("done", "failed"):
        outcome: Outcome = "succeeded" if state == "done" else "system_failed"
        job = replace(job, attempt=1, failures=0 if state == "done" else 3, outcome=outcome)
    return replace(job, **changes)


def booting(status: Any = "sent", **changes: Any) -> Job:
    """A booting job whose create is not resolved."""
    return job_in(
        "booting", requests=(CreateRequest("mark-1", "token-1", status),), server_id=None, **changes
    )


def fired(job: Job, event: Event) -> Fired:
    return fire(job, event, POLICY)


def rows() -> Iterator[tuple[State, Row]]:
    for state, state_rows in TABLE.items():
        for row in state_rows:
            yield state, row


# the table


def test_the_states_are_those_of_the_design() -> None:
    assert list(STATES) == list(TABLE) == list(DESIGN) == list(get_args(State))


@pytest.mark.parametrize("state", DESIGN)
def test_moves_and_their_orders_are_those_of_the_design(state: State) -> None:
    moves: dict[str, tuple[set[State], tuple[str, ...]]] = {}
    for row in TABLE[state]:
        if row.answer == "moves":
            assert row.to is not None
            targets, effects = moves.setdefault(row.event, (set(), row.effects))
            assert effects == row.effects
            targets.add(row.to)
    assert moves == DESIGN[state]


def test_only_terminating_and_what_never_owned_a_server_end_a_job() -> None:
    sources = {state for state, row in rows() if row.to in ("done", "failed", "queued")}
    unowned = {
        ("queued", "rejected"),
        ("queued", "cancel"),
        ("queued", "boot_failures_judged"),
        ("booting", "create_refused"),
        ("booting", "create_absent"),
        ("failed", "retry"),
    }
    left = {(state, row.event) for state, row in rows() if row.to in ("done", "failed", "queued")}
    assert left == unowned | {("terminating", "server_gone")}
    assert "running" not in sources


@pytest.mark.parametrize("state", DESIGN)
def test_every_event_has_an_answer_and_the_last_is_unconditional(state: State) -> None:
    for event in EVENTS:
        answers = [row for row in TABLE[state] if row.event == event.name]
        assert answers, f"{event.name} in {state} is not answered"
        assert answers[-1].when is None, f"{event.name} in {state} may be left without an answer"
        assert all(row.when is not None for row in answers[:-1]), f"{event.name} in {state}: unreachable rows"


def test_rows_are_about_known_events_and_say_why() -> None:
    names = {event.name for event in EVENTS}
    for state, row in rows():
        assert row.event in names
        assert row.why, f"{row.event} in {state}"
        assert (row.to is not None) == (row.answer == "moves")
        assert (row.action is not None) == (row.answer in ("moves", "stays"))
        assert not (row.effects and row.answer in ("ignored", "refused"))
    told = [(state, row.event, row.why) for state, row in rows()]
    assert len(told) == len(set(told)), "two rows of an event tell the same reason"


def test_there_is_a_sample_of_every_event() -> None:
    assert [type(event) for event in SAMPLES if isinstance(event, EVENTS)] == list(map(type, SAMPLES))
    assert {type(event) for event in SAMPLES} == set(EVENTS)


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.name)
@pytest.mark.parametrize("state", DESIGN)
def test_ignored_and_refused_change_nothing_and_the_rest_only_what_is_declared(
    state: State, event: Event
) -> None:
    job = job_in(state)
    answered = fired(job, event)
    row = next(row for row in TABLE[state] if row.event == event.name and row.why == answered.why)
    if answered.answer in ("ignored", "refused"):
        assert answered.job is job
        assert answered.effects == ()
    else:
        assert answered.job.state == (row.to or state)
        assert answered.job.updated_at == NOW
        assert answered.job.entered_at == (NOW if row.to else job.entered_at)
        assert [order.kind for order in answered.effects] == list(row.effects)
        assert answered.job.version == job.version, "versions are the store's"


def test_a_pair_without_an_answer_is_a_bug() -> None:
    machine = build({**TABLE, "queued": tuple(row for row in TABLE["queued"] if row.event != "cancel")})
    with pytest.raises(Exception, match="cancel"):
        fire(job_in("queued"), Cancel(NOW), POLICY, machine)
    guarded = tuple(replace(row, when=lambda job, event: False) for row in TABLE["queued"])
    with pytest.raises(UnansweredEvent, match="cancel in queued"):
        fire(job_in("queued"), Cancel(NOW), POLICY, build({**TABLE, "queued": guarded}))


PURE = """
import sys, lando.states.machine
print(*sorted(name for name in sys.modules))
"""


def test_the_machine_imports_plain_records_only() -> None:
    told = subprocess.run(
        [sys.executable, "-c", PURE],
        env={},  # else a measurement of coverage loads what it needs
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    own = {name for name in told if name.split(".")[0] == "lando"}
    assert {name for name in own if not name.startswith("lando.states")} == {"lando", "lando.backoff"}
    impure = {"socket", "ssl", "sqlite3", "subprocess", "sqlalchemy", "pika", "yaml", "click", "uuid"}
    assert not impure & set(told)


# what the answers record


def test_admission_begins_a_fresh_attempt() -> None:
    tired = job_in(
        "queued", attempt=4, seq=9, exit_code=1, outputs='{"a": 1}', log_tail="x", step=2, git_commit="c"
    )
    job = fired(tired, Admitted(NOW, "mark-2", "token-2", "lando-a-5")).job
    assert job.attempt == 5
    assert job.requests == (CreateRequest("mark-2", "token-2", "ordered"),)
    assert (job.seq, job.exit_code, job.outputs, job.log_tail, job.step, job.git_commit) == (
        0,
        None,
        None,
        "",
        None,
        None,
    )
    assert job.deadline_at == NOW + POLICY.boot_timeout
    assert fired(replace(tired, boot_timeout=7.0), Admitted(NOW, "m", "t", "n")).job.deadline_at == NOW + 7.0


@pytest.mark.parametrize("kind", ["quota", "rate_limit", "unreachable", "site"])
def test_what_refuses_any_create_sends_the_job_back_to_its_place_uncounted(kind: Any) -> None:
    job = fired(booting(failures=1), CreateRefused(NOW, "mark-1", kind, "so they say", retry_after=3.0)).job
    assert (job.state, job.failures, job.not_before) == ("queued", 1, 0.0)
    assert "so they say" in job.reason


def test_a_create_for_which_there_is_no_room_backs_off_alone_and_uncounted() -> None:
    job = fired(booting(failures=1), CreateRefused(NOW, "mark-1", "capacity", "so they say")).job
    assert (job.state, job.failures, job.misses, job.not_before) == ("queued", 1, 1, NOW + POLICY.hold)
    again = fired(booting(misses=1), CreateRefused(NOW, "mark-1", "capacity", "")).job
    assert (again.misses, again.not_before) == (2, NOW + 2 * POLICY.hold)
    patient = fired(booting(), CreateRefused(NOW, "mark-1", "capacity", "", retry_after=3.0)).job
    assert patient.not_before == NOW + 3.0


def test_however_often_there_was_no_room_the_wait_has_a_limit() -> None:
    job = fired(booting(misses=5000), CreateRefused(NOW, "mark-1", "capacity", "")).job
    assert job.not_before == NOW + POLICY.hold_longest


def test_what_the_job_file_names_wrongly_fails_the_job() -> None:
    job = fired(booting(), CreateRefused(NOW, "mark-1", "job", "no flavor m9.huge")).job
    assert (job.state, job.outcome) == ("failed", "workflow_failed")
    assert "no flavor m9.huge" in job.reason


def test_a_create_is_sent_once() -> None:
    sent = fired(booting("ordered"), CreateSent(NOW, "mark-1"))
    assert sent.job.requests[0].status == "sent"
    assert fired(sent.job, CreateSent(NOW, "mark-1")).answer == "ignored"


def absent(at: float, again: bool = True) -> CreateAbsent:
    return CreateAbsent(at, "mark-1", 30.0, "HTTP 500", again, "mark-2", "token-2")


def test_two_absences_a_settle_time_apart_make_a_new_request() -> None:
    first = fired(booting(), absent(NOW)).job
    assert first.requests == (CreateRequest("mark-1", "token-1", "sent", absent_since=NOW),)
    early = fired(first, absent(NOW + 29.9)).job
    assert early.requests == first.requests
    second = fired(early, absent(NOW + 30.0)).job
    assert [(request.mark, request.status) for request in second.requests] == [
        ("mark-1", "void"),
        ("mark-2", "ordered"),
    ]


def test_where_the_cloud_answers_no_creates_they_end_the_attempt_and_count_no_failure() -> None:
    first = fired(booting(), absent(NOW, again=False)).job
    assert first.requests == (CreateRequest("mark-1", "token-1", "sent", absent_since=NOW),)
    second = fired(first, absent(NOW + 30.0, again=False)).job
    assert [(request.mark, request.status) for request in second.requests] == [("mark-1", "void")]
    assert (second.state, second.failures, second.unanswered) == ("queued", 0, 1)
    assert second.not_before == NOW + 30.0 + POLICY.retry_first
    assert "HTTP 500" in second.reason


def test_twins_are_deleted() -> None:
    answered = fired(booting(), ServerCreated(NOW, "mark-1", "server-1", ("server-2", "server-3")))
    assert answered.job.server_id == "server-1"
    assert answered.effects == (NewEffect("delete_twins", ("server-2", "server-3")),)


@pytest.mark.parametrize(("attempt", "token"), [(2, "token-1"), (1, "token-9"), (1, "token-0")])
@pytest.mark.parametrize("report", [WorkerStarted, WorkerProgress, WorkflowFinished])
@pytest.mark.parametrize("state", ["booting", "running", "terminating"])
def test_reports_of_others_are_ignored(state: State, report: Any, attempt: int, token: str) -> None:
    void = CreateRequest("mark-0", "token-0", "void")
    job = job_in(state, requests=(void, CreateRequest("mark-1", "token-1", "sent")))
    assert fired(job, report(NOW, attempt, token, 1)).answer == "ignored"


def test_a_token_does_not_count_before_its_create_was_sent() -> None:
    assert fired(booting("ordered"), WorkerStarted(NOW, 1, "token-1", 1)).answer == "ignored"


def test_hearing_a_worker_adopts_its_request_and_voids_the_others() -> None:
    job = booting()
    job = replace(job, requests=(CreateRequest("mark-0", "token-0", "sent"), *job.requests))
    take_report = fired(job, WorkerStarted(NOW, 1, "token-1", 1, git_commit="abc")).job
    assert [request.status for request in take_report.requests] == ["void", "adopted"]
    assert (take_report.state, take_report.heard_at, take_report.git_commit) == ("running", NOW, "abc")
    assert take_report.deadline_at == NOW + 1000.0


def test_an_older_report_proves_life_and_changes_no_progress() -> None:
    job = job_in("running", seq=5, step=3, steps=4, heard_at=NOW - 100)
    late = fired(job, WorkerProgress(NOW, 1, "token-1", 4, step=2)).job
    assert (late.seq, late.step, late.heard_at) == (5, 3, NOW)
    newer = fired(job, WorkerProgress(NOW, 1, "token-1", 6, step=4)).job
    assert (newer.seq, newer.step, newer.steps) == (6, 4, 4)


@pytest.mark.parametrize(
    "event",
    [ServerLost(NOW, "server-9", ""), BootFailed(NOW, "server-9", ""), ServerActive(NOW, "server-9", "")],
)
@pytest.mark.parametrize("state", ["booting", "running"])
def test_observations_of_other_servers_are_ignored(state: State, event: Event) -> None:
    assert fired(job_in(state), event).answer == "ignored"
    assert fired(job_in(state, server_id=None), event).answer == "ignored"


@pytest.mark.parametrize(
    ("event", "verdict", "reason"),
    [
        (BootTimeout(NOW), "not_booted", "100 s (boot_timeout)"),
        (BootFailed(NOW, "server-1", "No valid host"), "not_booted", "No valid host"),
        (ServerLost(NOW, "server-1", "deleted"), "not_booted", "deleted"),
        (Cancel(NOW), "canceled", "canceled"),
        (
            WorkflowFinished(NOW, 1, "token-1", 1, outcome="workflow_failed", reason="exit 1"),
            "workflow_failed",
            "exit 1",
        ),
        (WorkflowFinished(NOW, 1, "token-1", 1), "succeeded", "succeeded"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_how_an_attempt_ends(event: Event, verdict: str, reason: str) -> None:
    job = fired(job_in("booting", deadline_at=NOW), event).job
    assert (job.state, job.verdict, job.outcome, job.deadline_at) == ("terminating", verdict, None, None)
    assert reason in job.reason


def test_a_run_timeout_is_the_workflows_own_failure() -> None:
    job = fired(job_in("running", run_timeout=60.0), RunTimeout(NOW)).job
    assert job.verdict == "workflow_failed"
    assert "60 s (run_timeout)" in job.reason


def test_leaving_booting_withdraws_a_create_that_was_not_sent() -> None:
    assert fired(booting("ordered"), Cancel(NOW)).job.requests[0].status == "void"
    assert fired(booting("sent"), Cancel(NOW)).job.requests[0].status == "sent"


def test_a_late_result_replaces_a_system_failure_and_nothing_else() -> None:
    result = WorkflowFinished(NOW, 1, "token-1", 3, outputs={"count": 7}, exit_code=0)
    late = fired(job_in("terminating"), result).job
    assert (late.verdict, late.output_object, late.exit_code) == ("succeeded", {"count": 7}, 0)
    for verdict in ("succeeded", "workflow_failed", "canceled"):
        assert fired(job_in("terminating", verdict=verdict), result).answer == "ignored"
    again = WorkflowFinished(NOW, 1, "token-1", 3, outcome="system_failed")
    assert fired(job_in("terminating"), again).answer == "ignored"


def test_a_cancel_wins_over_a_pending_retry_and_over_no_result() -> None:
    assert fired(job_in("terminating"), Cancel(NOW)).job.verdict == "canceled"
    for verdict in ("succeeded", "workflow_failed", "canceled"):
        assert fired(job_in("terminating", verdict=verdict), Cancel(NOW)).answer == "ignored"


@pytest.mark.parametrize(
    ("verdict", "failures", "state", "outcome"),
    [
        ("succeeded", 0, "done", "succeeded"),
        ("workflow_failed", 0, "failed", "workflow_failed"),
        ("canceled", 0, "failed", "canceled"),
        ("system_failed", 0, "queued", None),
        ("system_failed", 1, "queued", None),
        ("system_failed", 2, "failed", "system_failed"),
    ],
)
def test_what_comes_after_the_server_is_gone(
    verdict: Outcome, failures: int, state: State, outcome: Outcome
) -> None:
    job = fired(
        job_in("terminating", verdict=verdict, failures=failures, attempts=3), ServerGone(NOW, "server-1")
    ).job
    assert (job.state, job.outcome, job.verdict) == (state, outcome, None)
    assert (job.requests, job.server_id) == ((), None), "its tokens are void"
    assert job.failures == failures + (verdict == "system_failed")


@pytest.mark.parametrize(("failures", "wait"), [(0, 10.0), (1, 20.0), (2, 40.0), (3, 60.0), (9, 60.0)])
def test_the_back_off_doubles_up_to_its_longest(failures: int, wait: float) -> None:
    job = fired(job_in("terminating", failures=failures, attempts=20), ServerGone(NOW, None)).job
    assert job.not_before == NOW + wait


def test_a_retry_starts_the_count_again_and_no_serial() -> None:
    job = fired(job_in("failed", attempt=3), Retry(NOW)).job
    assert (job.state, job.failures, job.attempt, job.outcome) == ("queued", 0, 3, None)
    assert fired(job_in("failed", runnable=False), Retry(NOW)).answer == "refused"


def test_a_workers_word_outweighs_a_refusal_and_an_older_absence() -> None:
    take_report = fired(
        replace(booting(), requests=(CreateRequest("mark-1", "token-1", "sent", absent_since=1.0),)),
        WorkflowFinished(NOW, 1, "token-1", 1),
    ).job
    assert fired(take_report, CreateRefused(NOW, "mark-1", "capacity", "")).answer == "ignored"
    looked = fired(take_report, CreateAbsent(NOW, "mark-1", 30.0, "HTTP 500", True, "mark-2", "token-2")).job
    assert looked.requests[0].status == "adopted"
    assert looked.requests[0].absent_since == NOW


def test_events_carry_their_time_first() -> None:
    assert all(fields(event)[0].name == "at" for event in EVENTS)
