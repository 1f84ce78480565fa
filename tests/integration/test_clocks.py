"""Real daemons whose wall clocks are wrong, differ between two lives, and are set while they run.

The wall clock of a daemon is that of its interpreter, with an offset that the test writes to a file.
Everything else is real: the other clocks, the database, the queue, the VM and its worker.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow

DAY = 86_400.0

SITECUSTOMIZE = """
import time

_real_time = time.time


def _time():
    with open({offset!r}) as file:
        return _real_time() + float(file.read())


time.time = _time
"""


class WallClock:
    """The wall clock of the daemons that are started with it."""

    def __init__(self, root: Path) -> None:
        self._offset = root / "offset"
        self._site = root / "wall-clock"
        self._site.mkdir()
        (self._site / "sitecustomize.py").write_text(SITECUSTOMIZE.format(offset=str(self._offset)))
        self.set_to(0.0)

    def set_to(self, offset: float) -> None:
        """From now on it differs by so many seconds from the right one."""
        new = self._offset.with_suffix(".new")
        new.write_text(str(offset))
        new.replace(self._offset)

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._site)}


@pytest.fixture
def wall_clock(quick: LocalSite) -> WallClock:
    quick.fresh = True
    return WallClock(quick.root)


def kill(site: LocalSite) -> None:
    site.daemons[-1].send_signal(signal.SIGKILL)
    site.daemons[-1].wait()


def log_says(site: LocalSite, words: str) -> None:
    wait_for(lambda: words in site.daemon_log(), f"{words!r} in the daemon's log", patience=20)


def test_a_vm_is_deleted_within_seconds_though_a_daemon_began_with_its_clock_a_day_behind(
    quick: LocalSite, gate: Gate, wall_clock: WallClock
) -> None:
    quick.start_daemon(**wall_clock.environment)
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    kill(quick)
    quick.command("cancel", job)
    ordered = quick.start_daemon(ready=False, LANDO_CRASH_AT="after-ack", **wall_clock.environment)
    assert ordered.wait() == -signal.SIGKILL
    assert quick.states()[job] == "terminating", "its deletion is due, by the right clock"

    wall_clock.set_to(-DAY)
    quick.start_daemon(**wall_clock.environment)
    wall_clock.set_to(0.0)
    log_says(quick, "the clock was set")
    wait_for(lambda: quick.states()[job] == "failed", "the VM to be deleted", patience=20)
    quick.nothing_is_left()


def test_a_workflow_goes_on_though_a_daemon_wakes_with_its_clock_a_day_ahead(
    quick: LocalSite, gate: Gate, wall_clock: WallClock
) -> None:
    job_file = workflow(quick.root, gate.script)
    job_file.write_text(job_file.read_text() + "run_timeout: 3600\n")
    quick.start_daemon(**wall_clock.environment)
    job = quick.submit(job_file)
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    kill(quick)

    wall_clock.set_to(DAY)
    quick.start_daemon(**wall_clock.environment)
    time.sleep(4.0)  # of ticks, at which the deadline could be taken for over
    assert quick.states()[job] == "running"
    wall_clock.set_to(0.0)
    log_says(quick, "the clock was set")
    time.sleep(2.0)
    assert quick.states()[job] == "running"
    gate.let_through()
    shown = quick.wait(job, "done", "failed")
    assert (shown["state"], shown["attempt"]) == ("done", 1)


def test_a_silent_worker_is_noticed_though_the_clock_is_set_again_and_again(
    tmp_path: Path, gate: Gate
) -> None:
    site = LocalSite(tmp_path, config=QUICK.replace("silence: 60", "silence: 4"))
    site.fresh = True
    wall_clock = WallClock(tmp_path)
    try:
        site.start_daemon(**wall_clock.environment)
        job = site.submit(workflow(tmp_path, gate.script))
        gate.wait_for_arrivals()
        site.wait(job, "running")
        for pid in site.vm_processes():
            os.kill(pid, signal.SIGSTOP)
        for step in range(30):
            wall_clock.set_to(DAY * (step % 2))
            time.sleep(0.5)
            if site.states()[job] != "running":
                break
        reasons = [change.reason for change in site.views().history(job)]
        assert any("the worker was silent for" in reason for reason in reasons), reasons
    finally:
        site.close()
