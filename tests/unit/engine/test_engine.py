"""The rules between the machine and the world, over the ledger in memory and over the real store."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import pytest

from lando.cloud.interface import Quota, Share, Size
from lando.engine import boot_times
from lando.engine.admission import Admission, server_name
from lando.engine.deadlines import overdue
from lando.engine.engine import Engine, Taken
from lando.engine.ledger import Effect, Hold, Ledger
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    CreateRejected,
    DeleteServers,
    FetchConsole,
    FindServers,
    Gone,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
    StillExists,
    Trouble,
)
from lando.engine.outbox import CONSOLE_TRIES, Outbox
from lando.engine.pace import Pace
from lando.engine.quota import QuotaHeadroom
from lando.errors import UsageError
from lando.messages import Message
from lando.states.events import (
    BootFailed,
    BootTimeout,
    CreateSent,
    Event,
    RunTimeout,
    ServerActive,
    WorkerLost,
)
from lando.states.job import Job, JobSpec
from lando.states.records import replace
from lando.states.table import Policy
from lando.store.pending import StaleRecord
from lando.store.store import Store
from lando.store.transaction import MAX_LOG, Transaction
from tests.model.ledger import MemoryLedger

NOW = 10_000.0
POLICY = Policy(boot_timeout=100.0, run_timeout=None, retry_first=10.0, retry_longest=600.0, hold=30.0)
PACE = Pace(poll=2.0, first=1.0, longest=60.0, settle=30.0, silence=600.0, heartbeat=30.0)


class FullLedger(Ledger, Protocol):
    """The ledger, and the outbox as the daemon reads it."""

    def next_effects(self) -> list[Effect]: ...


Open = Callable[[], AbstractContextManager[FullLedger]]


@pytest.fixture(scope="module")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is migrated, once: that takes longer than any test here."""
    path = tmp_path_factory.mktemp("fresh") / "lando.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def store(fresh_database: Path, tmp_path: Path) -> Iterator[Store]:
    path = shutil.copy(fresh_database, tmp_path / "lando.db")
    store = Store(f"sqlite:///{path}")
    yield store
    store.close()


@pytest.fixture(params=["memory", "sqlite"])
def ledgers(request: pytest.FixtureRequest) -> Open:
    """Opens a transaction."""
    if request.param == "sqlite":
        transaction: Open = request.getfixturevalue("store").transaction
        return transaction
    memory = MemoryLedger()
    return lambda: contextlib.nullcontext(memory)


def accept(body: Mapping[str, Any]) -> JobSpec:
    if "broken" in body:
        raise UsageError(str(body["broken"]))
    return JobSpec("https://example.org/a.git", ".", {}, "a.cwl", **body)


def new_engine(**more: Any) -> Engine:
    secrets = (f"secret-{number}" for number in itertools.count(1))
    return Engine(POLICY, PACE, accept, lambda: next(secrets), **more)


class Rules:
    """An engine over a ledger, told what happens in the words of a test."""

    def __init__(self, ledgers: Open, **more: Any) -> None:
        self.ledgers = ledgers
        self.engine = new_engine(**more)
        self.outbox = Outbox(self.engine)
        self.now = NOW

    def take(self, type: str, job: str | None = None, **more: Any) -> Taken:
        return self.deliver(Message(type, more.pop("body", {}), job, sent_at=1.0, **more))

    def deliver(self, message: Message) -> Taken:
        with self.ledgers() as ledger:
            return self.engine.take(ledger, message, self.now)

    def submit(self, job: str, **body: Any) -> Taken:
        return self.take("start_worker", job, body=body)

    def report(self, type: str, job: str, seq: int = 1, **body: Any) -> Taken:
        record = self.job(job)
        token = record.requests[-1].token
        return self.take(type, job, attempt=record.attempt, token=token, seq=seq, body=body)

    def job(self, job_id: str) -> Job:
        with self.ledgers() as ledger:
            job = ledger.job(job_id)
        assert job is not None
        return job

    def fire(self, job_id: str, event: Event) -> None:
        with self.ledgers() as ledger:
            job = ledger.job(job_id)
            assert job is not None
            self.engine.fire(ledger, job, event)

    def admit(self, places: int = 1, room: QuotaHeadroom | None = None) -> list[str]:
        with self.ledgers() as ledger:
            self.admission = Admission(self.engine, places).admit(ledger, self.now, 100, room)
        return [job.id for job in self.admission.jobs]

    def hold(self) -> Hold | None:
        with self.ledgers() as ledger:
            return ledger.hold()

    def effects(self) -> list[Effect]:
        with self.ledgers() as ledger:
            return ledger.next_effects()

    def begin(self) -> tuple[Effect, Operation | None]:
        with self.ledgers() as ledger:
            effect = ledger.next_effects()[0]
            return effect, self.outbox.begin(ledger, effect, self.now)

    def conclude(self, result: OperationResult) -> Operation | None:
        """The next effect gets this result, whatever it asks for."""
        effect, operation = self.begin()
        assert operation is not None
        with self.ledgers() as ledger:
            self.outbox.conclude(ledger, effect, operation, result, self.now)
        return operation

    def overdue(self, listening_since: float) -> list[Any]:
        with self.ledgers() as ledger:
            jobs = ledger.jobs_in(("booting", "running"))
        return [
            event
            for _, event in overdue(jobs, self.now, listening_since, self.engine.policy, self.engine.pace)
        ]

    def boot(self, job: str = "a", server: str = "server-1", **body: Any) -> None:
        self.submit(job, **body)
        self.admit(places=100)
        self.conclude(Created(server))

    def run(self, job: str = "a", **body: Any) -> None:
        self.boot(job, **body)
        self.report("worker_started", job)


@pytest.fixture
def rules(ledgers: Open) -> Rules:
    return Rules(ledgers)


# messages


def test_a_job_is_taken_with_what_its_file_says(rules: Rules) -> None:
    assert rules.submit("a", attempts=5, priority=7, boot_timeout=9.0, run_timeout=8.0).disposition == "taken"
    job = rules.job("a")
    assert (job.state, job.attempts, job.priority, job.boot_timeout, job.run_timeout) == (
        "queued",
        5,
        7,
        9.0,
        8.0,
    )
    assert job.submitted_at == job.entered_at == NOW, "the sender's clock is not used"


def test_a_message_has_its_effect_once(rules: Rules) -> None:
    rules.submit("a")
    cancel, retry = Message("cancel_job", job="a"), Message("retry_job", job="a")
    assert rules.deliver(cancel).disposition == "taken"
    assert rules.deliver(retry).disposition == "taken"
    assert rules.deliver(cancel).disposition == "duplicate"
    assert rules.deliver(retry).disposition == "duplicate"
    assert rules.job("a").state == "queued"


def test_a_job_submitted_again_under_its_id_is_a_duplicate(rules: Rules) -> None:
    rules.submit("a", priority=1)
    assert rules.submit("a", priority=2).disposition == "duplicate"
    assert rules.job("a").priority == 1


def test_a_job_that_cannot_be_run_fails_and_says_why(rules: Rules) -> None:
    assert rules.submit("a", broken="cd: missing").disposition == "refused"
    job = rules.job("a")
    assert (job.state, job.outcome, job.reason, job.runnable) == (
        "failed",
        "workflow_failed",
        "cd: missing",
        False,
    )
    assert rules.take("retry_job", "a").disposition == "refused"


def test_a_cancel_that_overtakes_its_start_is_remembered(rules: Rules) -> None:
    assert rules.take("cancel_job", "a").disposition == "taken"
    rules.submit("a")
    assert (rules.job("a").state, rules.job("a").outcome) == ("failed", "canceled")
    assert rules.admit() == []


def test_a_retry_of_an_unknown_job_is_ignored(rules: Rules) -> None:
    assert rules.take("retry_job", "nobody").disposition == "ignored"


def test_a_report_about_an_unknown_job_is_perhaps_somebody_elses(rules: Rules) -> None:
    taken = rules.take("worker_progress", "nobody", attempt=1, token="t", seq=1)
    assert taken.disposition == "unknown"
    assert "does another daemon serve the queue" in taken.detail


def test_a_report_that_is_ignored_leaves_no_row(rules: Rules) -> None:
    rules.boot()
    for number in range(2):
        taken = rules.take("worker_progress", "a", id="same", attempt=1, token="wrong", seq=number + 1)
        assert taken.disposition == "ignored"


def test_terminate_worker_cancels_the_job_of_that_server(rules: Rules) -> None:
    rules.boot()
    assert rules.take("terminate_worker", body={"vm_name": "lando-b-1"}).disposition == "ignored"
    assert rules.take("terminate_worker", body={"vm_name": server_name("a", 1)}).disposition == "taken"
    assert (rules.job("a").state, rules.job("a").verdict) == ("terminating", "canceled")


def test_shutdown_is_told_to_the_daemon_once(rules: Rules) -> None:
    shutdown = Message("shutdown_server")
    assert rules.deliver(shutdown).disposition == "shutdown"
    assert rules.deliver(shutdown).disposition == "duplicate"


def test_a_clean_run_is_told_by_its_history(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    rules.report("workflow_finished", "a", 2, outcome="succeeded", exit_code=0, outputs={"count": 1})
    rules.conclude(Gone())
    with store.reading() as queries:
        history = [(change.source, change.target) for change in queries.history("a")]
    assert history == [
        (None, "queued"),
        ("queued", "booting"),
        ("booting", "running"),
        ("running", "terminating"),
        ("terminating", "done"),
    ]
    assert (rules.job("a").outputs, rules.job("a").exit_code) == ({"count": 1}, 0)
    assert rules.effects() == []


# logs


def test_a_log_piece_counts_once_and_only_from_the_jobs_own_worker(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    rules.report("worker_progress", "a", 2, log="hello")
    rules.report("worker_progress", "a", 2, log="hello")
    rules.take("worker_progress", "a", attempt=1, token="another", seq=3, body={"log": "intruder"})
    with store.reading() as queries:
        assert queries.log("a") == [(1, 2, "hello")]


def test_the_newest_megabyte_of_a_log_is_kept(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    third = MAX_LOG // 3
    for seq in range(2, 8):
        rules.report("worker_progress", "a", seq, log=str(seq) * third)
    with store.reading() as queries:
        kept = queries.log("a")
    assert [seq for _, seq, _ in kept] == [5, 6, 7]
    assert sum(len(text) for _, _, text in kept) <= MAX_LOG


def test_one_enormous_piece_of_log_is_cut(store: Store) -> None:
    with store.transaction() as ledger:
        ledger.insert_job(Job("a"), {}, None)
        ledger.append_log("a", 1, 1, "x" * MAX_LOG + "the end")
    with store.reading() as queries:
        ((_, _, text),) = queries.log("a")
    assert len(text) == MAX_LOG
    assert text.endswith("the end")


# admission


def test_admission_goes_by_priority_and_then_by_arrival(rules: Rules) -> None:
    for job, priority in (("a", 0), ("b", 5), ("c", 5), ("d", -1)):
        rules.submit(job, priority=priority)
    assert rules.admit(places=3) == ["b", "c", "a"]
    assert rules.admit(places=3) == []
    assert rules.admit(places=4) == ["d"]


def test_a_place_is_free_when_a_job_has_left_the_cloud_and_no_earlier(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    assert rules.admit() == []
    rules.report("workflow_finished", "a", 2, outcome="succeeded")
    assert rules.admit() == [], "its server still exists"
    rules.conclude(Gone())
    assert rules.admit() == ["b"]


def test_nobody_is_admitted_before_the_back_off_has_ended(rules: Rules) -> None:
    rules.run("a")
    rules.report("workflow_finished", "a", 2, outcome="system_failed")
    rules.conclude(Gone())
    rules.submit("b")
    assert rules.admit() == ["b"], "who waits does not block others"
    rules.now = NOW + 9.9
    assert rules.admit(places=9) == []
    rules.now = NOW + 10.0
    assert rules.admit(places=9) == ["a"]
    assert rules.job("a").attempt == 2


@pytest.mark.parametrize("kind", ["quota", "rate_limit", "site", "unreachable"])
def test_what_refuses_one_job_refuses_all_and_holds_admission(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.submit("b")
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected(kind, "so they say", retry_after=5.0))
    assert rules.admit(places=9) == []
    rules.now += 5.0
    assert rules.admit(places=9) == ["a"], "it kept its place, and tries alone whether it is still so"
    assert rules.admit(places=9) == [], "until a server was created"
    rules.conclude(Created("server-1"))
    assert rules.hold() is None
    assert rules.admit(places=9) == ["b"]


def test_each_vain_try_holds_admission_longer(rules: Rules) -> None:
    rules.submit("a")
    waits = []
    for _ in range(6):
        assert rules.admit() == ["a"]
        rules.conclude(CreateRejected("site", "no image named lando"))
        hold = rules.hold()
        assert hold is not None and "no image named lando" in hold.reason
        waits.append(hold.until - rules.now)
        rules.now = hold.until
    assert waits == [min(PACE.site_longest, POLICY.hold * 2**n) for n in range(6)]


def test_a_try_whose_answer_is_lost_ends_the_hold(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected("rate_limit", "too many calls", retry_after=5.0))
    rules.now += 5.0
    assert rules.admit(places=9) == ["a"]
    rules.conclude(AnswerLost("timed out"))
    assert rules.admit(places=9) == ["b", "c"]


def test_creates_that_are_refused_together_are_one_vain_try(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit(places=3) == ["a", "b", "c"]
    for _ in "abc":
        rules.conclude(CreateRejected("unreachable", "no route"))
    hold = rules.hold()
    assert hold is not None and (hold.times, hold.until) == (1, NOW + POLICY.hold)
    rules.now = hold.until
    assert rules.admit(places=3) == ["a"]


def test_a_quota_that_is_used_up_is_tried_again_when_a_server_is_gone(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    rules.admit(places=9)
    rules.conclude(CreateRejected("quota", "2 of 2 servers"))
    assert rules.admit(places=9) == []
    rules.take("cancel_job", "a")
    rules.conclude(Gone())
    assert rules.admit(places=9) == ["b"]


def test_a_request_that_was_not_sent_is_never_late(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.now += 10 * POLICY.boot_timeout
    assert rules.overdue(listening_since=0.0) == []
    rules.begin()
    assert rules.job("a").deadline_at == rules.now + POLICY.boot_timeout, "its time runs from here on"
    rules.now += POLICY.boot_timeout
    assert rules.overdue(listening_since=0.0) == [BootTimeout(rules.now)]


def test_what_has_no_room_waits_alone_and_ever_longer(rules: Rules) -> None:
    rules.submit("a", attempts=1)
    waits = []
    for _ in range(7):
        assert rules.admit() == ["a"]
        rules.conclude(Created("server-1"))
        rules.fire("a", BootFailed(rules.now, "server-1", "No valid host was found.", no_capacity=True))
        rules.conclude(Console(""))
        rules.conclude(Gone())
        job = rules.job("a")
        assert (job.state, job.failures) == ("queued", 0)
        assert "No valid host" in job.reason
        waits.append(job.not_before - rules.now)
        rules.now = job.not_before
    assert waits == [min(POLICY.hold_longest, POLICY.hold * 2**n) for n in range(7)]
    rules.admit()
    rules.conclude(Created("server-2"))
    rules.fire("a", ServerActive(rules.now, "server-2", "192.0.2.1"))
    assert rules.job("a").misses == 0


@pytest.mark.parametrize("kind", ["capacity", "job"])
def test_what_refuses_one_job_alone_holds_nobody_else(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.submit("b")
    rules.admit()
    rules.conclude(CreateRejected(kind, ""))
    assert rules.admit() == ["b"]


def test_every_attempt_has_a_mark_and_a_token_of_its_own(rules: Rules) -> None:
    rules.submit("a")
    rules.submit("b")
    rules.admit(places=2)
    requests = [request for job in "ab" for request in rules.job(job).requests]
    secrets = {secret for request in requests for secret in (request.mark, request.token)}
    assert len(secrets) == 4
    assert [rules.job(job).server_name for job in "ab"] == ["lando-a-1", "lando-b-1"]


# room in the quota


def room(servers: int = 5, cores: int | None = None, others: int = 0, **sizes: Size) -> QuotaHeadroom:
    quota = Quota(Share(0, servers), Share(0, cores), Share(0, None))
    return QuotaHeadroom(quota, Size(others, others, 0), {None: Size(1, 1, 512), **sizes})


def test_no_more_are_admitted_than_the_quota_has_room_for(rules: Rules) -> None:
    for job in "abcd":
        rules.submit(job)
    assert rules.admit(places=9, room=room(servers=3, others=1)) == ["a", "b"]
    assert rules.admission.obstacle == (
        "waits for the project's quota: 3 of 3 VMs are in use, 1 of them by others"
    )
    assert rules.admit(places=9, room=room(servers=3)) == ["c"], "the other one is gone"
    assert rules.admit(places=9, room=room(servers=3)) == []
    assert rules.admission.obstacle == "waits for the project's quota: 3 of 3 VMs are in use"


def test_a_server_counts_until_it_is_gone_even_if_the_cloud_does_not_know_it_yet(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    assert rules.admit(places=9, room=room(servers=1)) == []
    rules.take("cancel_job", "a")
    assert rules.admit(places=9, room=room(servers=1)) == []
    rules.conclude(Gone())
    assert rules.admit(places=9, room=room(servers=1)) == ["b"]


def test_nobody_is_admitted_before_it_is_known_how_large_a_server_he_takes(rules: Rules) -> None:
    rules.submit("a", flavor="large")
    rules.submit("b")
    assert rules.admit(places=9, room=room(cores=5)) == []
    assert "size of its flavor" in (rules.admission.obstacle or "")
    assert rules.admit(places=9, room=room(cores=5, large=Size(1, 4, 512))) == ["a", "b"]


def test_nobody_overtakes_the_one_for_whom_there_is_no_room(rules: Rules) -> None:
    rules.submit("a", flavor="large")
    rules.submit("b")
    here = room(cores=4, others=1, large=Size(1, 4, 512))
    assert rules.admit(places=9, room=here) == []
    assert rules.admission.obstacle == (
        "waits for the project's quota: 1 of 4 cores are in use, 1 of them by others, and this job needs 4"
    )


def test_what_is_larger_than_the_whole_quota_is_for_the_cloud_to_refuse(rules: Rules) -> None:
    rules.submit("a", flavor="huge")
    assert rules.admit(places=9, room=room(cores=4, huge=Size(1, 8, 512))) == ["a"]


# floating IPs


@pytest.fixture
def with_pool(rules: Rules) -> Rules:
    rules.engine.policy = replace(rules.engine.policy, floating_ip=True)
    return rules


def test_a_server_that_is_up_gets_a_floating_ip_once(with_pool: Rules) -> None:
    rules = with_pool
    rules.boot()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    mark = rules.job("a").requests[0].mark
    assert rules.job("a").floating_ip == mark, "recorded before it is used"
    assert rules.conclude(Attached("192.0.2.1")) == AttachFloatingIp("server-1", mark)
    assert rules.job("a").server_ip == "192.0.2.1"
    assert rules.effects() == []


def test_a_floating_ip_is_released_before_the_job_leaves_the_cloud(with_pool: Rules) -> None:
    rules = with_pool
    rules.run()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    rules.conclude(Attached("192.0.2.1"))
    mark = rules.job("a").floating_ip
    rules.take("cancel_job", "a")
    assert rules.conclude(StillExists()) == DeleteServers(("server-1",), mark)
    assert rules.job("a").state == "terminating"
    rules.now += 600
    assert rules.conclude(Gone()) == DeleteServers(("server-1",), mark)
    assert (rules.job("a").state, rules.job("a").floating_ip) == ("failed", None)


def test_a_floating_ip_that_is_not_to_be_had_delays_no_deletion(with_pool: Rules) -> None:
    rules = with_pool
    rules.run()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    for _ in range(6):
        assert isinstance(rules.conclude(Trouble("the pool is empty")), AttachFloatingIp)
        rules.now = max(rules.now, rules.effects()[0].due_at - 0.01)
    rules.take("cancel_job", "a")
    assert rules.effects()[0].due_at <= rules.now
    assert rules.begin()[1] is None, "nobody needs it any more"
    assert isinstance(rules.conclude(Gone()), DeleteServers)
    assert rules.job("a").outcome == "canceled"


def test_an_attach_that_fails_when_the_job_has_ended_is_not_tried_again(with_pool: Rules) -> None:
    rules = with_pool
    rules.run()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    effect, operation = rules.begin()
    rules.take("cancel_job", "a")
    with rules.ledgers() as ledger:
        rules.outbox.conclude(ledger, effect, operation, Trouble("no answer", retry_after=3600.0), rules.now)
    assert [effect.kind for effect in rules.effects()] == ["delete_server"]


def test_without_a_pool_there_is_none(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    assert rules.begin()[1] is None
    assert rules.job("a").floating_ip is None


# deletions


def test_a_list_without_the_server_makes_the_deletion_be_asked_about(rules: Rules) -> None:
    rules.run("a")
    rules.take("cancel_job", "a")
    rules.conclude(StillExists())
    due = rules.effects()[0].due_at
    assert due > rules.now
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, {"server-1", "server-2"}, rules.now)
    assert rules.effects()[0].due_at == due, "it is still listed"
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, {"server-2"}, rules.now)
    assert rules.effects()[0].due_at == rules.now


def test_a_twin_that_does_not_go_keeps_no_server(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("timed out"))
    rules.conclude(Listed(("server-1", "server-2")))
    rules.take("cancel_job", "a")
    assert rules.conclude(Trouble("it is locked")) == DeleteServers(("server-1", "server-2"))
    assert rules.job("a").state == "terminating", "the twin exists"


def test_a_deletion_that_the_cloud_wants_to_wait_is_not_hurried(rules: Rules) -> None:
    rules.run("a")
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("too many calls", retry_after=60.0))
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, set(), rules.now)
    assert rules.effects()[0].due_at == rules.now + 60.0


# how long a boot may take


def test_the_boot_timeout_is_learned_within_bounds(ledgers: Open) -> None:
    rules = Rules(ledgers, learns_boot=True)
    seen = []
    for number in range(boot_times.ENOUGH + 1):
        job = f"job-{number}"
        rules.boot(job, f"server-{number}")
        rules.now += 100.0 + number
        rules.report("worker_started", job)
        seen.append(rules.engine.policy.boot_timeout)
    assert seen[: boot_times.ENOUGH - 1] == [boot_times.MOST] * (boot_times.ENOUGH - 1)
    assert seen[boot_times.ENOUGH - 1 :] == [3 * 104.0, 3 * 105.0]
    rules.boot("slow", "server-slow")
    rules.fire("slow", BootTimeout(rules.now))
    assert rules.engine.policy.boot_timeout == boot_times.MOST, "what was learned is doubted"
    assert boot_times.timeout([1.0] * 9) == boot_times.LEAST
    assert boot_times.timeout([9000.0] * 9) == boot_times.MOST


# deadlines


def test_booting_is_given_up_after_its_time(rules: Rules) -> None:
    rules.boot("a")
    rules.boot("b", "server-2", boot_timeout=5.0)
    rules.now = NOW + 5.0
    assert rules.overdue(listening_since=0.0) == [BootTimeout(rules.now)]
    rules.now = NOW + 99.9
    assert len(rules.overdue(listening_since=0.0)) == 1
    rules.now = NOW + 100.0
    assert len(rules.overdue(listening_since=0.0)) == 2


def test_no_verdict_for_time_in_which_nobody_listened(rules: Rules) -> None:
    rules.boot()
    rules.now = NOW + 1000.0
    assert rules.overdue(listening_since=NOW + 950.0) == []
    assert rules.overdue(listening_since=NOW + 900.0) == [BootTimeout(rules.now)]


def test_silence_counts_from_the_last_word_and_only_while_listening(rules: Rules) -> None:
    rules.run()
    rules.now = NOW + 300.0
    rules.report("worker_progress", "a", 2)
    rules.now = NOW + 899.0
    assert rules.overdue(listening_since=0.0) == []
    rules.now = NOW + 900.0
    assert rules.overdue(listening_since=0.0) == [WorkerLost(rules.now, 600.0)]
    assert rules.overdue(listening_since=NOW + 301.0) == [], "it starts again in full after a reconnect"
    rules.now = NOW + 901.0
    assert rules.overdue(listening_since=NOW + 301.0) == [WorkerLost(rules.now, 600.0)]


def test_a_run_timeout_is_exact_while_the_daemon_listened(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    rules.now = NOW + 49.9
    assert rules.overdue(listening_since=NOW) == []
    rules.now = NOW + 50.0
    assert rules.overdue(listening_since=NOW) == [RunTimeout(rules.now)]


def test_after_a_reconnect_a_result_that_is_on_its_way_gets_its_chance(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    back = NOW + 500.0
    rules.now = back + 59.9
    assert rules.overdue(listening_since=back) == []
    rules.now = back + 60.0
    assert rules.overdue(listening_since=back) == [RunTimeout(rules.now)]


def test_what_neither_boots_nor_runs_has_no_deadline(rules: Rules) -> None:
    rules.boot()
    rules.take("cancel_job", "a")
    rules.now = NOW + 1e6
    with rules.ledgers() as ledger:
        jobs = ledger.jobs_in(("queued", "booting", "running", "terminating", "done", "failed"))
    assert len(jobs) == 1
    assert overdue(jobs, rules.now, 0.0, rules.engine.policy, rules.engine.pace) == []


# effects


def test_a_create_is_known_as_sent_before_it_is_sent(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    _, operation = rules.begin()
    request = rules.job("a").requests[0]
    assert request.status == "sent"
    assert isinstance(operation, SendCreate)
    assert (operation.mark, operation.token, operation.job.id) == (request.mark, request.token, "a")
    _, again = rules.begin()
    assert again == FindServers(request.mark), "its answer was lost: it is looked for"


def test_a_lost_answer_is_looked_for_at_once_and_twice_a_settle_time_apart(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("timed out"))
    assert rules.effects()[0].due_at == NOW
    assert isinstance(rules.conclude(Listed(())), FindServers)
    assert rules.effects()[0].due_at == NOW + PACE.settle
    assert len(rules.job("a").requests) == 1
    rules.now += PACE.settle
    rules.conclude(Listed(()))
    assert [request.status for request in rules.job("a").requests] == ["void", "ordered"]
    assert rules.effects()[0].due_at == rules.now, "the new request goes out at once"
    assert isinstance(rules.conclude(Created("server-2")), SendCreate)
    assert (rules.job("a").server_id, rules.effects()) == ("server-2", [])


def test_a_list_that_failed_concludes_nothing(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost(""))
    rules.conclude(Listed(()))
    rules.now += PACE.settle
    rules.conclude(Trouble("no list"))
    assert [request.status for request in rules.job("a").requests] == ["sent"]


def test_twins_are_deleted_before_the_server(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost(""))
    rules.take("cancel_job", "a")
    assert [effect.kind for effect in rules.effects()] == ["create_server"]
    rules.conclude(Listed(("server-3", "server-2")))
    assert rules.conclude(Gone()) == DeleteServers(("server-2", "server-3")), "its own, too: it need not wait"
    assert rules.job("a").state == "terminating"
    assert rules.conclude(Gone()) == DeleteServers(("server-2",))
    assert (rules.job("a").state, rules.effects()) == ("failed", [])


def test_effects_of_a_job_go_singly_and_in_order_the_deletion_last(ledgers: Open) -> None:
    with ledgers() as ledger:
        for job in "ab":
            ledger.insert_job(Job(job), {}, None)
        ledger.add_effect("a", "delete_server", (), 5.0)
        ledger.add_effect("a", "save_console_log", (), 9.0)
        ledger.add_effect("b", "create_server", (), 7.0)
        ledger.add_effect("a", "delete_twins", ("x",), 1.0)
    order = []
    with ledgers() as ledger:
        while effects := ledger.next_effects():
            assert len({effect.job_id for effect in effects}) == len(effects)
            assert effects == sorted(effects, key=lambda effect: (effect.due_at, effect.id))
            order.append(effects[-1].kind)
            ledger.remove_effect(effects[-1])
    assert order == ["save_console_log", "create_server", "delete_twins", "delete_server"]


def test_a_deletion_is_looked_at_until_the_server_is_gone(rules: Rules) -> None:
    rules.run()
    rules.report("workflow_finished", "a", 2, outcome="succeeded")
    for _ in range(3):
        assert rules.conclude(StillExists()) == DeleteServers(("server-1",))
        (effect,) = rules.effects()
        assert (effect.due_at, effect.tries) == (rules.now + PACE.poll, 0)
        rules.now = effect.due_at
    rules.conclude(Gone())
    assert rules.job("a").state == "done"


def test_a_deletion_is_never_given_up_and_backs_off(rules: Rules) -> None:
    rules.run()
    rules.take("cancel_job", "a")
    waits = []
    for _ in range(40):
        rules.conclude(Trouble("no answer"))
        (effect,) = rules.effects()
        waits.append(effect.due_at - rules.now)
        rules.now = effect.due_at
    assert waits[:8] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert set(waits[8:]) == {60.0}
    assert rules.job("a").state == "terminating"


def test_the_cloud_says_how_long_to_wait(rules: Rules) -> None:
    rules.run()
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("too many calls", retry_after=17.0))
    assert rules.effects()[0].due_at == NOW + 17.0


def test_the_console_is_saved_before_the_server_is_deleted(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", BootTimeout(NOW))
    assert rules.conclude(Console("kernel panic")) == FetchConsole("server-1")
    assert rules.conclude(Gone()) == DeleteServers(("server-1",))
    assert rules.job("a").state == "queued"


def test_a_console_is_asked_for_a_few_times_only(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", BootTimeout(NOW))
    for _ in range(CONSOLE_TRIES):
        assert rules.conclude(Trouble("no console")) == FetchConsole("server-1")
    assert rules.conclude(Gone()) == DeleteServers(("server-1",))


def test_a_create_that_was_not_sent_never_is_once_the_job_is_canceled(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.take("cancel_job", "a")
    assert rules.begin()[1] is None, "the create is withdrawn"
    assert rules.begin()[1] is None, "there is no server to delete"
    assert (rules.job("a").state, rules.effects()) == ("failed", [])


def test_a_worker_that_was_faster_than_the_answer_to_its_create(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    effect, operation = rules.begin()
    assert operation is not None
    rules.report("worker_started", "a")
    assert rules.job("a").state == "running"
    with rules.ledgers() as ledger:
        rules.outbox.conclude(ledger, effect, operation, Created("server-1"), NOW)
    assert (rules.job("a").server_id, rules.effects()) == ("server-1", [])


# transactions


def test_ignored_events_write_nothing(rules: Rules) -> None:
    rules.run()
    before = rules.job("a")
    assert rules.take("worker_started", "a", attempt=1, token="another", seq=1).disposition == "ignored"
    assert rules.take("retry_job", "a").disposition == "refused"
    assert rules.job("a") == before


def test_a_record_that_somebody_else_changed_is_not_overwritten(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.submit("a")
    rules.admit()
    stale = rules.job("a")
    rules.take("cancel_job", "a")
    with pytest.raises(StaleRecord, match="job a"), store.transaction() as ledger:
        rules.engine.fire(ledger, stale, CreateSent(NOW, stale.requests[0].mark))
    assert rules.job("a").state == "terminating"


def test_a_part_that_fails_is_undone_alone(store: Store) -> None:
    engine = new_engine()

    def fail(transaction: Transaction) -> None:
        with transaction.part():
            engine.take(transaction, Message("start_worker", {}, "b"), NOW)
            raise RuntimeError("a bug")

    with store.transaction() as transaction:
        engine.take(transaction, Message("start_worker", {}, "a"), NOW)
        with pytest.raises(RuntimeError, match="a bug"):
            fail(transaction)
        assert [change.job_id for change in transaction.changes] == ["a"]
    with store.transaction() as transaction:
        assert [job.id for job in transaction.jobs_in(("queued",))] == ["a"]
