import threading
import time

import pytest

from lando.messages import Message, decode
from lando.workqueue.interface import QueueFull, QueueUnavailable
from lando_worker import reporter as reporter_module
from lando_worker.log_buffer import PIECE, LogBuffer
from lando_worker.reporter import Reporter
from lando_worker.spool import Spool

JOB = "00000000-0000-4000-8000-000000000001"


class Outbox:
    """A publisher that keeps its messages, and fails as often as ``failures`` says."""

    def __init__(self, failures=0, error=QueueUnavailable):
        self.error = error
        self.failures = failures
        self.messages = []
        self.news = threading.Condition()

    def publish(self, raw):
        with self.news:
            if self.failures:
                self.failures -= 1
                raise self.error("not now")
            self.messages.append(decode(raw, "worker"))
            self.news.notify()

    def close(self):
        pass

    def wait_for(self, condition):
        with self.news:
            assert self.news.wait_for(lambda: condition(self.messages), 20)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(reporter_module, "FIRST_WAIT", 0.001)


def reporting(tmp_path, outbox, heartbeat=60.0, secrets=()):
    log = LogBuffer(secrets)
    spool = Spool(tmp_path / "spool")
    made = Reporter(JOB, 3, "tok", spool=spool, log=log, connect=lambda: outbox, heartbeat=heartbeat)
    return made, log


def kinds(outbox):
    return [message.type for message in outbox.messages]


def test_in_order_and_numbered(tmp_path):
    outbox = Outbox()
    reporter, log = reporting(tmp_path, outbox)
    reporter.start("cloning")
    reporter.update({"phase": "running", "git_commit": "abc"})
    outbox.wait_for(lambda messages: len(messages) == 2)
    log.feed(b"x" * (PIECE * 2) + b"\n")
    reporter.finish({"outcome": "succeeded"})
    assert [message.seq for message in outbox.messages] == list(range(1, len(outbox.messages) + 1))
    assert outbox.messages[0].type == "worker_started"
    assert outbox.messages[0].body == {"phase": "cloning"}
    assert outbox.messages[1].body == {"phase": "running", "git_commit": "abc", "log": ""}
    assert outbox.messages[-1].type == "workflow_finished"
    assert outbox.messages[-1].body["git_commit"] == "abc"
    assert len("".join(message.body.get("log", "") for message in outbox.messages)) == PIECE * 2 + 1
    assert not list((tmp_path / "spool").glob("*.json"))


def test_heartbeats_go_on_without_changes(tmp_path):
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox, heartbeat=0.01)
    reporter.start("cloning")
    outbox.wait_for(lambda messages: len(messages) > 5)
    reporter.finish({"outcome": "succeeded"})
    assert set(kinds(outbox)[1:-1]) == {"worker_progress"}


def test_changes_are_reported_together(tmp_path, monkeypatch):
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start("cloning")
    for step in range(1, 101):
        reporter.update({"step": step, "steps": 100})
        if step == 1:
            outbox.wait_for(lambda messages: len(messages) == 2)
    reporter.finish({"outcome": "succeeded"})
    assert [message.body["step"] for message in outbox.messages if "step" in message.body] == [1, 100]


def test_failed_deliveries_are_repeated(tmp_path):
    outbox = Outbox(failures=5)
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start("cloning")
    reporter.finish({"outcome": "system_failed", "reason": "x"})
    assert kinds(outbox) == ["worker_started", "workflow_finished"]


def test_a_report_that_a_full_queue_refuses_is_repeated_soon_however_often(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter_module, "FULL_WAIT", (0.001, 0.002))
    monkeypatch.setattr(reporter_module, "FIRST_WAIT", 100.0)
    outbox = Outbox(failures=50, error=QueueFull)
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start("cloning")
    outbox.wait_for(lambda messages: len(messages) == 1)
    reporter.finish({"outcome": "succeeded"})
    assert kinds(outbox) == ["worker_started", "workflow_finished"]


def test_while_the_queue_is_full_heartbeats_do_not_pile_up(tmp_path, monkeypatch):
    monkeypatch.setattr(reporter_module, "FULL_WAIT", (0.002, 0.004))
    outbox = Outbox(failures=1_000_000, error=QueueFull)
    reporter, _ = reporting(tmp_path, outbox, heartbeat=0.01)
    reporter.start("cloning")
    for step in range(1, 20):
        reporter.update({"step": step})
        time.sleep(0.02)
    assert len(list((tmp_path / "spool").glob("0*.json"))) == 1
    outbox.failures = 0
    reporter.finish({"outcome": "succeeded"})


def test_another_process_delivers_what_was_left_and_continues_the_numbering(tmp_path):
    dead, _ = reporting(tmp_path, Outbox())
    dead._spool.add(lambda seq: dead_message("worker_started", seq))
    dead._spool.add(lambda seq: dead_message("worker_progress", seq))
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start()
    reporter.finish({"outcome": "system_failed"})
    assert kinds(outbox) == ["worker_started", "worker_progress", "workflow_finished"]
    assert [message.seq for message in outbox.messages] == [1, 2, 3]


def test_no_report_follows_the_final_one(tmp_path):
    dead, _ = reporting(tmp_path, Outbox())
    dead._spool.add(lambda seq: dead_message("workflow_finished", seq, outcome="succeeded"))
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start("cloning")
    reporter.finish({"outcome": "system_failed"})
    assert [message.body.get("outcome") for message in outbox.messages] == ["succeeded"]


def test_reports_are_delivered_though_the_disk_takes_nothing(tmp_path):
    (tmp_path / "spool").write_text("in the way")
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox)
    reporter.start("cloning")
    reporter.finish({"outcome": "system_failed"})
    assert kinds(outbox) == ["worker_started", "workflow_finished"]


def dead_message(kind, seq, **body):
    return Message(kind, body=body, job=JOB, attempt=3, token="tok", seq=seq)


def test_what_the_daemon_would_refuse_is_not_sent(tmp_path):
    outbox = Outbox()
    reporter, _ = reporting(tmp_path, outbox, secrets=["hunter22"])
    reporter.start("cloning")
    giant = "x" * 290 + "hunter22" + "y" * 4_300_000
    reporter.update({"git_commit": giant, "step_name": giant, "step": 1})
    outbox.wait_for(lambda messages: len(messages) == 2)
    reporter.finish({"outcome": "workflow_failed", "reason": giant, "log_tail": giant})
    (first, last) = outbox.messages[1], outbox.messages[-1]
    assert (first.body["git_commit"], first.body["step"]) == (None, 1)
    assert len(first.body["step_name"]) == 300 and "hunter" not in first.body["step_name"]
    assert len(last.body["reason"]) == 2000 and len(last.body["log_tail"]) == 16 * 1024
