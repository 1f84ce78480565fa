"""The embedded queue between processes: several publishers, waking, kill -9, a read-only directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from lando.workqueue import embedded
from lando.workqueue.embedded import EmbeddedPublisher, EmbeddedQueue, waiting

LONG = 30.0
"""Seconds after which a test fails."""

UNPRIVILEGED = ["65534"] if os.geteuid() == 0 else []
"""The account (nobody) that a publisher changes to, since root may write everywhere."""

# Prints "ready"; then publishes for every line "FILE TEXT", and prints "ok" or the error.
PUBLISHER = """
import os, sys
from pathlib import Path
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.embedded import EmbeddedPublisher

if len(sys.argv) > 1:
    os.setuid(int(sys.argv[1]))
publishers = {}
print("ready", flush=True)
for line in sys.stdin:
    file, text = line.split()
    try:
        if file not in publishers:
            publishers[file] = EmbeddedPublisher(Path(file), "client")
        publishers[file].publish(text.encode())
        print("ok", flush=True)
    except QueueUnavailable as error:
        print(error, flush=True)
"""

# Prints what it receives; acks nothing, and does not end by itself.
READER = """
import sys, time
from pathlib import Path
from lando.workqueue.embedded import EmbeddedQueue

queue = EmbeddedQueue(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for delivery in queue.receive(10, 60):
        print(delivery.raw.decode(), flush=True)
"""


class Child:
    """A process that reads and writes lines."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hear() == "ready"

    def say(self, line: str) -> None:
        self._stream(self.process.stdin).write(line + "\n")
        self._stream(self.process.stdin).flush()

    def hear(self) -> str:
        return self._stream(self.process.stdout).readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                self._stream(stream).close()

    @staticmethod
    def _stream(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


@pytest.fixture
def publishers() -> Iterator[list[Child]]:
    children = [Child(PUBLISHER) for _ in range(6)]
    yield children
    for child in children:
        child.kill()


def take(queue: EmbeddedQueue, count: int) -> list[bytes]:
    """Receive and ack ``count`` messages; a wakeup that arrives late may end a wait without one."""
    taken: list[bytes] = []
    deadline = time.monotonic() + LONG
    while len(taken) < count and time.monotonic() < deadline:
        deliveries = queue.receive(9, LONG)
        queue.ack(deliveries)
        taken += [delivery.raw for delivery in deliveries]
    return taken


def test_all_create_the_file_at_the_same_instant(tmp_path: Path, publishers: list[Child]) -> None:
    for number in range(40):
        database = tmp_path / f"{number}.db"
        for who, child in enumerate(publishers):
            child.say(f"{database} message-{who}")
        assert {child.hear() for child in publishers} == {"ok"}
        assert sorted(delivery.raw for delivery in waiting(database)) == [
            b"message-%d" % who for who in range(len(publishers))
        ]


def test_several_publishers_and_one_reader(database: Path, publishers: list[Child]) -> None:
    queue = EmbeddedQueue(database)
    for number in range(20):
        for who, child in enumerate(publishers):
            child.say(f"{database} {who}-{number}")
    received = take(queue, 20 * len(publishers))
    assert {child.hear() for child in publishers for _ in range(20)} == {"ok"}
    for who in range(len(publishers)):
        assert [raw for raw in received if raw.startswith(b"%d-" % who)] == [
            b"%d-%d" % (who, number) for number in range(20)
        ]
    assert queue.receive(1, 0) == [] and waiting(database) == []
    queue.close()


def test_another_process_wakes_the_reader_at_once(
    database: Path, publishers: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SAFETY_POLL", LONG)
    queue = EmbeddedQueue(database)
    delays = []
    for number in range(20):
        published = time.monotonic()
        publishers[0].say(f"{database} {number}")
        assert take(queue, 1) == [b"%d" % number]
        delays.append(time.monotonic() - published)
    assert sorted(delays)[len(delays) // 2] < 0.5
    assert max(delays) < LONG / 2
    queue.close()


def test_what_was_published_outlives_its_publisher(database: Path, publishers: list[Child]) -> None:
    publishers[0].say(f"{database} kept")
    assert publishers[0].hear() == "ok"
    for child in publishers:
        child.kill()
    assert [delivery.raw for delivery in waiting(database)] == [b"kept"]
    queue = EmbeddedQueue(database)
    assert [delivery.raw for delivery in queue.receive(1, 0)] == [b"kept"]
    queue.close()


def test_what_a_killed_reader_held_is_delivered_again(database: Path) -> None:
    publisher = EmbeddedPublisher(database, "client")
    publisher.publish(b"one")
    reader = Child(READER, str(database))
    publisher.publish(b"two")
    assert [reader.hear(), reader.hear()] == ["one", "two"]
    reader.kill()
    publisher.publish(b"three")  # there is a named pipe, and no reader
    queue = EmbeddedQueue(database)
    assert [delivery.raw for delivery in queue.receive(10, 0)] == [b"one", b"two", b"three"]
    queue.close()
    publisher.close()


def test_publisher_waits_for_a_long_transaction(database: Path, publishers: list[Child]) -> None:
    connection = embedded.connect(database)
    connection.execute("BEGIN IMMEDIATE")
    publishers[0].say(f"{database} patient")
    assert waiting(database) == [], "looking does not wait for a writer"
    connection.execute("COMMIT")
    assert publishers[0].hear() == "ok"
    connection.close()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A directory that the child's account may read, but not write."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o555)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


def test_read_only_directory(read_only: Path) -> None:
    child = Child(PUBLISHER, *UNPRIVILEGED)
    child.say(f"{read_only}/lando.db x")
    assert child.hear() == f"{read_only}/lando.db: [Errno 13] Permission denied: '{read_only}/lando.db'"
    child.kill()


def test_read_only_database(read_only: Path) -> None:
    database = read_only / "lando.db"
    read_only.chmod(0o755)
    EmbeddedPublisher(database, "client").close()
    database.chmod(0o444)
    read_only.chmod(0o555)
    child = Child(PUBLISHER, *UNPRIVILEGED)
    child.say(f"{database} x")
    words = child.hear()
    assert words.startswith(f"{database}: ") and words != "ok"
    child.kill()
