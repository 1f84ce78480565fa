"""The system while PostgreSQL is stopped, killed, replaced, or loses the answer to a COMMIT."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.local_site import Gate, wait_for, workflow
from tests.support.postgres_proxy import Moment, PostgresProxy
from tests.support.postgres_server import Database, Postgres, require_server
from tests.support.postgres_site import PostgresSite
from tests.support.rabbitmq_server import VirtualHost


def counted(root: Path, name: str, script: str = "") -> tuple[Path, Path]:
    """A job with one attempt, and the file into which each of its runs writes a line."""
    tally = root / f"{name}.tally"
    job = workflow(root, f'{script}\necho "$PWD" >> {tally}\n', name)
    job.write_text(job.read_text() + "attempts: 1\n")  # so that no retry hides a failure of the system
    return job, tally


def runs(tally: Path) -> list[str]:
    return tally.read_text().splitlines() if tally.exists() else []


def each_was_done_once(site: PostgresSite, jobs: list[str], tally: Path) -> None:
    found = site.look(*jobs)
    assert [job["state"] for job in found] == ["done"] * len(jobs), (found, site.daemon_log())
    lines = runs(tally)
    assert len(lines) == len(set(lines)) == len(jobs)
    site.nothing_is_left()
    assert "bug" not in site.logs_of_all_daemons()
    assert "Traceback" not in site.logs_of_all_daemons()


# the answer to a COMMIT


@pytest.fixture
def proxy(postgres_database: Database) -> Iterator[PostgresProxy]:
    here = PostgresProxy(sa.make_url(postgres_database.url).port or 5432)
    yield here
    here.close()


TRANSACTIONS: dict[str, Callable[[bytes], bool]] = {
    "a command is received": lambda sent: b"INSERT INTO processed" in sent,
    "an effect is begun": lambda sent: b"INSERT INTO effects" in sent and b"create_server" in sent,
    "a create is concluded": lambda sent: b"DELETE FROM effects" in sent and b"server_created" not in sent,
    "a report is received": lambda sent: b"worker_started" in sent,
    "the result is received": lambda sent: b"workflow_finished" in sent,
    "the deletion is concluded": lambda sent: b"server_gone" in sent,
}
"""Kinds of transactions in the life of a job, by what is sent to the server in them."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_connection_is_lost_at_a_commit(
    tmp_path: Path,
    least_privilege: VirtualHost,
    postgres_database: Database,
    proxy: PostgresProxy,
    moment: Moment,
) -> None:
    """It is not known whether it was done: nothing is lost, and nothing has its effect twice."""
    url = sa.make_url(postgres_database.url)
    through = url.set(port=proxy.port).render_as_string(hide_password=False)
    site = PostgresSite(tmp_path / "site", least_privilege, through, direct=postgres_database.url)
    try:
        # Of a daemon that starts: its deployment's name, and its record.
        proxy.lose(moment, lambda sent: b"deployment" in sent and b"INSERT INTO facts" in sent)
        site.start_daemon()
        proxy.wait_until_lost()
        (deployment,) = site.query("SELECT value FROM facts WHERE name = 'deployment'")
        job, tally = counted(site.root, "wf")
        jobs = []
        for what, which in TRANSACTIONS.items():
            proxy.lose(moment, which)
            jobs.append(site.queue_job(job))
            try:
                proxy.wait_until_lost()
            except AssertionError as error:
                raise AssertionError(f"no transaction in which {what}") from error
            assert site.wait(jobs[-1], "done", "failed")["state"] == "done", (what, site.daemon_log())
        each_was_done_once(site, jobs, tally)
        assert site.query("SELECT value FROM facts WHERE name = 'deployment'") == [deployment]
        assert site.query("SELECT count(*) FROM effects") == [(0,)]
        for job_id in jobs:
            assert site.path(job_id)[0] == "queued" and site.path(job_id)[-1] == "done"
        assert site.daemon_log().count("the database can be used again after") >= len(jobs)
    finally:
        site.close()


# the server goes away


@pytest.mark.parametrize(
    "how", [*(pytest.param(how, marks=pytest.mark.crash) for how in ("fast", "immediate")), "killed"]
)
def test_jobs_continue_after_the_server_was_away(
    tmp_path: Path, least_privilege: VirtualHost, server: Postgres, gate: Gate, how: str
) -> None:
    database = made(server)
    site = PostgresSite(tmp_path / "site", least_privilege, database.url)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf", gate.script)
        running = site.queue_job(job)
        gate.wait_for_arrivals()
        site.wait(running, "running")
        server.kill() if how == "killed" else server.stop(how)
        wait_for(lambda: "retrying in" in site.daemon_log(), "the daemon to notice")
        gate.let_through(2)  # the first one's result, and a job, come meanwhile
        queued = site.queue_job(job)
        told = wait_for(
            lambda: re.search(r"retrying in .* \(failing since \d.*Z\)", site.daemon_log()), "the log to tell"
        )
        assert told
        table = site.command("status", check=False)
        assert table.returncode == 1 and table.stdout == ""
        (line,) = table.stderr.splitlines()
        assert re.search(r"refused.*; the daemon has not been able to use it since \d", line), line
        # No message is taken in vain: a broker counts that.
        assert not was_delivered(site)
        server.start()
        site.wait_all_ended([running, queued])
        each_was_done_once(site, [running, queued], tally)
        assert re.search(r"the database can be used again after \d", site.daemon_log())
        assert "since" not in site.command("status").stderr
    finally:
        site.close()


def was_delivered(site: PostgresSite) -> bool:
    """Whether somebody has received the command that waits."""
    with site.here.connect(site.here.admin) as connection:
        channel = connection.channel()
        method, _, _ = channel.basic_get(site.here.queue_name)
        assert method is not None, "no message waits"
        channel.basic_nack(method.delivery_tag, requeue=True)
        return bool(method.redelivered)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    require_server()
    here = Postgres(tmp_path_factory.mktemp("postgres"))
    with here.running():
        yield here


@pytest.fixture
def server(_server: Postgres) -> Iterator[Postgres]:
    """A server to stop, kill and pause; the tests of this file use it one after the other."""
    if not _server.is_up():
        _server.start()
    yield _server
    _server.resume()


def made(server: Postgres) -> Database:
    there = server.server()
    there.prepare()
    return there.create()


def test_a_daemon_starts_before_its_server(
    tmp_path: Path, least_privilege: VirtualHost, server: Postgres
) -> None:
    database = made(server)
    site = PostgresSite(tmp_path / "site", least_privilege, database.url)
    try:
        server.stop()
        daemon = site.start_daemon(ready=False)
        wait_for(lambda: "retrying in" in site.daemon_log(), "the daemon to wait")
        assert daemon.poll() is None
        server.start()
        assert daemon.stdout is not None and "ready" in daemon.stdout.readline()
        server.stop()
        wait_for(lambda: "retrying in" in site.daemon_log().partition("used again")[2], "it to wait again")
        begun = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0
        assert time.monotonic() - begun < 5
    finally:
        site.close()


@pytest.mark.parametrize("when", ["connected", "connecting"])
def test_a_daemon_ends_although_its_server_hangs(
    tmp_path: Path, least_privilege: VirtualHost, server: Postgres, when: str
) -> None:
    database = made(server)
    site = PostgresSite(tmp_path / "site", least_privilege, database.url)
    try:
        if when == "connecting":
            server.pause()
        daemon = site.start_daemon(ready=when == "connected")
        if when == "connected":
            server.pause()
        time.sleep(1.0)  # until it waits for an answer
        begun = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(10) == 0, site.daemon_log()
        assert time.monotonic() - begun < 5
    finally:
        server.resume()
        site.close()


def test_a_second_daemon_on_another_machine_says_who_holds_the_database(
    tmp_path: Path, least_privilege: VirtualHost, postgres_database: Database
) -> None:
    """Its state directory is another one, and its queue, too."""
    site = PostgresSite(tmp_path / "site", least_privilege, postgres_database.url)
    other = PostgresSite(tmp_path / "other", least_privilege, postgres_database.url)
    try:
        daemon = site.start_daemon()
        second = other.start_daemon(ready=False)
        assert second.wait(60) == 2, other.daemon_log()
        (line,) = [line for line in other.daemon_log().splitlines() if "a daemon runs for this" in line]
        assert f"pid {daemon.pid} on " in line and " since 20" in line
    finally:
        other.close()
        site.close()


def test_a_daemon_that_was_stopped_and_replaced_does_nothing_more(
    tmp_path: Path, least_privilege: VirtualHost, postgres_database: Database
) -> None:
    site = PostgresSite(tmp_path / "site", least_privilege, postgres_database.url)
    try:
        daemon = site.start_daemon()
        daemon.send_signal(signal.SIGSTOP)
        taken = sa.create_engine(postgres_database.url)
        with taken.connect() as holder:
            site.query(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name"
                " LIKE 'lando-fsm %@%'"
            )
            holder.exec_driver_sql("SELECT pg_advisory_lock(1818324580, hashtext(current_schema()))")
            daemon.send_signal(signal.SIGCONT)
            assert daemon.wait(30) == 2
            assert "another daemon has taken over while this one was disconnected" in site.daemon_log()
        taken.dispose()
    finally:
        site.close()


# many failures

JOBS = int(os.environ.get("LANDO_TEST_CRASH_JOBS", "20"))
"""``make crash`` has 2,000."""
PAUSES = (5.0, 40.0) if JOBS > 100 else (0.5, 2.5)
"""Seconds between two failures of the server."""


@pytest.mark.timeout(3600)
def test_jobs_through_failures_of_the_server(
    tmp_path: Path,
    least_privilege: VirtualHost,
    server: Postgres,
    record_property: Callable[[str, object], None],
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    begun = time.monotonic()
    site = PostgresSite(tmp_path / "site", least_privilege, made(server).url, max_workers=8)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf")
        jobs = [site.queue_job(job) for _ in range(JOBS)]
        how: list[str] = []
        while sum(state in ("done", "failed") for state in site.states().values()) < JOBS:
            assert site.daemons[-1].poll() is None, site.daemon_log()
            time.sleep(chance.uniform(*PAUSES))  # a random moment is what is tested
            how.append(chance.choice(("fast", "immediate", "killed")))
            server.kill() if how[-1] == "killed" else server.stop(how[-1])
            time.sleep(chance.uniform(0, 2))
            server.start()
        found = site.look()
        assert {job["id"] for job in found} == set(jobs), f"seed {seed}"
        assert {job["state"] for job in found} == {"done"}, f"seed {seed}: {site.daemon_log()}"
        each_was_done_once(site, jobs, tally)
        assert site.query("SELECT count(*) FROM effects") == [(0,)]
        record_property(
            "seen",
            f"{JOBS} jobs done once each, PostgreSQL away {len(how)} times ({', '.join(how[:20])}); "
            f"{time.monotonic() - begun:.0f} s; seed {seed}",
        )
    finally:
        site.close()


# a replica


def test_a_replica_is_promoted(
    tmp_path: Path, least_privilege: VirtualHost, private_postgres: Postgres, gate: Gate
) -> None:
    """Work goes on; the old primary is refused when it returns."""
    first = private_postgres
    database = made(first)
    second = Postgres(tmp_path / "replica", copy_of=first)
    with second.running():
        address = sa.make_url(database.url)
        both = (
            f"postgresql+psycopg://{address.username}:{address.password}@/{address.database}"
            f"?host={first.host}:{first.port}&host={second.host}:{second.port}"
            "&target_session_attrs=read-write&connect_timeout=2"
        )
        direct = address.set(port=second.port).render_as_string(hide_password=False)
        site = PostgresSite(tmp_path / "site", least_privilege, both, direct=direct)
        try:
            site.start_daemon()
            job, tally = counted(site.root, "wf", gate.script)
            running = site.queue_job(job)
            gate.wait_for_arrivals()
            site.wait(running, "running")
            first.kill()
            second.promote()
            gate.let_through(2)
            later = site.queue_job(job)
            site.wait_all_ended([running, later])
            assert "the database server was replaced by another one" in site.daemon_log()

            second.stop()
            first.start()
            wait_for(lambda: "has timeline 1, older than 2, which" in site.daemon_log(), "its refusal")
            second.start()  # beside the old primary, which comes first in the URL
            gate.let_through()
            last = site.queue_job(job)
            site.wait_all_ended([last])
            each_was_done_once(site, [running, later, last], tally)
            assert first.execute("SELECT count(*) FROM jobs", database=database.name) == [(1,)]
        finally:
            site.close()
