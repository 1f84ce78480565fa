import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from lando_worker import supervisor
from lando_worker.event_pipe import EventSender
from lando_worker.log_buffer import LogBuffer
from lando_worker.result import Result


def test_the_output_of_what_outlives_the_child_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(supervisor, "DRAIN_TIME", 0.01)
    output, output_in = os.pipe()
    monkeypatch.setattr(supervisor.os, "read", lambda descriptor, size: b"still here\n")
    log = LogBuffer([])
    supervisor._drain(output, log)
    monkeypatch.undo()
    os.close(output)
    os.close(output_in)
    assert log.take().startswith("still here\n")


def test_the_result_says_how_the_child_ended():
    assert "SIGKILL" in supervisor._result_of_exit(-9).reason
    assert "SIGSEGV" in supervisor._result_of_exit(-11).reason
    assert supervisor._result_of_exit(0).quote_log
    assert {supervisor._result_of_exit(code).outcome for code in (-9, 0, 1)} == {"system_failed"}


class Reporter:
    """Takes what the parent passes on."""

    def update(self, changes):
        pass

    def log_grew(self):
        pass


class Workflow:
    """A program in a process group of its own, as the child is, and the parent's ends of its pipes."""

    def __init__(self, script):
        self.events, self.events_in = os.pipe()
        self.output, output_in = os.pipe()
        self.process = subprocess.Popen(
            ["bash", "-c", script],
            stdout=output_in,
            pass_fds=(self.events_in,),
            start_new_session=True,
        )
        os.close(output_in)
        self.log = LogBuffer([])
        self.started_at = time.monotonic()

    def watched(self, run_timeout):
        child = supervisor.Child(self.process.pid, self.events, self.output, self.started_at)
        return supervisor.watch(child, Reporter(), self.log, run_timeout)

    def end(self):
        self.process.kill()
        for descriptor in (self.events, self.events_in, self.output):
            os.close(descriptor)


@pytest.fixture
def workflow():
    started = []

    def start(script):
        started.append(Workflow(script))
        return started[-1]

    yield start
    for each in started:
        each.end()


TOO_LONG = Result("workflow_failed", "the workflow ran longer than 0.3 s (run_timeout)")


def test_a_workflow_that_runs_too_long_is_killed_with_its_group_and_its_output_is_read(workflow):
    running = workflow("sleep 60 & echo $!; wait")
    assert running.watched(0.3) == TOO_LONG
    assert time.monotonic() - running.started_at < 5
    assert running.process.wait(5) == -9
    tool = int(running.log.take())
    deadline = time.monotonic() + 5
    while is_running(tool):
        assert time.monotonic() < deadline, "the tool outlives the workflow"
        time.sleep(0.01)


def test_a_workflow_that_prints_without_end_does_not_delay_its_timeout(workflow):
    running = workflow("yes")
    assert running.watched(0.3) == TOO_LONG
    assert time.monotonic() - running.started_at < 5


def test_a_result_that_was_sent_in_time_counts(workflow, monkeypatch):
    monkeypatch.setattr(supervisor.os, "waitpid", lambda pid, options: (pid, 0))
    running = workflow("sleep 60")
    EventSender(running.events_in).result(Result("succeeded"))
    closes = threading.Timer(0.6, lambda: (running.process.kill(), running.process.wait(), close(running)))
    closes.start()
    assert running.watched(0.3) == Result("succeeded")
    assert time.monotonic() - running.started_at > 0.5, "the child was given the time to end"
    closes.join()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def close(running):
    """The child's end of the events' pipe is closed, as its exit does."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, running.events_in)
    os.close(null)


@pytest.mark.parametrize("run_timeout", [None, 3650 * 86400.0])
def test_a_workflow_may_run_for_years(workflow, run_timeout):
    running = workflow("true")
    close(running)
    assert running.watched(run_timeout).reason.endswith("exited without a result")
