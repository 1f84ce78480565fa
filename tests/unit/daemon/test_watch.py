"""What the watcher makes of snapshots before they are judged."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import Server, Unreachable
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon import watch
from lando.daemon.unknown import Unknown
from lando.daemon.watch import Watcher
from lando.engine.pace import Pace
from lando.states.events import ServerLost
from lando.states.job import Job
from lando.store.facts import PROJECT_FACT

GRACE = 60.0
DENIED = CloudSnapshot((), gone=frozenset({"server-1"}))
LISTED_AGAIN = CloudSnapshot(())


class Watched:
    """A watcher of one job that boots, and the events that it fires."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)
        self.engine, self.transaction = MagicMock(pace=Pace()), MagicMock()
        job = Job("a", state="booting", server_id="server-1")
        self.transaction.owners.return_value, self.transaction.job.return_value = [job], job
        self.transaction.jobs_with.return_value = []
        self.unknown = Unknown("ours", GRACE)
        cloud, wake = EmptyCloud(), MagicMock()
        self.watcher = Watcher(
            cloud,  # type: ignore[arg-type]
            self.engine,
            MagicMock(),
            MagicMock(),
            self.unknown,
            observe=1.0,
            grace=GRACE,
            wake=wake,
        )

    def judge(self, snapshot: CloudSnapshot, now: float) -> list[object]:
        """The events of a snapshot that is taken and judged at this time."""
        self.now = now
        self.watcher._snapshots.append(snapshot)
        self.engine.fire.reset_mock()
        self.watcher.judge(self.transaction, 1, now, listening_since=0.0)
        return [call.args[2] for call in self.engine.fire.call_args_list]


def test_a_server_is_gone_once_the_cloud_has_denied_it_for_the_grace_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replica of Nova's database that lags behind denies a server that was created a moment ago."""
    watched = Watched(monkeypatch)
    assert watched.judge(DENIED, 0.0) == []
    assert watched.judge(DENIED, GRACE - 1) == []
    [lost] = watched.judge(DENIED, GRACE)
    assert isinstance(lost, ServerLost)


def test_an_unknown_server_is_gone_once_the_cloud_has_not_listed_it_for_the_grace_period(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    jobs = {"b": Job("b")}
    watched.transaction.jobs_with = lambda ids: [jobs[each] for each in ids]
    server = Server("server-2", "vm", "ACTIVE", "mark", "theirs", "b", 1)
    watched.judge(CloudSnapshot((server,)), 0.0)
    for now, shown in ((1.0, 1), (GRACE, 1), (GRACE + 1, 0)):
        watched.judge(LISTED_AGAIN, now)
        assert len(watched.unknown.jobs) == shown
        watched.unknown.write(watched.transaction)
        assert len(watched.transaction.set_fact.call_args.args[1]["servers"]) == shown, "of a job of ours"


def test_the_project_of_the_servers_is_recorded_before_a_job_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch)
    watched.judge(LISTED_AGAIN, 0.0)
    watched.transaction.set_fact.assert_not_called()
    monkeypatch.setattr(EmptyCloud, "project", "staging")
    for now in (1.0, 2.0):
        watched.judge(LISTED_AGAIN, now)
    watched.transaction.set_fact.assert_called_once_with(PROJECT_FACT, "staging")


def test_a_server_that_is_listed_again_was_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.judge(DENIED, 0.0)
    watched.judge(LISTED_AGAIN, 30.0)
    assert watched.judge(DENIED, GRACE) == []
    assert len(watched.judge(DENIED, 2 * GRACE)) == 1


def test_the_cloud_is_silent_while_its_servers_cannot_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota or a list of floating IPs that cannot be read leaves servers that can be deleted."""
    watched = Watched(monkeypatch)
    seen = []
    results = (Unreachable("no route"), CloudSnapshot((), troubles=("no quota",)), ValueError(), LISTED_AGAIN)
    for result in results:
        monkeypatch.setattr(watched.watcher._pool, "collect", lambda result=result: [result])
        watched.watcher.collect()
        seen.append(watched.watcher.is_cloud_silent)
    assert seen == [True, False, True, False]
