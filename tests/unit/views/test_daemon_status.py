"""What the views know of a daemon that holds its lock and writes nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lando.app.app import App
from lando.config.site_config import load
from lando.state_dir import DaemonLock
from lando.states.job import Job
from lando.store.facts import DAEMON_FACT, SEEN_FACT
from lando.store.store import Store
from lando.times import rfc3339

BODY = {"git_clone": "x", "cd": ".", "input": {}, "run_cwl": "x"}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """Its state directory has a daemon, this process, that started a minute ago and recorded that."""
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "state").mkdir(mode=0o700)
    config = tmp_path / "landoconfig.yml"
    config.write_text("deployment: tests\n")
    app = App(load(config))
    path = tmp_path / "state" / "daemon.lock"
    lock = DaemonLock(path)
    os.utime(path, (time.time() - 60.0,) * 2)
    write(app, DAEMON_FACT, {"pid": os.getpid()})
    yield app
    lock.release()
    app.close()


def write(app: App, fact: str, value: object, job: Job | None = None) -> None:
    with closing(Store(app.config.database_url)) as store, store.transaction() as transaction:
        transaction.set_fact(fact, value)
        if job is not None:
            transaction.insert_job(job, BODY, None)


def problems(app: App) -> list[str]:
    return [problem for problem, _ in app.views().daemon().problems]


def test_a_daemon_that_records_nothing_while_jobs_are_live_is_told(app: App) -> None:
    since = time.time() - 30.0
    write(app, SEEN_FACT, since)
    assert problems(app) == [], "an idle daemon writes nothing"
    write(app, SEEN_FACT, since, Job("a" * 36, state="running"))
    assert problems(app) == [f"the daemon has written nothing to its database since {rfc3339(since)}"]
    write(app, SEEN_FACT, time.time() - 6.0)
    assert problems(app) == []


def test_a_daemon_is_not_blamed_for_what_its_predecessor_left(app: App) -> None:
    write(app, SEEN_FACT, 1.0, Job("a" * 36, state="running"))
    os.utime(app.config.state_dir / "daemon.lock")
    assert problems(app) == []


def test_a_daemon_that_could_not_even_record_its_start_is_told(app: App) -> None:
    write(app, DAEMON_FACT, {"pid": os.getpid() + 1})
    assert len(problems(app)) == 1
    os.utime(app.config.state_dir / "daemon.lock")
    assert problems(app) == []
