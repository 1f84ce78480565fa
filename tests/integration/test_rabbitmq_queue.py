"""The RabbitMQ queue on a real broker: delivery, confirms, reconnecting, dead letters, what is declared."""

from __future__ import annotations

import contextlib
import functools
import itertools
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pika
import pika.exceptions
import pytest

from lando.errors import LandoError, UsageError
from lando.redaction import Secret
from lando.workqueue.interface import Delivery, QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq import alarm_probe, consumer, dead_letter_mover, session
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.dead_letters import MAX_REASON, RabbitMQDeadLetters
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher
from lando.workqueue.rabbitmq.queue_reader import FENCE
from lando.workqueue.rabbitmq.session import MAX_BUFFERED, PREFETCH
from lando.workqueue.rabbitmq.settings import QueueType
from tests.support import rabbitmq_server as servers
from tests.support.local_site import wait_for
from tests.support.rabbitmq_server import Account, VirtualHost, free_ports, require_server

CHECKOUT = Path(__file__).parents[2]
MEGABYTE = 1024 * 1024
SHORT = 2.0
"""Seconds of patience, in tests that wait until it ends."""

Publish = Callable[..., RabbitMQPublisher]
Read = Callable[..., RabbitMQQueue]


def reached(here: VirtualHost, account: Account, **more: Any) -> Broker:
    """The broker's settings with one account."""
    broker = Broker(here.broker.host, here.broker.port, here.name, account.username, Secret(account.password))
    return replace(broker, **more)


@pytest.fixture
def read() -> Iterator[Read]:
    """Makes readers, and closes them."""
    with contextlib.ExitStack() as made:

        def begin(
            here: VirtualHost, queue_type: QueueType | None = None, ready: bool = True
        ) -> RabbitMQQueue:
            queue = RabbitMQQueue(reached(here, here.daemon), here.names, queue_type)
            made.callback(closed, queue)
            if ready:
                connect(queue)
            return queue

        yield begin


@pytest.fixture
def publish() -> Iterator[Publish]:
    """Makes publishers, and closes them."""
    with contextlib.ExitStack() as made:

        def begin(here: VirtualHost, by: Account | None = None, patience: float = 20.0) -> RabbitMQPublisher:
            account = by or here.client
            exchange = here.names.reports if by == here.worker else here.names.commands
            publisher = RabbitMQPublisher(reached(here, account), exchange, here.queue_name, patience)
            made.callback(publisher.close)
            return publisher

        yield begin


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Broker]:
    """A broker to stop, kill, pause and starve; each test leaves it running."""
    require_server()
    with servers.Broker(tmp_path_factory.mktemp("own") / "rabbitmq").running() as broker:
        yield broker


@pytest.fixture
def own(own_broker: servers.Broker) -> Iterator[VirtualHost]:
    """A virtual host on ``own_broker``."""
    if not own_broker.processes():  # a test that failed has left it stopped
        own_broker.start()
    here = own_broker.virtual_host()
    yield here
    if not own_broker.processes():
        own_broker.start()
    here.close()


def closed(queue: RabbitMQQueue) -> None:
    """Close it, unless the test has."""
    if queue._wakeup.fileno() != -1:
        queue.close()


def connect(queue: RabbitMQQueue) -> None:
    """Wait until it is connected."""

    def is_connected() -> bool:
        with contextlib.suppress(QueueUnavailable):
            queue.receive(0, 0.0)
            return True
        return False

    wait_for(is_connected, "the queue to be connected")


def send(publisher: RabbitMQPublisher, here: VirtualHost, bodies: Sequence[bytes]) -> None:
    """Publish several as one; returns when all are confirmed."""
    publisher.publish_all([OutgoingMessage(body, here.names.commands) for body in bodies])


def numbers(count: int, first: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(first, first + count)]


def take(queue: RabbitMQQueue, count: int, limit: int = 500) -> list[Delivery]:
    """Receive ``count`` messages."""
    taken: list[Delivery] = []

    def is_enough() -> bool:
        with contextlib.suppress(QueueUnavailable):
            taken.extend(queue.receive(min(limit, count - len(taken)), 1.0))
        return len(taken) >= count

    wait_for(is_enough, f"{count} messages")
    return taken


def nothing_comes(queue: RabbitMQQueue) -> None:
    """Assert that the queues contain nothing."""
    assert fenced(queue) == []


def fenced(queue: RabbitMQQueue, patience: float = 10.0, acking: bool = False) -> list[Delivery]:
    """Ask for a fence, and receive until it is met. Returns what came before it."""
    begun = time.monotonic()
    received: list[Delivery] = []

    def is_met() -> bool:
        queue.request_fence()
        batch = queue.receive(500, 0.1)
        received.extend(batch)
        if acking:
            queue.ack(batch)
        return (queue.passed_fence() or 0.0) >= begun

    wait_for(is_met, "a fence", patience)
    return received


def meets_no_fence(queue: RabbitMQQueue, seconds: float = 1.5) -> bool:
    """Whether a fence that is asked for now is not met within some seconds, in which nothing comes."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        queue.request_fence()
        assert queue.receive(500, 0.1) == []
    return (queue.passed_fence() or 0.0) < begun


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [delivery.raw for delivery in deliveries]


def cut_connections(here: VirtualHost) -> None:
    """Have the broker close all connections to the virtual host."""
    assert isinstance(here.broker, servers.Broker)
    of_ours = (
        "[Pid || [{pid, Pid}, {vhost, Name}] <- rabbit_networking:connection_info_all([pid, vhost]), "
        f'Name =:= <<"{here.name}">>]'
    )
    here.broker.evaluate(f'[rabbit_networking:close_connection(Pid, "by a test") || Pid <- {of_ours}], ok')


class Acks:
    """The acks that a reader sends from now on: (tag within the session, multiple)."""

    def __init__(self, queue: RabbitMQQueue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[int, bool]] = []
        assert queue._session is not None
        channel = queue._session._connection.channel
        ack = channel.basic_ack

        def counted(tag: int, multiple: bool = False) -> None:
            self.sent.append((tag, multiple))
            ack(tag, multiple)

        monkeypatch.setattr(channel, "basic_ack", counted)


# publish, receive, ack


def test_messages_arrive_in_order_and_one_ack_covers_a_batch(
    virtual_host: VirtualHost, read: Read, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = read(virtual_host)
    acks = Acks(queue, monkeypatch)
    send(publish(virtual_host), virtual_host, numbers(1200))
    seen = []
    for size in (500, 500, 200):
        batch = take(queue, size)
        seen += bodies(batch)
        queue.ack(batch)
    assert seen == numbers(1200)
    assert acks.sent == [(500, True), (1000, True), (1200, True)]
    nothing_comes(queue)
    queue.close()
    assert virtual_host.messages() == 0


def test_what_is_not_acked_is_delivered_again(
    virtual_host: VirtualHost, read: Read, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(virtual_host)
    acks = Acks(first, monkeypatch)
    send(publish(virtual_host), virtual_host, numbers(10))
    batch = take(first, 10)
    first.ack([batch[index] for index in (0, 1, 4, 5)])
    assert acks.sent == [(2, True), (5, False), (6, False)]
    first.close()
    second = read(virtual_host)
    again = take(second, 6)
    assert sorted(bodies(again)) == [b"2", b"3", b"6", b"7", b"8", b"9"]
    second.ack(again)
    nothing_comes(second)


def test_rewind_receives_again(virtual_host: VirtualHost, read: Read, publish: Publish) -> None:
    queue = read(virtual_host)
    send(publish(virtual_host), virtual_host, numbers(700))
    queue.ack(take(queue, 100))
    take(queue, 200)
    queue.rewind()
    again = take(queue, 600)
    assert bodies(again) == numbers(600, first=100)
    queue.ack(again)
    nothing_comes(queue)


def test_acks_of_a_lost_connection_raise_and_nothing_is_lost(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(least_privilege)
    send(publish(least_privilege), least_privilege, numbers(20))
    batch = take(queue, 20)
    cut_connections(least_privilege)
    with pytest.raises(QueueUnavailable, match="by a test"):
        for one in batch:  # connection.close may arrive after the first acks, which the broker then ignores
            time.sleep(0.05)
            queue.ack([one])
    again = take(queue, 20)
    assert sorted(map(int, bodies(again))) == list(range(20))
    assert not {one.tag for one in batch} & {one.tag for one in again}
    with pytest.raises(QueueUnavailable, match="was lost"):
        queue.ack(batch)  # as a daemon does whose transaction was under way
    queue.ack(take(queue, 20))
    nothing_comes(queue)


def test_dead_lettering_within_a_batch_acks_only_the_dead_letters(
    least_privilege: VirtualHost, read: Read, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = read(least_privilege)
    acks = Acks(queue, monkeypatch)
    send(publish(least_privilege), least_privilege, numbers(5))
    batch = take(queue, 5)
    queue.dead_letter([(batch[2], "rubbish"), (batch[4], "rubbish, too")])
    assert acks.sent == [(3, False), (5, False)]
    queue.close()
    again = read(least_privilege)
    assert sorted(bodies(take(again, 3))) == [b"0", b"1", b"3"]
    nothing_comes(again)
    assert [found.first_bytes for found in letters(least_privilege).all()] == [b"2", b"4"]


def test_more_than_the_prefetch_waits_for_acks(
    virtual_host: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(virtual_host)
    send(publish(virtual_host), virtual_host, numbers(2 * PREFETCH + 500))
    batch = take(queue, PREFETCH)
    assert meets_no_fence(queue)
    random.Random(3).shuffle(batch)
    while batch:
        queue.ack(batch[:300])
        del batch[:300]
    rest = []
    for size in (PREFETCH, 500):
        rest += take(queue, size, limit=50)
        queue.ack(rest[-size:])
    assert bodies(rest) == numbers(PREFETCH + 500, first=PREFETCH)
    nothing_comes(queue)
    queue.close()
    assert virtual_host.messages() == 0


READER = """
import resource, sys
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.names import QueueNames
from lando.redaction import Secret

host, port, virtual_host, name, account, password, count = sys.argv[1:]
broker = Broker(host, int(port), virtual_host, account, Secret(password))
queue = RabbitMQQueue(broker, QueueNames(name), "classic")
taken, most = 0, 0
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
while taken < int(count):
    try:
        batch = queue.receive(500, 1.0)
    except QueueUnavailable:
        continue  # not connected yet
    taken += len(batch)
    most = max(most, len(batch))
    queue.request_fence()
    queue.ack(batch)
queue.close()
print(taken, most, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


def test_large_messages_do_not_sit_in_memory_at_once(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    count = 200
    read(least_privilege, "classic").close()
    publisher = publish(least_privilege)
    for _ in range(count // 10):
        send(publisher, least_privilege, [bytes(MEGABYTE)] * 10)
    here = least_privilege
    account = (here.daemon.username, here.daemon.password)
    done = subprocess.run(
        [
            *(sys.executable, "-c", READER, here.broker.host, str(here.broker.port), here.name),
            *(here.queue_name, *account, str(count)),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    taken, most, kilobytes = map(int, done.stdout.split())
    assert taken == count
    assert most < 2 * MAX_BUFFERED // MEGABYTE
    assert kilobytes * 1024 < 5 * MAX_BUFFERED, f"{kilobytes / 1024:.0f} MiB"


# origin and sender


def test_origin_comes_from_the_exchange_and_sender_from_the_broker(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(least_privilege)
    publish(least_privilege, least_privilege.client).publish(b"command")
    publish(least_privilege, least_privilege.worker).publish(b"report")
    with least_privilege.connect(least_privilege.admin) as connection:
        connection.channel().basic_publish("", least_privilege.queue_name, b"somebody's")
    by_body = {delivery.raw: delivery for delivery in take(queue, 3)}
    assert (by_body[b"command"].origin, by_body[b"command"].sender) == (
        "client",
        least_privilege.client.username,
    )
    assert (by_body[b"report"].origin, by_body[b"report"].sender) == (
        "worker",
        least_privilege.worker.username,
    )
    assert (by_body[b"somebody's"].origin, by_body[b"somebody's"].sender) == (None, None)


def test_headers_cannot_forge_a_sender(least_privilege: VirtualHost, read: Read) -> None:
    queue = read(least_privilege)
    worker, names = least_privilege.worker, least_privilege.names
    claims = {"sender": least_privilege.client.username, "exchange": names.commands}
    with least_privilege.connect(worker) as connection:
        channel = connection.channel()
        for user in (worker.username, None):
            properties = pika.BasicProperties(user_id=user, headers=claims)
            channel.basic_publish(names.reports, names.queue, b"", properties)
    assert [(found.origin, found.sender) for found in take(queue, 2)] == [
        ("worker", worker.username),
        ("worker", None),
    ]


def test_a_forged_user_is_refused_by_the_broker(least_privilege: VirtualHost, read: Read) -> None:
    queue = read(least_privilege)
    names = least_privilege.names
    with least_privilege.connect(least_privilege.worker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        forged = pika.BasicProperties(user_id=least_privilege.daemon.username)
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="PRECONDITION_FAILED"):
            channel.basic_publish(names.reports, names.queue, b"", forged)
    nothing_comes(queue)


# fences


def test_a_fence_is_met_behind_everything_that_was_queued_before(
    virtual_host: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(virtual_host)
    nothing_comes(queue)
    send(publish(virtual_host), virtual_host, numbers(1200))
    publish(virtual_host, virtual_host.worker).publish(b"report")
    queue.request_fence()
    received: list[Delivery] = []
    last = queue.passed_fence()
    while queue.passed_fence() == last:
        assert len(received) < 1201
        received += queue.receive(500, 1.0)
    commands = [one for one in received if one.origin == "client"]
    assert bodies(commands) == numbers(1200)  # though not acked
    assert bodies([one for one in received if one.origin == "worker"]) == [b"report"]  # wherever it came
    queue.ack(received)
    queue.close()
    assert virtual_host.messages() == 0
    assert virtual_host.messages(virtual_host.names.reports) == 0


def test_a_batch_of_commands_ends_at_a_fence(virtual_host: VirtualHost, read: Read, publish: Publish) -> None:
    queue = read(virtual_host)
    nothing_comes(queue)
    publisher = publish(virtual_host)
    publisher.publish(b"before")
    queue.request_fence()
    (before,) = queue.receive(0, 0.0) or take(queue, 1, limit=1)
    publisher.publish(b"after")
    time.sleep(0.2)
    assert before.raw == b"before"
    asked = queue.passed_fence()
    batches = [queue.receive(10, 0.5) for _ in range(2)]
    assert [bodies(batch) for batch in batches] == [[], [b"after"]]
    assert (queue.passed_fence() or 0.0) > (asked or 0.0)


def test_no_fence_is_met_while_there_is_another_consumer(
    virtual_host: VirtualHost, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    queue = read(virtual_host)
    for name in (virtual_host.queue_name, virtual_host.names.reports):
        with virtual_host.connect(virtual_host.admin) as connection:
            channel = connection.channel()
            tag = channel.basic_consume(name, lambda *_: None)
            assert meets_no_fence(queue, 2.5)
            channel.basic_cancel(tag)
            nothing_comes(queue)
        (warning,) = [record.getMessage() for record in caplog.records]
        assert f"{name!r} has another consumer" in warning
        caplog.clear()


def test_a_consumer_that_comes_while_a_fence_is_on_its_way_is_an_obstacle(
    virtual_host: VirtualHost, read: Read
) -> None:
    queue = read(virtual_host)
    nothing_comes(queue)
    begun = time.monotonic()
    queue.request_fence()
    queue.receive(0, 0.3)  # it is published, and arrives
    assert queue.obstacle() is None
    with virtual_host.connect(virtual_host.admin) as connection:
        channel = connection.channel()
        tag = channel.basic_consume(virtual_host.names.reports, lambda *_: None)
        queue.receive(500, 0.1)
        assert "has another consumer" in (queue.obstacle() or "")
        assert meets_no_fence(queue)
        assert (queue.passed_fence() or 0.0) < begun
        channel.basic_cancel(tag)
        nothing_comes(queue)
    assert queue.obstacle() is None


def test_nobody_else_can_forge_a_fence(least_privilege: VirtualHost, read: Read) -> None:
    here = least_privilege
    queue = read(here)
    nothing_comes(queue)
    queue.request_fence()
    with mock.patch.object(queue._probe, "publish"):  # the fence is on its way, and does not arrive
        assert queue.receive(10, 0.1) == []
        assert queue._fence is not None
        nonces = [part.nonce for part in queue._fence._parts]
        for account, exchange, user in (
            (here.client, here.names.commands, here.client.username),
            (here.client, here.names.commands, None),
            (here.worker, here.names.reports, here.worker.username),
            (here.worker, here.names.reports, None),
        ):
            with here.connect(account) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                for nonce in nonces:
                    properties = pika.BasicProperties(user_id=user, headers={FENCE: nonce})
                    channel.basic_publish(exchange, here.queue_name, b"forged", properties)
        forged = take(queue, 8)
        assert {one.raw for one in forged} == {b"forged"}
        assert queue._fence is not None
        assert not queue._fence.is_passed


def test_fences_of_earlier_lives_are_dropped(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    here = least_privilege
    earlier = read(here)
    with mock.patch.object(earlier, "_advance_fence", wraps=earlier._advance_fence) as advance:
        nothing_comes(earlier)
        assert advance.called
    with here.connect(here.daemon) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for exchange in (here.names.commands, here.names.reports):
            properties = pika.BasicProperties(
                user_id=here.daemon.username, headers={FENCE: "of an earlier life"}
            )
            channel.basic_publish(exchange, here.queue_name, b"", properties)
    publish(here).publish(b"behind it")
    assert bodies(take(earlier, 1)) == [b"behind it"]
    nothing_comes(earlier)
    earlier.close()
    assert here.messages(here.names.reports) == 0
    assert letters_waiting(here) == 0


def test_closing_leaves_no_fence_behind(virtual_host: VirtualHost, read: Read) -> None:
    names = virtual_host.names
    queue = read(virtual_host)
    nothing_comes(queue)
    for _ in range(5):
        queue.request_fence()
        queue.receive(0, 0.0)
        queue.close()
        assert virtual_host.messages(names.queue) == virtual_host.messages(names.reports) == 0
        queue = read(virtual_host)


def test_a_reader_publishes_no_fence_that_nobody_asked_for(virtual_host: VirtualHost, read: Read) -> None:
    queue = read(virtual_host)
    with mock.patch.object(queue._probe, "publish", wraps=queue._probe.publish) as published:
        nothing_comes(queue)
        sent = len([call for call in published.mock_calls if len(call.args) > 2])
        assert sent == 2  # one for each queue
        for _ in range(10):
            assert queue.receive(10, 0.1) == []
            assert queue.obstacle() is None
        assert len([call for call in published.mock_calls if len(call.args) > 2]) == 2


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_no_fence_is_met_while_acks_lead_to_more_deliveries(
    virtual_host: VirtualHost,
    read: Read,
    publish: Publish,
    queue_type: QueueType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "PREFETCH", 5)
    queue = read(virtual_host, queue_type)
    publisher = publish(virtual_host)
    for _ in range(60):
        send(publisher, virtual_host, numbers(8))
        last = queue.passed_fence()
        queue.request_fence()
        first = take(queue, 5)
        queue.ack(first)
        assert queue.passed_fence() == last  # three are still to be received
        rest = fenced(queue)
        assert len(rest) == 3
        queue.ack(rest)
    nothing_comes(queue)


WRITER = """
import mmap, random, struct, sys, time
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher
from lando.workqueue.rabbitmq.publisher import OutgoingMessage
from lando.redaction import Secret

host, port, virtual_host, name, account, password, count, board = sys.argv[1:]
names = QueueNames(name)
broker = Broker(host, int(port), virtual_host, account, Secret(password))
publisher = RabbitMQPublisher(broker, names.commands, names.queue)
dice = random.Random(1)
with open(board, "r+b") as file, mmap.mmap(file.fileno(), 8) as confirmed:
    sent = 0
    while sent < int(count):
        size = min(dice.choice((1, 1, 1, 2, 5, 40)), int(count) - sent)
        publisher.publish_all(
            [OutgoingMessage(b"%d" % number, names.commands) for number in range(sent, sent + size)]
        )
        sent += size
        confirmed[:] = struct.pack("Q", sent)
        if dice.random() < 0.5:
            time.sleep(dice.choice((0.0, 0.001, 0.01)))
publisher.close()
"""


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_no_fence_is_met_before_something_that_was_confirmed_earlier(
    least_privilege: VirtualHost, read: Read, tmp_path: Path, queue_type: QueueType
) -> None:
    count = 5000
    here = least_privilege
    board = tmp_path / "confirmed"
    board.write_bytes(bytes(8))
    queue = read(here, queue_type)
    writer = subprocess.Popen(
        [
            *(sys.executable, "-c", WRITER, here.broker.host, str(here.broker.port), here.name),
            *(here.queue_name, here.client.username, here.client.password, str(count), str(board)),
        ],
        cwd=CHECKOUT,
    )
    dice = random.Random(2)
    received: set[int] = set()
    acked: set[int] = set()
    unacked: list[Delivery] = []
    yes, no, rewound, deadline = 0, 0, 0, time.monotonic() + 60
    asked: float | None = None
    confirmed = 0
    try:
        while len(acked) < count:
            assert time.monotonic() < deadline, (len(acked), yes, no)
            try:
                if asked is None:
                    confirmed = int.from_bytes(board.read_bytes(), sys.byteorder)
                    asked = time.monotonic()
                queue.request_fence()
                batch = queue.receive(dice.choice((1, 20, 500)), dice.choice((0.0, 0.0, 0.005)))
                unacked += batch
                received.update(int(delivery.raw) for delivery in batch)
                if (queue.passed_fence() or 0.0) >= asked:
                    yes += 1
                    asked = None
                    missed = set(range(confirmed)) - received
                    assert not missed, f"{len(missed)} of {confirmed}, {min(missed)} the first"
                else:
                    no += 1
                if len(unacked) > 50 or dice.random() < 0.3:
                    queue.ack(unacked)
                    acked.update(int(delivery.raw) for delivery in unacked)
                    unacked.clear()
            except QueueUnavailable:
                continue
            if dice.random() < 0.01:
                queue.rewind()
                rewound += 1
                unacked.clear()
                received = set(acked)
                asked = None
        assert writer.wait(10) == 0
    finally:
        writer.kill()
        writer.wait()
    assert yes > 20, (yes, no)
    assert no > 5, (yes, no)
    assert rewound > 3


# one daemon


def test_the_second_reader_takes_over_when_the_first_is_closed(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    first = read(least_privilege)
    second = read(least_privilege, ready=False)
    with pytest.raises(QueueUnavailable, match="held by another connection"):
        second.receive(1, SHORT)
    publish(least_privilege).publish(b"one")
    assert bodies(take(first, 1)) == [b"one"]
    first.close()
    begun = time.monotonic()
    assert bodies(take(second, 1)) == [b"one"]
    assert time.monotonic() - begun < 5


HOLDER = """
import sys, time
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.names import QueueNames
from lando.redaction import Secret

host, port, virtual_host, name, account, password = sys.argv[1:]
queue = RabbitMQQueue(Broker(host, int(port), virtual_host, account, Secret(password)), QueueNames(name))
while not queue.receive(1, 1.0):
    pass
print("holds", flush=True)
time.sleep(60)
"""


def test_the_second_reader_takes_over_when_the_first_is_killed(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    here = least_privilege
    read(here).close()
    publish(here).publish(b"one")
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c", HOLDER, here.broker.host, str(here.broker.port), here.name),
            *(here.queue_name, here.daemon.username, here.daemon.password),
        ],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"holds\n"
        second = read(here, ready=False)
        with pytest.raises(QueueUnavailable, match="another daemon"):
            second.receive(1, SHORT)
    finally:
        holder.kill()
        holder.communicate()
    begun = time.monotonic()
    assert bodies(take(second, 1)) == [b"one"]
    assert time.monotonic() - begun < 5


# publishing


def test_publishing_returns_once_the_message_is_queued(
    virtual_host: VirtualHost, read: Read, publish: Publish
) -> None:
    read(virtual_host).close()
    publisher = publish(virtual_host)
    for count in range(1, 6):
        publisher.publish(b"one")
        assert virtual_host.messages() == count
    send(publisher, virtual_host, numbers(500))
    assert virtual_host.messages() == 505


def test_without_exchange_or_binding_there_is_no_queue(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    publisher = publish(least_privilege)
    with pytest.raises(QueueAbsent, match="queue_name"):
        publisher.publish(b"one")
    names = least_privilege.names
    with least_privilege.connect(least_privilege.admin) as connection:
        connection.channel().exchange_declare(names.commands, durable=True)
        with pytest.raises(QueueAbsent, match=r"NO_ROUTE.*queue_name"):
            publisher.publish(b"one")
    queue = read(least_privilege)
    publisher.publish(b"two")
    assert bodies(take(queue, 1)) == [b"two"]


def test_publishing_reconnects_if_the_idle_connection_was_closed(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    read(least_privilege).close()
    publisher = publish(least_privilege)
    publisher.publish(b"one")
    for count in (2, 3):
        cut_connections(least_privilege)
        publisher.publish(b"one")
        assert least_privilege.messages() == count


def test_an_account_may_publish_to_its_own_exchange_only(least_privilege: VirtualHost, read: Read) -> None:
    queue = read(least_privilege)
    names = least_privilege.names
    for account, exchange in (
        (least_privilege.worker, names.commands),
        (least_privilege.client, names.reports),
        (least_privilege.worker, ""),
        (least_privilege.client, names.dead_letters),
    ):
        publisher = RabbitMQPublisher(reached(least_privilege, account), exchange, names.queue)
        with pytest.raises(
            UsageError, match=f"username: the account '{account.username}' lacks a permission"
        ):
            publisher.publish(b"one")
        publisher.close()
    nothing_comes(queue)


def test_a_publisher_reports_a_stopped_broker_and_works_again_afterwards(
    own_broker: servers.Broker, own: VirtualHost, read: Read, publish: Publish
) -> None:
    read(own).close()
    publisher, late = publish(own), publish(own)
    publisher.publish(b"one")
    own_broker.stop()
    for each in (publisher, late, publisher):
        with pytest.raises(QueueUnavailable, match=f"{own.broker.port}.*(refused|closed)"):
            each.publish(b"lost")
    own_broker.start()
    for each in (publisher, late):
        wait_for(partial(is_published, each, b"two"), "the broker to take a message")
    queue = read(own)
    assert bodies(take(queue, 3)) == [b"one", b"two", b"two"]


def is_published(publisher: RabbitMQPublisher, raw: bytes) -> bool:
    with contextlib.suppress(QueueUnavailable):
        publisher.publish(raw)
        return True
    return False


def test_a_broker_stopped_while_publishing_loses_nothing_confirmed(
    own_broker: servers.Broker, own: VirtualHost, read: Read, publish: Publish
) -> None:
    read(own).close()
    publisher = publish(own)
    publisher.publish(b"-1")
    time.sleep(
        1.5
    )  # RabbitMQ 3.10 may lose a whole quorum queue when it is killed in that queue's first second
    stopping = threading.Timer(0.3, own_broker.kill)
    stopping.start()
    confirmed = 0
    with pytest.raises(QueueUnavailable):
        for number in range(100_000):
            publisher.publish(b"%d" % number)
            confirmed += 1
    stopping.join()
    own_broker.start()
    queue = read(own)
    wait_for(lambda: is_published(publisher, b"last"), "the broker to take a message")
    seen: list[bytes] = []
    while b"last" not in seen:
        seen += bodies(batch := take(queue, 1))
        queue.ack(batch)
    assert confirmed > 5
    assert set(numbers(confirmed)) <= set(seen)
    assert set(seen) <= {b"-1", *numbers(confirmed + 1), b"last"}


def test_a_publisher_reports_a_paused_broker_within_its_patience(
    own_broker: servers.Broker, own: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(own)
    publisher, late = publish(own, patience=SHORT), publish(own, patience=SHORT)
    publisher.publish(b"one")
    own_broker.pause()
    try:
        for each in (publisher, late):
            begun = time.monotonic()
            with pytest.raises(QueueUnavailable, match=f"did not (confirm|answer) within {SHORT:g} s"):
                each.publish(b"perhaps")
            assert SHORT <= time.monotonic() - begun < 2.5 * SHORT  # includes closing the connection
    finally:
        own_broker.resume()
    publisher.publish(b"two")
    seen = {one.raw for one in take(queue, 2)}
    assert b"one" in seen


# a broker that is short of memory


def test_in_a_memory_alarm_publishing_fails_with_the_reason_and_reading_continues(
    own_broker: servers.Broker,
    own: VirtualHost,
    read: Read,
    publish: Publish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dead_letter_mover, "TIMEOUT", SHORT)
    monkeypatch.setattr(dead_letter_mover, "PAUSE", 0.5)
    queue = read(own)
    publisher = publish(own, patience=SHORT)
    send(publisher, own, [b"rubbish", *numbers(100)])
    own_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})")
    try:
        wait_for(lambda: own_broker.evaluate("rabbit_alarm:get_alarms()") != "[]", "the alarm")
        rubbish = take(queue, 1)
        queue.dead_letter([(rubbish[0], "because")])
        with pytest.raises(QueueUnavailable, match=r"accepts no messages at present: .*memory"):
            publisher.publish(b"late")
        batch = take(queue, 100)
        assert bodies(batch) == numbers(100)
        queue.ack(batch)
        wait_for(lambda: unacked(own) == 1, "all but the rubbish to be acked")
        assert letters_waiting(own) == 0
    finally:
        own_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6)")
    late = take(queue, 1)  # was not confirmed, but was queued
    assert bodies(late) == [b"late"]
    queue.ack(late)
    wait_for(lambda: queue.receive(10, 0.1) == [] and unacked(own) == 0, "the dead-lettering")
    assert [found.first_bytes for found in letters(own).all()] == [b"rubbish"]
    assert letters_waiting(own) <= 2  # one that the broker queued late, but not one per try
    publisher.publish(b"after")
    assert b"after" in bodies(take(queue, 1))


def unacked(here: VirtualHost) -> int:
    """Messages that were delivered and are not acked, as the quorum queue itself knows at once."""
    assert isinstance(here.broker, servers.Broker)
    member = f"{{'{here.name}_{here.queue_name}', node()}}"
    ask = "fun rabbit_fifo:query_messages_checked_out/1"
    return int(here.broker.evaluate(f"{{ok, {{_, Count}}, _}} = ra:local_query({member}, {ask}), Count"))


def letters_waiting(here: VirtualHost) -> int:
    return here.messages(here.names.dead_letters) + here.messages(here.names.report_letters)


# reconnecting


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_reader_reconnects_when_the_broker_is_back(
    own_broker: servers.Broker, own: VirtualHost, read: Read, publish: Publish, end: str
) -> None:
    queue = read(own)
    publisher = publish(own)
    publisher.publish(b"before")
    (held,) = take(queue, 1)
    time.sleep(1.5)  # see above
    getattr(own_broker, end)()
    for _ in range(3):
        begun = time.monotonic()
        with pytest.raises(QueueUnavailable):
            queue.receive(10, 0.5)
        assert time.monotonic() - begun < 3
    with pytest.raises(QueueUnavailable):
        queue.ack([held])
    assert not is_published(publisher, b"lost")
    own_broker.start()
    again = take(queue, 1)
    assert bodies(again) == [b"before"]
    wait_for(lambda: is_published(publisher, b"after"), "the broker to take a message")
    queue.ack(again + take(queue, 1))
    nothing_comes(queue)


def test_a_deleted_queue_is_declared_again(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(least_privilege)
    with least_privilege.connect(least_privilege.admin) as connection:
        connection.channel().queue_delete(least_privilege.queue_name)
    with pytest.raises(QueueUnavailable, match="was the queue deleted"):
        queue.receive(1, SHORT)
    connect(queue)
    publish(least_privilege).publish(b"one")
    assert bodies(take(queue, 1)) == [b"one"]


def test_back_off_is_jittered_and_bounded(
    least_privilege: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = 0.8
    monkeypatch.setattr(consumer, "LONGEST_WAIT", longest)
    with socket.create_server((servers.HOST, 0)) as listener:
        tries: list[float] = []

        def hang_up() -> None:
            with contextlib.suppress(OSError):
                while True:
                    caller, _ = listener.accept()
                    tries.append(time.monotonic())
                    caller.close()

        answering = threading.Thread(target=hang_up)
        answering.start()
        port = listener.getsockname()[1]
        queue = RabbitMQQueue(
            reached(least_privilege, least_privilege.daemon, host=servers.HOST, port=port),
            least_privilege.names,
        )
        until = time.monotonic() + 7
        while time.monotonic() < until:
            with pytest.raises(QueueUnavailable):
                queue.receive(1, 0.05)
        queue.close()
        listener.shutdown(socket.SHUT_RDWR)
        answering.join()
    waits = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert all(0.1 < wait < longest + 0.4 for wait in waits), waits
    assert statistics.mean(waits[:2]) < statistics.mean(waits[-4:]), waits
    assert statistics.pstdev(waits[-6:]) > 0.01, waits


class Silent:
    """A port that accepts connections and sends nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server((servers.HOST, 0), backlog=50)
        self.port = int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    here = Silent()
    yield here
    here.close()


def ended_by_wake(queue: RabbitMQQueue) -> tuple[float, float]:
    """Wake a ``receive`` of 20 s after half a second. Returns the seconds it took, and those of CPU time."""
    waker = threading.Timer(0.5, queue.wake)
    waker.start()
    begun, busy = time.monotonic(), time.process_time()
    with contextlib.suppress(QueueUnavailable):
        assert queue.receive(10, 20.0) == []
    took = time.monotonic() - begun, time.process_time() - busy
    waker.join()
    return took


def test_wake_ends_a_wait_for_messages(virtual_host: VirtualHost, read: Read) -> None:
    queue = read(virtual_host)
    for _ in range(2):
        took, busy = ended_by_wake(queue)
        assert 0.4 < took < 1.5
        assert busy < 0.3


def test_wake_ends_a_wait_for_the_next_try(
    least_privilege: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "FIRST_WAIT", 30.0)
    (port,) = free_ports(1)
    queue = RabbitMQQueue(reached(least_privilege, least_privilege.daemon, port=port), least_privilege.names)
    with pytest.raises(QueueUnavailable, match="refused"):
        queue.receive(10, 0.0)
    took, busy = ended_by_wake(queue)
    assert 0.4 < took < 1.5
    assert busy < 0.3
    queue.close()


def test_wake_ends_a_wait_for_a_broker_that_does_not_answer(
    least_privilege: VirtualHost, silent: Silent
) -> None:
    queue = RabbitMQQueue(
        reached(least_privilege, least_privilege.daemon, host=servers.HOST, port=silent.port),
        least_privilege.names,
    )
    for _ in range(2):
        took, busy = ended_by_wake(queue)
        assert 0.4 < took < 1.5
        assert busy < 0.3
    queue.close()


def test_a_paused_broker_costs_no_processor_time(
    own_broker: servers.Broker, own: VirtualHost, read: Read
) -> None:
    queue = read(own)
    nothing_comes(queue)
    own_broker.pause()
    try:
        begun, busy = time.monotonic(), time.process_time()
        while time.monotonic() < begun + 2 * SHORT:
            queue.request_fence()
            assert queue.receive(1, 0.05) == []
        assert time.monotonic() - begun < 3 * SHORT
        assert time.process_time() - busy < 0.3
    finally:
        own_broker.resume()
    connect(queue)


def test_an_idle_receive_ends_in_time_and_costs_no_processor_time(
    virtual_host: VirtualHost, read: Read
) -> None:
    queue = read(virtual_host)
    queue.receive(10, 0.0)
    begun, busy = time.monotonic(), time.process_time()
    assert queue.receive(10, 2.0) == []
    assert 1.9 < time.monotonic() - begun < 2.5
    assert time.process_time() - busy < 0.1
    begun = time.monotonic()
    assert queue.receive(10, 0.0) == []
    assert time.monotonic() - begun < 0.5


# dead letters


def letters(here: VirtualHost) -> RabbitMQDeadLetters:
    return RabbitMQDeadLetters(reached(here, here.daemon), here.names)


def test_a_dead_letter_has_its_reason_and_is_requeued_to_its_original_exchange(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    here = least_privilege
    queue = read(here)
    publish(here, here.client).publish(b"command")
    publish(here, here.worker).publish(b"r" * 1000)
    came = take(queue, 2)
    queue.dead_letter([(one, f"because of {one.raw[:1].decode()}") for one in came])
    nothing_comes(queue)

    with here.connect(here.admin) as connection:
        channel = connection.channel()
        _, properties, raw = channel.basic_get(here.names.dead_letters)
    assert raw == b"command"
    assert properties is not None
    assert properties.headers is not None
    assert properties.headers["reason"] == "because of c"
    assert properties.delivery_mode == 2

    found = letters(here).all()
    assert [(each.reason, each.size, each.first_bytes) for each in found] == [
        ("because of c", 7, b"command"),
        ("because of r", 1000, b"r" * 60),
    ]
    assert all(abs(each.at - time.time()) < 30 for each in found)
    letters(here).requeue([each.id for each in found])
    assert letters(here).all() == []
    again = take(queue, 2)
    assert [(one.raw, one.origin, one.sender) for one in again] == [
        (b"command", "client", here.client.username),
        (b"r" * 1000, "worker", here.worker.username),
    ]
    queue.dead_letter([(one, "again") for one in again])
    found = letters(here).all()
    letters(here).drop([found[1].id])
    assert letters(here).all() == found[:1]
    nothing_comes(queue)


def test_a_dead_letter_of_unknown_origin_is_not_requeued(least_privilege: VirtualHost, read: Read) -> None:
    here = least_privilege
    queue = read(here)
    with here.connect(here.admin) as connection:
        connection.channel().basic_publish("", here.queue_name, b"somebody's")
    queue.dead_letter([(one, "whose?") for one in take(queue, 1)])
    (found,) = letters(here).all()
    with pytest.raises(UsageError):  # the daemon may not publish to its original exchange
        letters(here).requeue([found.id])
    assert letters(here).all() == [found]
    nothing_comes(queue)


def test_what_the_broker_moved_to_the_dead_letters_cannot_be_requeued_as_a_command(
    least_privilege: VirtualHost, read: Read
) -> None:
    """The broker moves messages there if a policy of the site limits the queue's length."""
    here, names = least_privilege, least_privilege.names
    read(here).close()
    claims = {"exchange": names.commands, "sender": here.client.username, "reason": "trust me"}
    with here.connect(here.worker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for user in (here.worker.username, None):
            properties = pika.BasicProperties(user_id=user, headers=claims, message_id="mine")
            channel.basic_publish(names.reports, names.queue, b"shutdown", properties)
    with here.connect(here.admin) as connection:
        channel = connection.channel()
        for _ in range(2):
            tag = wait_for(lambda: channel.basic_get(names.reports)[0], "the message").delivery_tag
            channel.basic_reject(tag, requeue=False)
    wait_for(lambda: letters_waiting(here) == 2, "the broker to move them")
    (found,) = letters(here).all()
    assert found.reason == "moved here by the broker"
    assert letters(here).all() == [found]
    with pytest.raises(UsageError, match="its origin is unknown"):
        letters(here).requeue([found.id])
    queue = read(here)
    nothing_comes(queue)
    letters(here).drop([found.id])
    assert letters_waiting(here) == 0


def test_an_unknown_id_is_an_error_and_changes_no_dead_letter(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(least_privilege)
    send(publish(least_privilege), least_privilege, numbers(2))
    queue.dead_letter([(one, "because") for one in take(queue, 2)])
    found = letters(least_privilege).all()
    for deal in (letters(least_privilege).requeue, letters(least_privilege).drop):
        with pytest.raises(UsageError, match="no dead letter nonsense"):
            deal([found[0].id, "nonsense"])
    assert letters(least_privilege).all() == found
    nothing_comes(queue)


def test_three_hundred_dead_letters_are_listed_twice_the_same(
    virtual_host: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(virtual_host)
    send(publish(virtual_host), virtual_host, numbers(300))
    batch = take(queue, 300)
    queue.dead_letter([(one, f"number {one.raw.decode()}") for one in batch])
    first = letters(virtual_host).all()
    assert [each.reason for each in first] == [f"number {number}" for number in range(300)]
    assert letters(virtual_host).all() == first
    assert len({each.id for each in first}) == 300
    letters(virtual_host).drop([each.id for each in first[10:20]])
    assert letters(virtual_host).all() == first[:10] + first[20:]


def test_without_a_daemon_there_are_no_dead_letters(least_privilege: VirtualHost) -> None:
    assert letters(least_privilege).all() == []
    with pytest.raises(LandoError):
        letters(least_privilege).drop(["one"])


# what is declared


@pytest.mark.parametrize("queue_type", [None, "quorum", "classic"])
def test_queues_exchanges_and_bindings_are_declared(
    least_privilege: VirtualHost, read: Read, queue_type: QueueType | None
) -> None:
    here = least_privilege
    read(here, queue_type)
    assert isinstance(here.broker, servers.Broker)
    fields = ("name", "type", "durable", "exclusive", "arguments")
    said = here.broker.ctl("list_queues", "-q", "--no-table-headers", "-p", here.name, *fields)
    kind = queue_type or "quorum"
    found = {line.split("\t")[0]: line.split("\t")[1:] for line in said.splitlines()}
    durable = ("lando", "lando.reports", "lando.dead-letters", "lando.dead-letters.reports")
    assert {name: (*row[:2], row[2] == "true") for name, row in found.items()} == {
        **dict.fromkeys(durable, (kind, "true", False)),
        "lando.daemon": ("classic", "false", True),
    }
    for name in durable:
        assert ('{"x-delivery-limit",1000000000}' in found[name][3]) == (kind == "quorum")
    for name in durable[:2]:
        assert '"x-dead-letter-exchange","lando.dead-letters"' in found[name][3]
        assert f'"x-dead-letter-routing-key","{name}"' in found[name][3]
    assert "x-max-length" not in found["lando"][3]
    assert '{"x-max-length",3000}' in found["lando.reports"][3]
    assert '{"x-overflow","reject-publish"}' in found["lando.reports"][3]
    assert '{"x-max-length",10000}' in found["lando.dead-letters"][3]
    assert '{"x-max-length",2000}' in found["lando.dead-letters.reports"][3]
    assert bindings(here) == {
        ("lando.commands", "lando", "lando"),
        ("lando.reports", "lando.reports", "lando"),
        ("lando.dead-letters", "lando.dead-letters", "lando"),
        ("lando.dead-letters", "lando.dead-letters.reports", "lando.reports"),
    }


def bindings(here: VirtualHost) -> set[tuple[str, str, str]]:
    """Exchange, queue and routing key of each."""
    assert isinstance(here.broker, servers.Broker)
    said = here.broker.ctl("list_bindings", "-q", "--no-table-headers", "-p", here.name)
    rows = [line.split("\t") for line in said.splitlines() if not line.startswith("\t")]
    return {(row[0], row[2], row[4]) for row in rows}


def test_another_queue_type_is_a_wrong_setting_and_the_existing_queue_stays(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    read(least_privilege).close()
    publish(least_privilege).publish(b"one")
    other = read(least_privilege, "classic", ready=False)
    with pytest.raises(UsageError, match=r"queue_type: .*already, as a quorum queue"):
        connect(other)
    assert bodies(take(read(least_privilege), 1)) == [b"one"]


# hostile messages


class Odd(pika.BasicProperties):
    """Headers that RabbitMQ passes on and pika cannot decode."""

    def __init__(self, field: bytes) -> None:
        super().__init__(headers={"x": "y"})
        self.field = field

    def encode(self) -> list[bytes]:
        flags, *_ = super().encode()
        return [flags, struct.pack(">I", len(self.field)) + self.field]


FAR_FUTURE = b"\x01tT" + struct.pack(">Q", 2**62)
NESTED = functools.reduce(lambda inner, _: b"A" + struct.pack(">I", len(inner)) + inner, range(5000), b"V")


@pytest.mark.parametrize("field", [FAR_FUTURE, b"\x01a" + NESTED], ids=["far future", "deeply nested"])
def test_headers_that_pika_cannot_decode_do_not_end_the_connection(
    least_privilege: VirtualHost, read: Read, publish: Publish, field: bytes
) -> None:
    here = least_privilege
    queue = read(here)
    with here.connect(here.worker) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(here.names.reports, here.queue_name, b"odd", Odd(field), mandatory=True)
    publish(here).publish(b"behind it")
    received = take(queue, 2)
    assert sorted(bodies(received)) == [b"behind it", b"odd"]
    queue.ack(received)
    nothing_comes(queue)


def test_a_reason_larger_than_a_frame_is_cut(
    least_privilege: VirtualHost, read: Read, publish: Publish
) -> None:
    queue = read(least_privilege)
    send(publish(least_privilege), least_privilege, numbers(2))
    first, second = take(queue, 2)
    queue.dead_letter([(first, "because " * 50_000), (second, "because")])
    assert [len(found.reason) for found in letters(least_privilege).all()] == [MAX_REASON, len("because")]
    nothing_comes(queue)


def test_what_cannot_be_dead_lettered_yet_does_not_fill_the_memory(
    own: VirtualHost, read: Read, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letter_mover, "PAUSE", 0.5)
    monkeypatch.setattr(consumer, "MAX_PENDING", 20 * MEGABYTE)
    queue = read(own)
    send(publish(own), own, [bytes(MEGABYTE) for _ in range(60)])
    publisher = queue._dead_letters._publisher
    with mock.patch.object(publisher, "publish_all", side_effect=QueueUnavailable("not now")):
        for _ in range(100):
            queue.dead_letter([(one, "too much") for one in queue.receive(4, 0.05)])
        held = queue._dead_letters.pending_bytes
        assert 20 * MEGABYTE < held <= 25 * MEGABYTE
        assert queue._session is not None
        assert queue._session._buffered() <= session.MAX_BUFFERED + 4 * MEGABYTE

    def are_all_dead_lettered() -> bool:
        queue.dead_letter([(one, "too much") for one in queue.receive(4, 0.05)])
        return letters_waiting(own) == 60

    wait_for(are_all_dead_lettered, "all to be dead-lettered")
    nothing_comes(queue)


def test_no_fence_is_met_during_an_alarm(own_broker: servers.Broker, own: VirtualHost, read: Read) -> None:
    queue = read(own)
    nothing_comes(queue)
    assert queue.obstacle() is None
    own_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})")
    try:
        words = wait_for(lambda: queue.receive(1, 0.2) == [] and queue.obstacle(), "the alarm", 15)
        assert "accepts no messages at present" in words and "memory" in words
        assert meets_no_fence(queue)
    finally:
        own_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6)")
    fenced(queue, 15)
    wait_for(lambda: queue.obstacle() is None, "the end of the alarm", 5)


def test_a_turn_of_the_daemon_that_takes_long_is_no_alarm(virtual_host: VirtualHost, read: Read) -> None:
    queue = read(virtual_host)
    nothing_comes(queue)
    for _ in range(2):
        queue.receive(1, 0.1)
        assert queue.obstacle() is None
        time.sleep(alarm_probe.STALE + 1)
    assert queue.obstacle() is None
    nothing_comes(queue)
