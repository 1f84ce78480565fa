"""The daemon is killed, at random moments and at every durable step: no job is lost, none runs twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from lando.cloud.local.driver import CREATE_STEPS
from tests.support.forked_commands import Started
from tests.support.local_site import QUICK, LocalSite, wait_for, workflow
from tests.support.postgres_server import Database
from tests.support.postgres_site import PostgresSite
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite

STEPS = (
    "before-take-commit",
    "before-ack",
    "after-ack",
    "before-work-commit",
    "after-work-commit",
    "before-effect",
    *CREATE_STEPS,
    "create-answered",
    "deleted",
    "after-effect",
    "before-conclude-commit",
)
"""Every ``reach()`` of a job's life in the daemon; ``test_every_step_is_listed`` keeps this complete. Those
of copies and of retention have tests of their own."""


def counting_job(root: Path, seconds: str = "0.3") -> tuple[Path, Path]:
    """A job that appends a line to a file, once a run, and takes some seconds."""
    tally = root / "tally"
    job = workflow(root, f'echo "$PWD" >> {tally}\nsleep {seconds}\n')
    job.write_text(job.read_text() + "attempts: 1\n")  # the daemon's death is no failure of the job
    return job, tally


def test_every_step_is_listed() -> None:
    sources = (Path(__file__).parents[2] / "lando").rglob("*.py")
    found = {
        line.split('reach("')[1].split('"')[0]
        for source in sources
        for line in source.read_text().splitlines()
        if 'reach("' in line
    }
    elsewhere = {step for step in found if step.startswith("copy-")} | {"before-retention-commit"}
    assert found - elsewhere | set(CREATE_STEPS) == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("occurrence", [1, 3])
def test_killed_at_a_step(tmp_path: Path, step: str, occurrence: int) -> None:
    killed_at_a_step(LocalSite(tmp_path, max_workers=3, config=QUICK), step, occurrence)


@pytest.mark.crash
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("occurrence", [1, 3])
def test_killed_at_a_step_with_rabbitmq(
    tmp_path: Path, least_privilege: VirtualHost, step: str, occurrence: int
) -> None:
    killed_at_a_step(BrokerSite(tmp_path / "site", least_privilege, 3), step, occurrence)


OF_TRANSACTIONS = ("before-take-commit", "before-ack", "before-work-commit", "after-work-commit")
"""What depends most on database and queue; ``make crash`` has the other steps, and all a third time."""


@pytest.mark.parametrize(
    ("step", "occurrence"),
    [
        pytest.param(
            step,
            occurrence,
            marks=() if step in OF_TRANSACTIONS and occurrence == 1 else pytest.mark.crash,
        )
        for step in STEPS
        for occurrence in (1, 3)
    ],
)
def test_killed_at_a_step_with_rabbitmq_and_postgres(
    tmp_path: Path,
    least_privilege: VirtualHost,
    postgres_database: Database,
    step: str,
    occurrence: int,
) -> None:
    site = PostgresSite(tmp_path / "site", least_privilege, postgres_database.url, 3)
    killed_at_a_step(site, step, occurrence)


def killed_at_a_step(site: LocalSite, step: str, occurrence: int) -> None:
    try:
        job, tally = counting_job(site.root)
        if isinstance(site, BrokerSite):
            site.start_daemon().send_signal(signal.SIGTERM)  # makes the queues
            assert site.daemons[-1].wait(30) == 0
        jobs = [site.submit(job) for _ in range(3)]
        dying = site.start_daemon(ready=False, LANDO_CRASH_AT=f"{step}:{occurrence}")
        died = wait_for(lambda: dying.poll() is not None or all_ended(site, jobs), f"the crash at {step}")
        assert died
        if dying.poll() is None:
            assert (step, occurrence) in RARE, f"{step} was not reached {occurrence} times"
            return
        assert dying.returncode == -9
        site.start_daemon()
        ended = site.wait_all_ended(jobs)
        assert [found["state"] for found in ended] == ["done"] * 3, site.daemon_log()
        assert len(tally.read_text().splitlines()) == 3
        nothing_is_left(site)
    finally:
        site.close()


RARE = {("before-take-commit", 3), ("before-ack", 3), ("after-ack", 3)}
"""Steps that so few jobs need not reach so often, since messages come in batches."""


def all_ended(site: LocalSite, jobs: list[str]) -> bool:
    seen = site.states()
    return all(seen.get(job) in ("done", "failed") for job in jobs)


def nothing_is_left(site: LocalSite) -> None:
    site.nothing_is_left()
    assert site.app().dead_letters().all() == []


def test_killed_at_random_moments_with_20_jobs_in_flight(tmp_path: Path) -> None:
    site = LocalSite(tmp_path, max_workers=20, config=QUICK)
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    try:
        # They end at different moments, the last after the last kill.
        job, tally = counting_job(tmp_path, seconds="$((RANDOM % 20))")
        jobs = [site.submit(job) for _ in range(20)]
        for _ in range(6):
            dying = site.start_daemon()
            kill_after(dying, chance.uniform(0.0, 2.5))
        site.start_daemon()
        ended = site.wait_all_ended(jobs)
        assert {found["state"] for found in ended} == {"done"}, f"seed {seed}: {ended}"
        assert len(ended) == 20
        assert len(tally.read_text().splitlines()) == 20, f"seed {seed}"
        nothing_is_left(site)
    finally:
        site.close()


def kill_after(daemon: Started, seconds: float) -> None:
    time.sleep(seconds)  # the moment itself is what is tested
    daemon.kill()
    daemon.wait()
