"""How soon a submitted job's first effect starts: from the queue's confirmation to the call of ``create``.

Everything is real (queue, database with every commit fsynced, daemon) but the cloud, which only notes the
time. Printed beside it, as a floor: one fsynced commit on the same file system.

usage: python -m benchmarks.latency [JOBS]
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

from benchmarks.emptycloud import EmptyCloud
from lando.app.app import App
from lando.app.service import Service
from lando.cloud.interface import Refused, Server, ServerRequest
from lando.config import site_config as config
from lando.messages import Message
from lando.states.job import JobSpec

TARGET = 0.1
"""Seconds that 99 of 100 jobs may wait at most."""


class NotingCloud(EmptyCloud):
    """Creates nothing, and notes when it was asked to."""

    def __init__(self) -> None:
        self.asked: dict[str, float] = {}
        self.called = threading.Condition()

    def create(self, request: ServerRequest) -> Server:
        """Note the time; nothing is made here."""
        with self.called:
            self.asked.setdefault(request.job_id, time.monotonic())
            self.called.notify_all()
        raise Refused("this cloud only notes the time", origin="job")


def measure(directory: Path, jobs: int) -> list[float]:
    """Seconds from confirmation to create, for each of ``jobs`` jobs, one after the other."""
    site = App(config.embedded(directory / "state"))
    cloud = NotingCloud()
    site.__dict__["cloud"] = cloud
    service = Service(site)
    ready = threading.Event()
    thread = threading.Thread(target=service.run, args=(ready.set,))
    thread.start()
    publisher = site.publisher()
    body = JobSpec("/nowhere", ".", {}, "tool.cwl").as_body()
    waits = []
    try:
        assert ready.wait(30)
        for _ in range(jobs):
            job = str(uuid.uuid4())
            publisher.publish(Message("start_worker", body, job=job).encode())
            confirmed = time.monotonic()
            with cloud.called:
                assert cloud.called.wait_for(lambda job=job: job in cloud.asked, 30)  # type: ignore[misc]
            waits.append(max(0.0, cloud.asked[job] - confirmed))
    finally:
        service.daemon.stop()
        thread.join()
        service.close()
        publisher.close()
    return waits


def commit_floor(directory: Path, commits: int = 50) -> float:
    """Median seconds of one fsynced commit."""
    database = sqlite3.connect(directory / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (x)")
    took = []
    for number in range(commits):
        begun = time.monotonic()
        database.execute("INSERT INTO t VALUES (?)", (number,))
        took.append(time.monotonic() - begun)
    database.close()
    return statistics.median(took)


def main() -> None:
    """Measure and print."""
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        floor = commit_floor(directory)
        waits = sorted(measure(directory, jobs))
    p99 = waits[min(len(waits) - 1, int(len(waits) * 0.99))]
    print(f"from the queue's confirmation to the first effect, {jobs} jobs, {os.cpu_count()} CPUs:")
    for label, seconds in (("median", statistics.median(waits)), ("p99", p99), ("worst", waits[-1])):
        print(f"{label:<8}{1000 * seconds:6.1f} ms")
    print(f"floor: one fsynced commit takes {1000 * floor:.1f} ms")
    print(f"target: p99 under {1000 * TARGET:.0f} ms: {'met' if p99 < TARGET else 'missed'}")


if __name__ == "__main__":
    main()
