import os

from lando_worker import supervisor
from lando_worker.log_buffer import Logbook


def test_what_outlives_the_child_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE", 0.01)
    output, output_in = os.pipe()
    monkeypatch.setattr(supervisor.os, "read", lambda descriptor, size: b"still here\n")
    logbook = Logbook([])
    supervisor._read_the_rest(output, logbook)
    monkeypatch.undo()
    os.close(output)
    os.close(output_in)
    assert logbook.take().startswith("still here\n")


def test_the_end_of_the_child_is_told():
    assert "SIGKILL" in supervisor._died(-9).reason
    assert "SIGSEGV" in supervisor._died(-11).reason
    assert supervisor._died(0).quote_log
    assert {supervisor._died(code).outcome for code in (-9, 0, 1)} == {"system_failed"}
