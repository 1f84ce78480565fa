"""Reports and commands on a real broker: two queues, bounds, a flood, and dead letters per origin."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pika.exceptions import ChannelClosedByBroker

from lando.errors import UsageError
from lando.workqueue.interface import MAX_BATCH, REPORT_BYTES_KEPT, QueueUnavailable
from lando.workqueue.rabbitmq import dead_letter_mover, topology
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher
from lando.workqueue.rabbitmq.settings import QueueType
from tests.integration.test_rabbitmq_queue import (
    bindings,
    bodies,
    closed,
    connect,
    fenced,
    letters,
    nothing_comes,
    numbers,
    reached,
    take,
)
from tests.support import rabbitmq_server as servers
from tests.support.rabbitmq_server import Account, VirtualHost

Read = Callable[..., RabbitMQQueue]


@pytest.fixture
def read() -> Iterator[Read]:
    """Makes readers, and closes them."""
    with ExitStack() as made:

        def begin(here: VirtualHost, queue_type: QueueType | None = None) -> RabbitMQQueue:
            queue = RabbitMQQueue(reached(here, here.daemon), here.names, queue_type)
            made.callback(closed, queue)
            connect(queue)
            return queue

        yield begin


@contextmanager
def publishing(here: VirtualHost, account: Account, patience: float = 20.0) -> Iterator[RabbitMQPublisher]:
    exchange = here.names.reports if account == here.worker else here.names.commands
    publisher = RabbitMQPublisher(reached(here, account), exchange, here.queue_name, patience)
    try:
        yield publisher
    finally:
        publisher.close()


def send(here: VirtualHost, account: Account, raws: Sequence[bytes]) -> None:
    """Publish several; returns when all are confirmed."""
    exchange = here.names.reports if account == here.worker else here.names.commands
    with publishing(here, account) as publisher:
        publisher.publish_all([OutgoingMessage(raw, exchange) for raw in raws])


def permit_as_before(here: VirtualHost) -> None:
    """The daemon's account as the first release's ``rabbitmq-setup`` made it."""
    assert isinstance(here.broker, servers.Broker)
    ours = r"^(lando|lando\.commands|lando\.reports|lando\.dead-letters|lando\.daemon)$"
    here.broker.ctl("set_permissions", "-p", here.name, here.daemon.username, ours, ours, ours)


def declare_as_before(here: VirtualHost) -> None:
    """What the first release's daemon declared."""
    names = here.names
    with here.connect(here.daemon) as connection:
        channel = connection.channel()
        for exchange in (names.commands, names.reports, names.dead_letters):
            channel.exchange_declare(exchange, "direct", durable=True)
        limit = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}
        bounds = {"x-max-length": 10_000, "x-max-length-bytes": 512 * 1024 * 1024}
        channel.queue_declare(names.dead_letters, durable=True, arguments={**limit, **bounds})
        channel.queue_bind(names.dead_letters, names.dead_letters, names.queue)
        rejected = {
            "x-dead-letter-exchange": names.dead_letters,
            "x-dead-letter-routing-key": names.queue,
        }
        channel.queue_declare(names.queue, durable=True, arguments={**limit, **rejected})
        for exchange in (names.commands, names.reports):
            channel.queue_bind(names.queue, exchange, names.queue)


# two queues


def test_commands_are_received_before_reports_that_were_sent_earlier(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    read(here).close()
    send(here, here.worker, numbers(1200))
    send(here, here.client, [b"cancel", b"submit"])
    queue = read(here)
    queue.receive(0, 1.0)
    time.sleep(0.3)  # until both have arrived
    first = queue.receive(500, 1.0)
    assert bodies(first[:2]) == [b"cancel", b"submit"]
    assert [one.origin for one in first] == ["client"] * 2 + ["worker"] * 498
    queue.ack(first)
    rest = take(queue, 702)
    assert bodies(first[2:] + rest) == numbers(1200)
    queue.ack(rest)
    nothing_comes(queue)
    queue.close()
    assert here.messages() == here.messages(here.names.reports) == 0


def test_commands_leave_room_for_reports(least_privilege: VirtualHost, read: Read) -> None:
    here = least_privilege
    read(here).close()
    send(here, here.client, numbers(1000))
    send(here, here.worker, [b"report"] * 100)
    queue = read(here)
    queue.receive(0, 1.0)
    time.sleep(0.3)  # until both have arrived
    first = queue.receive(200, 1.0)
    assert [one.origin for one in first] == ["client"] * 150 + ["worker"] * 50


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_more_reports_than_the_daemon_reads_in_a_second_are_refused(
    least_privilege: VirtualHost, read: Read, queue_type: QueueType
) -> None:
    here = least_privilege
    read(here, queue_type).close()
    with publishing(here, here.worker) as worker:
        with pytest.raises(QueueUnavailable, match=r"refused the message .*the queue is full"):
            for first in range(0, 20_000, 500):
                worker.publish_all([OutgoingMessage(raw, here.names.reports) for raw in numbers(500, first)])
        assert here.messages(here.names.reports) < 2 * topology.REPORTS_WAITING
        send(here, here.client, [b"cancel"])  # nobody else is concerned
        queue = read(here, queue_type)
        assert fenced(queue, acking=True)[0].raw == b"cancel"
        nothing_comes(queue)
        worker.publish(b"again")
        assert bodies(take(queue, 1)) == [b"again"]


def test_a_batch_has_a_limited_size(least_privilege: VirtualHost, read: Read) -> None:
    here = least_privilege
    queue = read(here)
    raws = [bytes(2 * 1024 * 1024)] * 10
    for account in (here.client, here.worker):
        send(here, account, raws)
    sizes = []
    while sum(sizes) < 20:
        batch = queue.receive(500, 5.0)
        sizes.append(len(batch))
        queue.ack(batch)
    assert max(sizes) <= MAX_BATCH // len(raws[0])
    nothing_comes(queue)


def test_reports_of_an_older_version_are_drained_and_none_is_unroutable(
    least_privilege: VirtualHost, read: Read
) -> None:
    here, names = least_privilege, least_privilege.names
    permit_as_before(here)
    declare_as_before(here)
    send(here, here.worker, numbers(50))
    refused: list[str] = []
    over = threading.Event()

    def report() -> None:
        with publishing(here, here.worker) as worker:
            for number in range(50, 100_000):
                try:
                    worker.publish(b"%d" % number)
                except QueueUnavailable as error:
                    refused.append(str(error))
                if over.is_set():
                    break

    reporting = threading.Thread(target=report)
    reporting.start()
    try:
        queue = read(here)
        received = take(queue, 300)
    finally:
        over.set()
        reporting.join()
    received += fenced(queue)
    assert refused == []
    assert {one.origin for one in received} == {"worker"}
    numbers_of = {int(one.raw) for one in received}
    assert numbers_of == set(range(max(numbers_of) + 1))  # some of them twice, perhaps
    queue.ack(received)
    assert (names.reports, names.queue, names.queue) not in bindings(here)
    assert (names.reports, names.reports, names.queue) in bindings(here)


# a flood


class Flood:
    """Publishes reports as fast as the broker takes them, without confirms, from several connections."""

    def __init__(self, here: VirtualHost, connections: int = 3) -> None:
        self._here = here
        self.published = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._publish) for _ in range(connections)]

    def __enter__(self) -> Flood:
        for thread in self._threads:
            thread.start()
        return self

    def _publish(self) -> None:
        with self._here.connect(self._here.worker) as connection:
            channel = connection.channel()
            while not self._over.is_set():
                for _ in range(100):
                    channel.basic_publish(self._here.names.reports, self._here.queue_name, b"x" * 200)
                self.published += 100
                connection.process_data_events(0)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def documented_way_back() -> list[list[str]]:
    """The arguments of each rabbitmqctl of docs/rabbitmq.md, "Back to 0.1"."""
    page = (Path(__file__).parents[2] / "docs" / "rabbitmq.md").read_text()
    section = page.partition("### Back to 0.1\n")[2].partition("\n## ")[0]
    return [command.split() for command in re.findall(r"sudo rabbitmqctl ([^`\n]+)", section)]


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
def test_the_documented_way_back_to_an_older_version(
    least_privilege: VirtualHost, read: Read, queue_type: QueueType
) -> None:
    here = least_privilege
    assert isinstance(here.broker, servers.Broker)
    read(here, queue_type).close()
    (look, *columns), (delete, *queue) = documented_way_back()
    assert f"{here.names.reports}\t0" in here.broker.ctl(look, "-p", here.name, *columns).splitlines()
    here.broker.ctl(delete, "-p", here.name, *queue)
    with here.connect(here.admin) as connection, pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
        connection.channel().queue_declare(here.names.reports, passive=True)
    if queue_type == "quorum":
        declare_as_before(here)
    else:
        with here.connect(here.daemon) as connection:
            connection.channel().queue_bind(here.queue_name, here.names.reports, here.queue_name)
    send(here, here.worker, [b"a report"])
    assert here.messages() == 1


@pytest.mark.alone
def test_fences_are_met_while_the_queue_of_reports_stays_full(
    least_privilege: VirtualHost, read: Read
) -> None:
    """Of a quorum queue; of a classic one, a flood without confirms may stop for seconds."""
    here = least_privilege
    queue = read(here, "quorum")
    nothing_comes(queue)
    met: list[float] = []
    commands: list[float] = []
    refusals: set[float] = set()
    with Flood(here) as flood, publishing(here, here.client) as client:
        while here.messages(here.names.reports) < topology.REPORTS_WAITING // 2:
            time.sleep(0.1)
        until = time.monotonic() + 60
        asked: float | None = None
        sent: float | None = None
        received = 0
        while len(met) < 5 or len(commands) < 5 or len(refusals) < 5:
            assert time.monotonic() < until, (met, commands, refusals)
            if asked is None:
                asked = time.monotonic()
            if sent is None:
                sent = time.monotonic()
                client.publish(b"cancel")
            queue.request_fence()
            batch = queue.receive(500, 0.1)
            received += len(batch)
            time.sleep(0.05)  # the transaction
            queue.ack(batch)
            if any(one.origin == "client" for one in batch):
                commands.append(time.monotonic() - sent)
                sent = None
            if (queue.passed_fence() or 0.0) >= asked:
                met.append(time.monotonic() - asked)
                asked = None
            refused = queue.refused_at()
            if refused is not None:
                refusals.add(refused)
            assert queue.obstacle() is None
        assert flood.published > received
    assert max(met) < 3, met
    assert max(commands) < 2, commands
    fenced(queue, acking=True)
    nothing_comes(queue)


def test_a_full_queue_is_noticed_though_nobody_asks_for_a_fence(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    queue = read(here)
    send(here, here.worker, numbers(50))
    queue.ack(take(queue, 50))
    nothing_comes(queue)
    assert queue.refused_at() is None
    with Flood(here):
        while here.messages(here.names.reports) < topology.REPORTS_WAITING // 2:
            time.sleep(0.1)
        refusals: list[float] = []
        until = time.monotonic() + 30
        while len(refusals) < 4 or refusals[-1] < refusals[0] + 4.0:
            assert time.monotonic() < until, refusals
            batch = queue.receive(100, 0.1)  # far fewer than arrive, so that the queue stays full
            time.sleep(0.05)
            queue.ack(batch)
            assert queue.obstacle() is None
            refused_at = queue.refused_at()
            if refused_at is not None and refused_at not in refusals:
                refusals.append(refused_at)
    fenced(queue, acking=True)
    nothing_comes(queue)


# dead letters


def test_workers_cannot_displace_the_dead_letters_of_clients(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    queue = read(here)
    send(here, here.client, [b"a job"])
    queue.dead_letter([(one, "a newer version's") for one in take(queue, 1)])
    for first in range(0, 12_000, 800):
        send(here, here.worker, numbers(800, first))
        queue.dead_letter([(one, "rubbish") for one in take(queue, 800)])
    while queue._dead_letters.pending_bytes:
        queue.receive(0, 0.1)
    found = letters(here).all()
    assert [one.first_bytes for one in found if one.origin == "client"] == [b"a job"]
    assert len(found) <= topology.REPORT_LETTERS_KEPT + 1


def test_the_dead_letters_of_both_are_listed_requeued_and_dropped(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    queue = read(here)
    for account in (here.client, here.worker):
        send(here, account, [b"one", b"two"])
    queue.dead_letter([(one, "because") for one in take(queue, 4)])
    nothing_comes(queue)
    found = letters(here).all()
    assert sorted((str(one.origin), one.first_bytes) for one in found) == [
        ("client", b"one"),
        ("client", b"two"),
        ("worker", b"one"),
        ("worker", b"two"),
    ]
    letters(here).drop([one.id for one in found if one.first_bytes == b"one"])
    letters(here).requeue([one.id for one in found if one.first_bytes == b"two"])
    assert letters(here).all() == []
    assert [(one.raw, one.origin, one.sender) for one in take(queue, 2)] == [
        (b"two", "client", here.client.username),
        (b"two", "worker", here.worker.username),
    ]


def test_of_a_long_report_the_dead_letter_keeps_the_beginning(
    least_privilege: VirtualHost, read: Read
) -> None:
    here = least_privilege
    queue = read(here)
    long = b"x" * (REPORT_BYTES_KEPT + 1)
    for account in (here.client, here.worker):
        send(here, account, [long])
    queue.dead_letter([(one, "because") for one in take(queue, 2)])
    nothing_comes(queue)
    found = {one.origin: one for one in letters(here).all()}
    assert found["client"].size == found["worker"].size == len(long)
    with pytest.raises(UsageError, match="only its first 65,536 bytes were kept"):
        letters(here).requeue([found["worker"].id])
    letters(here).requeue([found["client"].id])
    assert [one.raw for one in take(queue, 1)] == [long]
    letters(here).drop([found["worker"].id])
    assert letters(here).all() == []


def test_what_the_broker_dead_letters_of_reports_is_with_the_letters_of_workers(
    least_privilege: VirtualHost, read: Read
) -> None:
    here, names = least_privilege, least_privilege.names
    read(here).close()
    send(here, here.worker, [b"report"])
    with here.connect(here.admin) as connection:
        channel = connection.channel()
        while (method := channel.basic_get(names.reports)[0]) is None:
            time.sleep(0.05)
        channel.basic_reject(method.delivery_tag, requeue=False)
    while here.messages(names.report_letters) == 0:
        time.sleep(0.05)
    assert [one.reason for one in letters(here).all()] == ["moved here by the broker"]


def test_an_account_of_an_older_version_shares_the_dead_letters_within_a_bound(
    least_privilege: VirtualHost, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    here = least_privilege
    permit_as_before(here)
    caplog.set_level(logging.WARNING)
    queue = read(here)
    send(here, here.client, [b"a job"])
    queue.dead_letter([(one, "a newer version's") for one in take(queue, 1)])
    for _ in range(3):
        send(here, here.worker, numbers(400))
        queue.dead_letter([(one, "rubbish") for one in take(queue, 400)])
    nothing_comes(queue)
    found = letters(here).all()
    assert [one.origin for one in found] == ["client"] + ["worker"] * dead_letter_mover.SHARED_BURST
    (warning,) = [text for text in caplog.messages if "rabbitmq-setup" in text]
    assert "may not declare the queue 'lando.dead-letters.reports'" in warning
    queue.close()
    assert here.messages() == here.messages(here.names.reports) == 0

    caplog.clear()
    assert isinstance(here.broker, servers.Broker)
    here.broker.ctl("set_permissions", "-p", here.name, here.daemon.username, ".*", ".*", ".*")
    queue = read(here)
    send(here, here.worker, numbers(400))
    queue.dead_letter([(one, "rubbish") for one in take(queue, 400)])
    nothing_comes(queue)
    assert here.messages(here.names.report_letters) == 400
    assert caplog.messages == []
