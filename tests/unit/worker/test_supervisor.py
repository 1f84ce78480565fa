import os

from lando_worker import supervisor
from lando_worker.log_buffer import LogBuffer


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
