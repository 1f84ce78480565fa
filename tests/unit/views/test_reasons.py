"""Why a queued job does not start: holds, and the reservation of the quota, in the words of ``status``."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from lando.engine.boot_failures import BootFailure, BootFailures
from lando.engine.holds import Hold, Holds
from lando.engine.reservation import Reservation
from lando.states.job import Job
from lando.store.facts import Staying, UnknownResources, UnknownServer
from lando.store.queries import JobView
from lando.times import rfc3339
from lando.views.daemon_status import DaemonStatus
from lando.views.reasons import AdmissionOrder, reason

GPU = '{"flavor": "gpu"}'
FIRST, SECOND = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "12")
WORDS = "waits for the project's quota: 1 of 4 cores are in use, and this job needs 4"


def why(job: str, wishes: str = "", **order: object) -> str:
    values = {
        "live": 0,
        "max_workers": None,
        "holds": Holds(),
        "boot_failures": BootFailures(),
        "obstacle": None,
        **order,
    }
    admission = AdmissionOrder(positions={FIRST: 1, SECOND: 2}, **values)  # type: ignore[arg-type]
    view = JobView(1, Job(job, wishes=wishes), "a job", None, {}, None)
    return reason(view, admission, DaemonStatus(pid=1))


def soon(kind: str, own: bool = False) -> Hold:
    return Hold(kind, time.time() + 29.9, "no, says the cloud", own=own)  # type: ignore[arg-type]


def test_everybody_waits() -> None:
    said = "no job is started: no, says the cloud; retried in 30 s; position 2"
    assert why(SECOND, holds=Holds(soon("rate_limit"))) == said
    over = Holds(Hold("site", 0.0, "no, says the cloud"))
    assert why(FIRST, holds=over).startswith(
        "no job is started: no, says the cloud; being retried with one job"
    )


@pytest.mark.parametrize(
    ("own", "others"),
    [(True, "other jobs are accepted"), (False, "whether other jobs are accepted is being tried")],
)
def test_only_jobs_that_ask_for_the_same_wait(own: bool, others: str) -> None:
    holds = Holds(refused=((GPU, soon("quota", own)),))
    sooner = "retried in 30 s" + ("" if own else ", or as soon as one of our VMs is gone")
    same = f"no job that asks for the same is started: no, says the cloud; {sooner}; {others}; position 1"
    assert why(FIRST, GPU, holds=holds) == same
    turn = "waits for its turn" + (
        "" if own else "; one job at a time is started, since the cloud refused another one"
    )
    assert why(SECOND, holds=holds) == f"{turn}; position 2"


def test_the_quota_is_kept_free() -> None:
    kept = Reservation(FIRST, time.time(), 1800.0)
    until = rfc3339(kept.until)
    said = f"{WORDS}; the project's quota is kept free for it until {until}; position 1"
    assert why(FIRST, obstacle=WORDS, reservation=kept) == said
    behind = "waits behind job 11111111, for which the project's quota is kept free until"
    assert why(SECOND, obstacle=WORDS, reservation=kept) == f"{behind} {until}; position 2"


def test_a_job_is_not_started_while_the_cloud_has_a_server_that_the_database_does_not_know() -> None:
    ours = UnknownServer("s1", "lando-1", FIRST, 1, ours=True)
    has = "the cloud has VM lando-1 (s1) of its attempt 1, which this database does not know"
    said = f"not started while {has}: see `lando-fsm servers`; position 1"
    assert why(FIRST, unknown={FIRST: ours}) == said
    theirs = replace(ours, ours=False)
    said = f"not started while {has}: it carries another deployment's name; position 1"
    assert why(FIRST, unknown={FIRST: theirs}) == said
    assert why(SECOND, unknown={FIRST: ours}) == "waits for its turn; position 2"
    said = "not started while the cloud has VM lando-1 (s1), which this database does not know: see"
    assert why(FIRST, unknown={FIRST: replace(ours, attempt=None)}).startswith(said)


def test_a_job_waits_for_the_deletion_of_an_orphan_that_names_it() -> None:
    orphan = UnknownServer("s1", "lando-1", FIRST, 1, ours=True)
    said = (
        "not started before VM lando-1 (s1) of its attempt 1 is gone, an orphan that is deleted; position 1"
    )
    assert why(FIRST, orphans={FIRST: orphan}) == said
    assert why(SECOND, orphans={FIRST: orphan}) == "waits for its turn; position 2"


def test_what_is_unknown_is_a_line_of_status() -> None:
    first, second = (
        UnknownServer(f"s{job[0]}", f"vm-{job[0]}", job, 1, ours=True) for job in (FIRST, SECOND)
    )
    one = DaemonStatus(1, unknown=UnknownResources((first,)))
    left_alone = "left alone: see `lando-fsm servers`"
    assert one.problems == [
        (
            "1 VM of this deployment is unknown to this database",
            f"vm-1 (job {FIRST}, attempt 1); {left_alone}",
        )
    ]
    more = DaemonStatus(1, unknown=UnknownResources((first, second) * 2, floating_ips=2))
    ((problem, named),) = more.problems
    assert problem == "4 VMs and 2 floating IPs of this deployment are unknown to this database"
    assert named.endswith(f", and 1 more; {left_alone}")
    ((_, named),) = DaemonStatus(1, unknown=UnknownResources((replace(first, attempt=None),))).problems
    assert named.startswith(f"vm-1 (job {FIRST}); "), "a VM may name no attempt"
    theirs = UnknownResources((replace(first, ours=False),))
    assert DaemonStatus(1, unknown=theirs).problems == [], "it is no business of this deployment"


def test_jobs_behind_it_may_start() -> None:
    passed = Reservation(FIRST, time.time(), 1800.0, kept=False)
    said = f"{WORDS}; jobs behind it may start until {rfc3339(passed.until)}; position 1"
    assert why(FIRST, obstacle=WORDS, reservation=passed) == said
    turn = "waits for its turn, or for the project's quota, of which job 11111111 needs more than is left"
    assert why(SECOND, obstacle=WORDS, reservation=passed) == f"{turn}; position 2"


def test_a_service_that_does_not_answer_is_the_reason_while_everybody_is_held() -> None:
    silent = "no job is started at present: Neutron does not answer: HTTP 503"
    hold = Hold("unreachable", time.time() + 600.0, "no, says the cloud")
    assert why(SECOND, obstacle=silent, holds=Holds(everybody=hold)) == f"{silent}; position 2"


def test_a_reservation_is_not_the_reason_while_the_cloud_does_not_answer() -> None:
    silent = "no job is started at present: the cloud does not answer: no route"
    kept = Reservation(FIRST, time.time(), 1800.0)
    assert why(SECOND, obstacle=silent, reservation=kept) == f"{silent}; position 2"


def test_servers_that_do_not_boot_are_told_with_since_when_and_why() -> None:
    since = 1_700_000_000.0
    failures = BootFailures(
        jobs=(BootFailure(FIRST, "", True), BootFailure(SECOND, "", True)),
        since=since,
        reason="HTTP 500: oops",
        until=time.time() + 29.9,
    )
    said = f"VMs have failed to boot since {rfc3339(since)} (2 jobs tried): HTTP 500: oops"
    assert why(SECOND, boot_failures=failures) == f"{said}; one job is tried in 30 s; position 2"
    due = replace(failures, until=0.0)
    assert why(FIRST, boot_failures=due) == f"{said}; being retried with one job; position 1"
    alone = replace(failures, jobs=failures.jobs[:1])
    assert why(FIRST, boot_failures=alone) == "waits for its turn; position 1"


def test_what_the_sweep_cannot_delete_is_a_problem() -> None:
    first = Staying("s1", "server lando-1 (s1)", 1_700_000_000.0, 9, "HTTP 409: locked")
    second = Staying("s2", "server lando-2 (s2)", 1_700_000_060.0, 1000, "")
    [(problem, words)] = DaemonStatus(1, staying=(second, first)).problems
    assert problem == "2 orphans have not been deleted since 2023-11-14T22:13:20.000Z, and may cost money"
    assert words == (
        "server lando-2 (s2): deletion requested 1,000 times since 2023-11-14T22:14:20.000Z, and it still "
        "exists: the last request was accepted; server lando-1 (s1): deletion requested 9 times since "
        "2023-11-14T22:13:20.000Z, and it still exists: HTTP 409: locked"
    )
    [(problem, words)] = DaemonStatus(1, staying=(first,) * 5).problems
    assert problem.startswith("5 orphans have") and words.endswith("and 2 more: see `lando-fsm servers`")
    [(problem, _)] = DaemonStatus(1, staying=(first,)).problems
    assert problem.startswith("1 orphan has")
    assert DaemonStatus(1).problems == []


def test_jobs_that_cannot_be_started_are_a_line_of_status_unless_the_cloud_is_silent() -> None:
    since = 1_700_000_000.0
    held = DaemonStatus(pid=1, no_start_since=since, no_start_reason="HTTP 503: oops")
    assert held.problems == [(f"no job has been started since {rfc3339(since)}", "HTTP 503: oops")]
    silent = replace(held, cloud_silent_since=since, cloud_silent_reason="no route")
    assert silent.problems == [(f"the cloud has not answered since {rfc3339(since)}", "no route")]
