"""What each effect asks of the cloud, and what the answer, or none, means for the job."""

from __future__ import annotations

import pytest

from lando.engine.boot_failures import UNANSWERED, BootFailures
from lando.engine.holds import Holds
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    DeleteServers,
    FetchConsole,
    FindServers,
    Gone,
    Listed,
    SendCreate,
    StillExists,
    Trouble,
)
from lando.engine.outbox import CONSOLE_TRIES, OTHER_SERVER
from lando.states.events import BootTimeout, ServerActive
from lando.states.job import Job
from lando.states.records import replace
from tests.support.engine_rules import NOW, PACE, POLICY, Open, Rules

# order


def test_effects_of_one_job_are_due_one_at_a_time_in_order_with_the_deletion_last(ledgers: Open) -> None:
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


# creates


def test_a_create_is_recorded_as_sent_before_it_is_sent_and_looked_for_afterwards(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    _, operation = rules.begin()
    request = rules.job("a").requests[0]
    assert request.status == "sent"
    assert isinstance(operation, SendCreate)
    assert (operation.mark, operation.token, operation.job.id) == (request.mark, request.token, "a")
    _, again = rules.begin()
    assert again == FindServers(request.mark), "its answer was lost: it is looked for"


def test_a_lost_create_is_sent_again_after_two_lists_without_it_a_settle_time_apart(rules: Rules) -> None:
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


def test_creates_that_get_lost_again_and_again_end_the_attempt(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    for _ in range(UNANSWERED):
        assert isinstance(rules.conclude(AnswerLost("timed out")), SendCreate)
        rules.conclude(Listed(()))
        rules.now += PACE.settle
        rules.conclude(Listed(()))
    job = rules.job("a")
    assert (job.state, job.failures, rules.effects()) == ("queued", 0, [])
    assert job.reason.endswith("no VM was made: timed out")
    assert rules.admit() == []
    rules.now += POLICY.retry_first
    assert rules.admit() == ["a"]
    assert isinstance(rules.conclude(Created("server-2")), SendCreate)
    assert (rules.job("a").server_id, rules.job("a").attempt, rules.effects()) == ("server-2", 2, [])


def test_a_create_that_the_daemon_did_not_send_says_nothing_of_the_cloud(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    for _ in range(2 * UNANSWERED):
        rules.begin()  # recorded as sent, and the daemon dies
        rules.conclude(Listed(()))
        rules.now += PACE.settle
        rules.conclude(Listed(()))
    assert rules.job("a").state == "booting"
    with rules.ledgers() as ledger:
        assert ledger.boot_failures() == BootFailures()


def test_a_list_that_failed_does_not_show_that_a_server_is_absent(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost(""))
    rules.conclude(Listed(()))
    rules.now += PACE.settle
    rules.conclude(Trouble("no list"))
    assert [request.status for request in rules.job("a").requests] == ["sent"]


def test_a_create_that_was_not_sent_is_withdrawn_when_the_job_is_canceled(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.take("cancel_job", "a")
    assert rules.begin()[1] is None, "the create is withdrawn"
    assert rules.begin()[1] is None, "there is no server to delete"
    assert (rules.job("a").state, rules.effects()) == ("failed", [])


def test_a_worker_that_reports_before_its_create_is_answered_starts_the_job(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    effect, operation = rules.begin()
    assert operation is not None
    rules.report("worker_started", "a")
    assert rules.job("a").state == "running"
    with rules.ledgers() as ledger:
        rules.outbox.conclude(ledger, effect, operation, Created("server-1"), NOW)
    assert (rules.job("a").server_id, rules.effects()) == ("server-1", [])


# deletions


def test_a_deletion_is_asked_about_until_the_server_is_gone(rules: Rules) -> None:
    rules.run()
    rules.report("workflow_finished", "a", 2, outcome="succeeded")
    for _ in range(3):
        assert rules.conclude(StillExists()) == DeleteServers(("server-1",))
        (effect,) = rules.effects()
        assert (effect.due_at, effect.tries) == (rules.now + PACE.poll, 0)
        rules.now = effect.due_at
    rules.conclude(Gone())
    assert rules.job("a").state == "done"


def test_a_deletion_that_fails_is_repeated_without_end_at_growing_intervals(rules: Rules) -> None:
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


def test_a_deletion_waits_as_long_as_the_cloud_says(rules: Rules) -> None:
    rules.run()
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("too many calls", retry_after=17.0))
    assert rules.effects()[0].due_at == NOW + 17.0


def test_a_list_without_the_server_does_not_shorten_the_wait_that_the_cloud_asked_for(rules: Rules) -> None:
    rules.run("a")
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("too many calls", retry_after=60.0))
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, set(), rules.now)
    assert rules.effects()[0].due_at == rules.now + 60.0


def test_a_deletion_that_failed_is_due_at_once_when_the_cloud_answers_again(rules: Rules) -> None:
    rules.run("a")
    rules.take("cancel_job", "a")
    for _ in range(9):
        rules.conclude(Trouble("no route"))
        rules.now = rules.effects()[0].due_at
    rules.conclude(Trouble("no route"))
    assert rules.effects()[0].due_at == rules.now + 60.0
    with rules.ledgers() as ledger:
        rules.outbox.cloud_answers(ledger, rules.now)
    assert rules.effects()[0].due_at == rules.now


def test_a_deletion_for_which_the_cloud_has_named_a_time_is_not_due_before(rules: Rules) -> None:
    rules.run("a")
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("too many calls", retry_after=600.0))
    with rules.ledgers() as ledger:
        rules.outbox.cloud_answers(ledger, rules.now)
    assert rules.effects()[0].due_at == rules.now + 600.0


@pytest.mark.parametrize("failures", [0, 3])
def test_a_list_without_the_server_makes_its_deletion_due_at_once(rules: Rules, failures: int) -> None:
    """Also after an outage, in which requests had failed before one was accepted."""
    rules.run("a")
    rules.take("cancel_job", "a")
    for _ in range(failures):
        rules.conclude(Trouble("no answer"))
        rules.now = rules.effects()[0].due_at
    rules.conclude(StillExists())
    due = rules.effects()[0].due_at
    assert due > rules.now
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, {"server-1", "server-2"}, rules.now)
    assert rules.effects()[0].due_at == due, "it is still listed"
    with rules.ledgers() as ledger:
        rules.outbox.notice_absence(ledger, {"server-2"}, rules.now)
    assert rules.effects()[0].due_at == rules.now


def test_a_duplicate_server_is_deleted_before_the_job_leaves_the_cloud(rules: Rules) -> None:
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


def test_a_duplicate_that_cannot_be_deleted_does_not_delay_the_deletion_of_the_server(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("timed out"))
    rules.conclude(Listed(("server-1", "server-2")))
    rules.take("cancel_job", "a")
    assert rules.conclude(Trouble("it is locked")) == DeleteServers(("server-1", "server-2"))
    assert rules.job("a").state == "terminating", "the twin exists"


# consoles


def test_the_console_is_saved_before_the_server_is_deleted(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", BootTimeout(NOW))
    assert rules.conclude(Console("kernel panic")) == FetchConsole("server-1")
    assert rules.conclude(Gone()) == DeleteServers(("server-1",))
    assert rules.job("a").state == "queued"


def test_a_console_that_is_not_available_delays_the_deletion_by_a_few_tries_only(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", BootTimeout(NOW))
    for _ in range(CONSOLE_TRIES):
        assert rules.conclude(Trouble("no console")) == FetchConsole("server-1")
    assert rules.conclude(Gone()) == DeleteServers(("server-1",))


# floating IPs


@pytest.fixture
def with_pool(rules: Rules) -> Rules:
    rules.engine.policy = replace(rules.engine.policy, floating_ip=True)
    return rules


def test_an_active_server_gets_one_floating_ip_recorded_before_it_is_requested(with_pool: Rules) -> None:
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


def test_a_floating_ip_that_is_not_available_does_not_delay_the_deletion(with_pool: Rules) -> None:
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


def test_an_attach_that_fails_after_the_job_has_ended_is_not_repeated(with_pool: Rules) -> None:
    rules = with_pool
    rules.run()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    effect, operation = rules.begin()
    rules.take("cancel_job", "a")
    with rules.ledgers() as ledger:
        rules.outbox.conclude(ledger, effect, operation, Trouble("no answer", retry_after=3600.0), rules.now)
    assert [effect.kind for effect in rules.effects()] == ["delete_server"]


def test_a_site_without_a_pool_requests_no_floating_ip(rules: Rules) -> None:
    rules.boot()
    rules.fire("a", ServerActive(NOW, "server-1", "10.0.0.7"))
    assert rules.begin()[1] is None
    assert rules.job("a").floating_ip is None


# a database that was restored


def test_a_daemon_that_begins_takes_an_unsent_create_for_sent_and_looks_for_its_server(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    with rules.ledgers() as ledger:
        rules.outbox.resume(ledger, rules.now)
    mark = rules.job("a").requests[0].mark
    _, operation = rules.begin()
    assert operation == FindServers(mark), "it may have been sent after the backup was made"
    assert rules.job("a").deadline_at == NOW + POLICY.boot_timeout
    rules.conclude(Listed(("server-1",)))
    assert rules.job("a").server_id == "server-1"


def test_without_a_server_an_unsent_create_is_sent_with_another_mark(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    with rules.ledgers() as ledger:
        rules.outbox.resume(ledger, rules.now)
    mark = rules.job("a").requests[0].mark
    rules.conclude(Listed(()))
    rules.now += PACE.settle
    rules.conclude(Listed(()))
    _, operation = rules.begin()
    assert isinstance(operation, SendCreate)
    assert operation.mark != mark
    assert rules.job("a").failures == rules.job("a").doubtful == 0


def test_no_create_is_sent_before_the_servers_were_listed(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    with rules.ledgers() as ledger:
        (effect,) = ledger.next_effects()
        ledger.is_cloud_known = False
        assert rules.outbox.begin(ledger, effect, rules.now) is None
    (effect,) = rules.effects()
    assert effect.due_at == NOW + PACE.first
    with rules.ledgers() as ledger:
        ledger.is_cloud_known = True
    _, operation = rules.begin()
    assert isinstance(operation, SendCreate)


def test_a_job_that_another_server_names_goes_back_to_its_place_uncounted(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    with rules.ledgers() as ledger:
        (effect,) = ledger.next_effects()
        ledger.held_back = frozenset("a")
        assert rules.outbox.begin(ledger, effect, rules.now) is None
    job = rules.job("a")
    assert (job.state, job.failures, job.doubtful) == ("queued", 0, 0)
    assert job.reason == OTHER_SERVER
    assert rules.effects() == []
    assert rules.holds() == Holds(), "it concerns no other job"


def test_a_create_that_may_have_been_sent_is_looked_for_whatever_else_there_is(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.begin()
    with rules.ledgers() as ledger:
        (effect,) = ledger.next_effects()
        ledger.held_back, ledger.is_cloud_known = frozenset("a"), False
        assert isinstance(rules.outbox.begin(ledger, effect, rules.now), FindServers)
