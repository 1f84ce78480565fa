"""The log of a daemon: who reads it may stop, or end, and the daemon goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.cli import log_handler
from lando.cli.daemon import _announce_ready
from lando.cli.log_handler import LogHandler

PIPE = 65536
"""Bytes that a pipe takes."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(read_end)
    os.close(write_end)


def fill(write_end: int) -> None:
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, bytes(4096))
    os.set_blocking(write_end, True)


def say(handler: LogHandler, text: str) -> None:
    handler.handle(logging.LogRecord("lando", logging.INFO, "", 0, text, (), None))


def test_a_log_that_nobody_reads_costs_a_second_once_and_its_lines_are_counted(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    handler = LogHandler(write_end)
    fill(write_end)
    began = time.monotonic()
    for _ in range(500):
        say(handler, "lost")
    assert time.monotonic() - began < log_handler.WAIT + 1
    os.read(read_end, PIPE)
    say(handler, "heard")
    first = b"500 lines of the log before this one are lost: it was not read"
    assert os.read(read_end, PIPE).splitlines() == [first, b"heard"]
    say(handler, "again")
    assert os.read(read_end, PIPE) == b"again\n"


def test_a_long_line_waits_for_no_reader_that_stops_in_its_middle(pipe: tuple[int, int]) -> None:
    began = time.monotonic()
    say(LogHandler(pipe[1]), "x" * 2 * PIPE)
    assert time.monotonic() - began < log_handler.WAIT + 1


def test_a_reader_that_has_ended_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    say(LogHandler(write_end), "to nobody")
    os.close(write_end)
    assert capsys.readouterr() == ("", "")


def test_a_daemon_that_is_ready_goes_on_when_nobody_reads_that(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        _announce_ready()
    monkeypatch.setattr("sys.stdout", None)
    _announce_ready()


def test_a_file_has_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        handler = LogHandler(file.fileno())
        for number in range(1000):
            say(handler, f"{number} {'ä' * 5000}")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1000)]
