"""What somebody deletes on a real broker, or a policy lets expire, is noticed and declared again; above all
the lock, by which there is one daemon."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator

import pika
import pika.channel
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from lando.redaction import Secret
from lando.workqueue.interface import Delivery, QueueUnavailable
from lando.workqueue.rabbitmq import consumer, fence, upkeep
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.inspection import is_daemon_connected
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher
from lando.workqueue.rabbitmq.topology import arguments
from tests.support import rabbitmq_server as servers
from tests.support.local_site import wait_for
from tests.support.rabbitmq_server import Account, VirtualHost

QUICK = 0.3
"""Seconds between two verifications, in tests that wait for several."""


def reached(here: VirtualHost, account: Account) -> Broker:
    return Broker(here.broker.host, here.broker.port, here.name, account.username, Secret(account.password))


Read = Callable[[VirtualHost], RabbitMQQueue]


@pytest.fixture
def read() -> Iterator[Read]:
    """Makes readers, and closes them."""
    with contextlib.ExitStack() as made:

        def begin(here: VirtualHost) -> RabbitMQQueue:
            queue = RabbitMQQueue(reached(here, here.daemon), here.names)
            made.callback(queue.close)
            return queue

        yield begin


def is_connected(queue: RabbitMQQueue) -> bool:
    with contextlib.suppress(QueueUnavailable):
        queue.receive(0, 0.05)
        return True
    return False


def connect(queue: RabbitMQQueue) -> RabbitMQQueue:
    wait_for(lambda: is_connected(queue), "the queue to be connected")
    return queue


def why_not(queue: RabbitMQQueue, patience: float = 5.0) -> str:
    """Receive until it fails; why it did."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            queue.receive(500, 0.05)
        except QueueUnavailable as error:
            return str(error)
    raise AssertionError(f"it is still connected after {patience:g} s")


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "PERIOD", QUICK)


@pytest.fixture
def uncanceled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reader hears that a queue which it consumes was deleted."""
    monkeypatch.setattr(pika.channel.Channel, "add_on_cancel_callback", lambda *_: None)


def administer(here: VirtualHost, change: Callable[[BlockingChannel], object]) -> None:
    with here.connect(here.admin) as connection:
        change(connection.channel())


def delete_lock(here: VirtualHost) -> None:
    """As an administrator does, for whom an exclusive queue is no obstacle."""
    assert isinstance(here.broker, servers.Broker)
    name = f'rabbit_misc:r(<<"{here.name}">>, queue, <<"{here.names.lock}">>)'
    delete = 'rabbit_amqqueue:delete(Q, false, false, <<"tests">>)'
    here.broker.evaluate(f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), {delete}, ok")


# the lock


def test_a_deleted_lock_is_noticed_at_once_and_taken_again(least_privilege: VirtualHost, read: Read) -> None:
    queue = connect(read(least_privilege))
    begun = time.monotonic()
    delete_lock(least_privilege)
    assert "'lando.daemon'" in (said := why_not(queue)) and "was deleted by somebody" in said
    assert time.monotonic() - begun < upkeep.PERIOD / 2, "the broker tells it"
    connect(queue)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_second_daemon_never_gets_in_unnoticed(
    least_privilege: VirtualHost, read: Read, is_told: bool, request: pytest.FixtureRequest
) -> None:
    if not is_told:  # what is told is noticed before it is looked for
        request.getfixturevalue("quickly")
        request.getfixturevalue("uncanceled")
    first, second = connect(read(least_privilege)), read(least_privilege)
    assert "held by another connection" in why_not(second)
    delete_lock(least_privilege)
    connect(second)
    assert "another daemon may have it now" in why_not(first)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert not is_connected(first)
        assert is_connected(second)
    assert "held by another connection" in why_not(first)
    second.close()
    connect(first)


def test_a_lock_that_is_no_exclusive_queue_is_named(least_privilege: VirtualHost, read: Read) -> None:
    lock = least_privilege.names.lock
    administer(least_privilege, lambda channel: channel.queue_declare(lock, durable=True))
    queue = read(least_privilege)
    assert "delete it (`rabbitmqctl delete_queue lando.daemon`)" in why_not(queue)
    administer(least_privilege, lambda channel: channel.queue_delete(lock))
    connect(queue)


def test_a_policy_lets_no_lock_expire(
    least_privilege: VirtualHost, read: Read, quickly: None, caplog: pytest.LogCaptureFixture
) -> None:
    here = least_privilege
    assert isinstance(here.broker, servers.Broker)
    queue = connect(read(here))
    caplog.set_level(logging.WARNING)
    policy = f'<<"{here.name}">>, <<"short">>, <<".*">>, [{{<<"expires">>, 200}}], 0, <<"all">>, <<"tests">>'
    here.broker.evaluate(f"rabbit_policy:set({policy})")
    until = time.monotonic() + 3.0
    while time.monotonic() < until:
        queue.receive(500, 0.05)  # it raises nothing: the connection stays
    administer(here, lambda channel: channel.queue_declare(here.names.queue, passive=True))


def test_a_daemon_counts_as_connected_as_long_as_it_holds_the_lock(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    client = reached(here, here.client)
    with here.connect(here.daemon) as connection:  # as a daemon that has not declared the queue yet
        assert not is_daemon_connected(client, here.names)
        connection.channel().queue_declare(here.names.lock, exclusive=True)
        assert is_daemon_connected(client, here.names)
    queue = connect(read(here))
    assert is_daemon_connected(client, here.names)
    queue.close()
    assert not is_daemon_connected(client, here.names)


# what is not consumed


def test_every_exchange_queue_and_binding_is_declared_again(
    least_privilege: VirtualHost, read: Read, quickly: None, caplog: pytest.LogCaptureFixture
) -> None:
    here, names = least_privilege, least_privilege.names
    queue = connect(read(here))
    session = queue._session
    caplog.set_level(logging.WARNING)
    before = everything(here)
    assert before.startswith(
        f"{{{3 + 5 + 5 + 4},"
    )  # exchanges, queues, the default exchange's bindings, ours

    def clear(channel: BlockingChannel) -> None:
        channel.queue_unbind(names.queue, names.commands, names.queue)
        channel.exchange_delete(names.reports)
        channel.exchange_delete(names.dead_letters)
        channel.queue_delete(names.dead_letters)
        channel.queue_delete(names.report_letters)

    administer(here, clear)
    assert everything(here) != before
    wait_for(lambda: is_connected(queue) and everything(here) == before, "all to be declared again")
    assert queue._session is session, "nothing was lost that is consumed"
    for what in (
        *("exchange 'lando.reports'", "exchange 'lando.dead-letters'"),
        *("queue 'lando.dead-letters'", "queue 'lando.dead-letters.reports'"),
    ):
        assert f"the {what} was deleted on the broker" in caplog.text
    assert "the exchange 'lando.commands'" not in caplog.text


def everything(here: VirtualHost) -> str:
    """The exchanges, queues and bindings of the virtual host, but for those that every one has."""
    assert isinstance(here.broker, servers.Broker)
    host = f'<<"{here.name}">>'
    return here.broker.evaluate(
        f'All = [N || {{resource, H, _, <<"lando", _/binary>>}} = N <- rabbit_exchange:list_names() ++ '
        f"rabbit_amqqueue:list_names(), H =:= {host}] ++ "
        f"[{{element(2, B), element(3, B), element(4, B)}} || B <- rabbit_binding:list({host})], "
        "{length(All), erlang:phash2(lists:sort(All))}"
    )


@pytest.mark.parametrize("what", ["binding", "exchange"])
def test_a_missing_fence_is_noticed_without_waiting_for_the_next_verification(
    least_privilege: VirtualHost, read: Read, what: str
) -> None:
    here, names = least_privilege, least_privilege.names
    queue = connect(read(here))

    def is_fenced(since: float) -> bool:
        queue.request_fence()
        queue.receive(500, 0.05)
        queue.obstacle()
        return (queue.passed_fence() or 0.0) > since

    wait_for(lambda: is_fenced(0.0), "the first fence")
    if what == "binding":
        administer(here, lambda channel: channel.queue_unbind(names.queue, names.commands, names.queue))
    else:
        administer(here, lambda channel: channel.exchange_delete(names.commands))
    begun = time.monotonic()
    wait_for(lambda: is_fenced(begun), "a fence")
    assert time.monotonic() - begun < upkeep.PERIOD / 2
    publish(here, here.client, names.commands, b"one")
    wait_for(lambda: [each.raw for each in queue.receive(500, 0.1)] == [b"one"], "the message")


def test_dead_letters_flow_again(least_privilege: VirtualHost, read: Read, quickly: None) -> None:
    here, names = least_privilege, least_privilege.names
    queue = connect(read(here))
    session = queue._session
    administer(here, lambda channel: channel.queue_delete(names.dead_letters))
    wait_for(lambda: is_connected(queue) and exists(here, names.dead_letters), "the queue")
    publish(here, here.client, names.commands, b"rubbish")
    wait_for(lambda: rejected(queue), "the message")
    # It was bound after it was declared: until then the queue tries again whenever it receives.
    wait_for(lambda: is_connected(queue) and here.messages(names.dead_letters) == 1, "the dead letter")
    assert queue._session is session, "a new one would have declared it, too"


def rejected(queue: RabbitMQQueue) -> bool:
    deliveries = queue.receive(1, 0.1)
    queue.dead_letter([(delivery, "not JSON") for delivery in deliveries])
    return bool(deliveries)


def exists(here: VirtualHost, queue: str) -> bool:
    with contextlib.suppress(pika.exceptions.ChannelClosedByBroker):
        administer(here, lambda channel: channel.queue_declare(queue, passive=True))
        return True
    return False


def test_a_queue_of_dead_letters_that_is_down_stops_nothing(
    least_privilege: VirtualHost, read: Read, quickly: None, caplog: pytest.LogCaptureFixture
) -> None:
    here, names = least_privilege, least_privilege.names
    queue = connect(read(here))
    session = queue._session
    caplog.set_level(logging.WARNING)
    set_state(here, names.dead_letters, "crashed")
    wait_for(
        lambda: is_connected(queue) and "has crashed and failed to restart" in caplog.text, "the warning"
    )
    administer(here, lambda channel: channel.queue_delete(names.report_letters))
    until = time.monotonic() + 4 * QUICK
    while time.monotonic() < until:
        assert is_connected(queue)
    assert len([record for record in caplog.records if "has crashed" in record.message]) == 1
    set_state(here, names.dead_letters, "live")
    wait_for(lambda: is_connected(queue) and exists(here, names.report_letters), "the other queue")
    assert queue._session is session
    assert f"{names.dead_letters!r} was deleted" not in caplog.text


def set_state(here: VirtualHost, queue: str, state: str) -> None:
    """Stands for a queue whose process has crashed too often, or is started again."""
    assert isinstance(here.broker, servers.Broker)
    name = f'rabbit_misc:r(<<"{here.name}">>, queue, <<"{queue}">>)'
    update = f"rabbit_amqqueue:update({name}, fun(Q) -> amqqueue:set_state(Q, {state}) end)"
    here.broker.evaluate(f"rabbit_misc:execute_mnesia_transaction(fun() -> {update} end), ok")


# what is consumed


def test_a_daemon_that_reads_late_has_lost_no_consumer(
    least_privilege: VirtualHost, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "PUBLISH_AGAIN", 0.5)
    queue = connect(read(least_privilege))
    session = queue._session

    def is_fenced() -> bool:
        queue.receive(500, 0.05)
        return queue.passed_fence() is not None

    queue.request_fence()
    while queue._fence is None or any(part.received_before is None for part in queue._fence._parts):
        queue.receive(0, 0.0)  # until it is published
    time.sleep(1.0)
    wait_for(is_fenced, "the fence", 20)
    assert queue._session is session


@pytest.mark.parametrize("how", ["deleted", "deleted unheard", "replaced", "canceled"])
@pytest.mark.parametrize("which", ["commands", "reports"])
def test_a_queue_without_our_consumer_is_consumed_again(
    least_privilege: VirtualHost,
    read: Read,
    which: str,
    how: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, names = least_privilege, least_privilege.names
    if how != "deleted":  # of which the broker tells
        request.getfixturevalue("quickly")
        monkeypatch.setattr(consumer, "LONGEST_WITHOUT_FENCE", QUICK)
        monkeypatch.setattr(fence, "PUBLISH_AGAIN", 1.0)
    if how == "deleted unheard":
        request.getfixturevalue("uncanceled")
    queue = connect(read(here))
    deaf, exchange, sender = {
        "commands": (names.queue, names.commands, here.client),
        "reports": (names.reports, names.reports, here.worker),
    }[which]
    session = queue._session
    assert session is not None

    def replace(channel: BlockingChannel) -> None:
        channel.queue_delete(deaf)
        if how == "replaced":
            channel.queue_declare(deaf, durable=True, arguments=arguments("quorum", names)[deaf])
            channel.queue_bind(deaf, exchange, names.queue)

    if how == "canceled":  # stands for a broker that loses a consumer
        reader = {"commands": session.commands, "reports": session.reports}[which]
        assert reader._channel is not None
        reader._channel.basic_cancel(reader._channel.consumer_tags[0])
    else:
        administer(here, replace)
    if how == "replaced":
        publish(here, sender, exchange, b"zero")  # what shows that the broker delivers nothing
    wait_for(
        lambda: is_connected(queue) and queue._session is not session,
        "a new session",
        upkeep.PERIOD / 2 if how == "deleted" else 20,
    )
    publish(here, sender, exchange, b"one")
    received: list[bytes] = []

    def comes() -> bool:
        received.extend(each.raw for each in queue.receive(500, 0.1))
        return received[-1:] == [b"one"]

    wait_for(comes, "the message", 20)
    assert received == ([b"zero", b"one"] if how == "replaced" else [b"one"])


def publish(here: VirtualHost, sender: Account, exchange: str, raw: bytes) -> None:
    publisher = RabbitMQPublisher(reached(here, sender), exchange, here.names.queue)
    publisher.publish(raw)
    publisher.close()


def test_figures_tell_what_waits_and_what_was_dead_lettered(
    least_privilege: VirtualHost, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the broker tells when it is looked at; also what was delivered, and not acked."""
    monkeypatch.setattr(upkeep, "PERIOD", QUICK)
    here = least_privilege
    queue = connect(read(here))
    assert queue.figures().dead_lettered == {"client": 0, "worker": 0}
    publisher = RabbitMQPublisher(reached(here, here.client), here.names.commands, here.names.queue)
    with contextlib.closing(publisher):
        for number in range(3):
            publisher.publish(str(number).encode())
    taken: list[Delivery] = []

    def are_counted() -> bool:
        taken.extend(queue.receive(10, 0.05))
        return queue.figures().waiting == {"client": 3, "worker": 0}

    wait_for(are_counted, "the three messages to be counted")
    assert len(taken) == 3
    queue.dead_letter([(taken[0], "rubbish")])
    queue.ack(taken[1:])

    def are_gone() -> bool:
        queue.receive(10, 0.05)
        found = queue.figures()
        return found.waiting["client"] == 0 and found.letters == {"client": 1, "worker": 0}

    wait_for(are_gone, "the dead letter to be counted")
    assert queue.figures().dead_lettered == {"client": 1, "worker": 0}
    queue.rewind()
    assert queue.figures().waiting == {}, "nothing is known without a connection"
