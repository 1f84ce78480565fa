"""The log of a daemon: who reads it may stop, or end, and the daemon goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.cli import log_stream
from lando.cli.daemon import _announce_ready
from lando.cli.log_stream import LogLines, LogStream

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


def say(stream: LogStream, text: str) -> None:
    handler = logging.StreamHandler(stream)
    handler.handle(logging.LogRecord("lando", logging.INFO, "", 0, text, (), None))


def test_a_log_that_nobody_reads_costs_a_second_once_and_its_lines_are_counted(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    stream = LogStream(write_end)
    fill(write_end)
    began = time.monotonic()
    for _ in range(500):
        say(stream, "lost")
    assert time.monotonic() - began < log_stream.WAIT + 1
    os.read(read_end, PIPE)
    say(stream, "heard")
    first = b"500 lines of the log were lost here: nobody read it"
    assert os.read(read_end, PIPE).splitlines() == [first, b"heard"]
    say(stream, "again")
    assert os.read(read_end, PIPE) == b"again\n"


def test_a_long_line_waits_for_no_reader_that_stops_in_its_middle(pipe: tuple[int, int]) -> None:
    began = time.monotonic()
    say(LogStream(pipe[1]), "x" * 2 * PIPE)
    assert time.monotonic() - began < log_stream.WAIT + 1


def test_what_tells_of_a_line_that_was_cut_is_a_line_of_its_own(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    stream = LogStream(write_end)
    say(stream, "x" * 2 * PIPE)
    torn = os.read(read_end, PIPE)
    assert torn and set(torn) == set(b"x")
    say(stream, "heard")
    told = b"\n1 line of the log was lost here: nobody read it\nheard\n"
    assert os.read(read_end, PIPE) == told


def test_what_a_full_disk_has_lost_is_counted() -> None:
    with open("/dev/full", "wb") as full:
        stream = LogStream(full.fileno())
        say(stream, "lost")
        say(stream, "lost, too")
        read_end, write_end = os.pipe()
        os.dup2(write_end, full.fileno())
        os.close(write_end)
        say(stream, "written")
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == b"2 lines of the log were lost here: No space left on device\nwritten\n"


def test_a_write_that_takes_only_a_part_is_followed_by_the_rest(pipe: tuple[int, int]) -> None:
    """A signal may end it so, or a pipe that does not block: write(2)."""
    read_end, write_end = pipe
    os.set_blocking(write_end, False)
    write, parts = os.write, []

    def short(descriptor: int, data: bytes) -> int:
        parts.append(write(descriptor, data[:7]))
        return parts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.write", short)
        say(LogStream(write_end), "all of this line is read")
    assert len(parts) > 1
    assert os.read(read_end, PIPE) == b"all of this line is read\n"


def test_what_is_printed_in_pieces_is_written_as_lines(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    stream = LogStream(write_end)
    print("a", "message", file=stream, flush=True)
    assert os.read(read_end, PIPE) == b"a message\n"


def test_a_reader_that_has_ended_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    say(LogStream(write_end), "to nobody")
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


def test_a_daemon_that_is_ready_waits_for_nobody_who_reads_that(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pipe[1])
    began = time.monotonic()
    with os.fdopen(os.dup(pipe[1]), "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        reader = threading.Timer(log_stream.WAIT + 3, os.read, (pipe[0], PIPE))  # or the test would hang
        reader.start()
        _announce_ready()
    assert time.monotonic() - began < log_stream.WAIT + 1
    reader.cancel()


def test_an_event_is_one_line_whatever_it_says(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    handler = logging.StreamHandler(LogStream(write_end))
    handler.setFormatter(LogLines("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.Logger("lando")
    logger.addHandler(handler)
    forged = "\x1b[2K\n2026-11-27T00:00:00.000Z INFO job deadbeef  running → done\u2028\x85"
    logger.warning("job %s: %s", "1", forged)
    (line,) = os.read(read_end, PIPE).decode().splitlines()
    assert line.endswith(
        " WARNING job 1: \\x1b[2K\\n2026-11-27T00:00:00.000Z INFO job deadbeef  running → done\\u2028\\x85"
    )
    try:
        raise ValueError(forged)
    except ValueError:
        logger.exception("failed", stack_info=True)
    first, *others = os.read(read_end, PIPE).decode().splitlines()
    assert first.endswith(" ERROR failed")
    assert others and all(other.startswith("    | ") for other in others), "a traceback is marked"
    assert any("INFO job deadbeef" in other for other in others)


def test_whatever_a_daemon_prints_is_harmless_and_in_the_encoding_of_its_log(pipe: tuple[int, int]) -> None:
    read_end, write_end = pipe
    print("a\x1b[2J → é", file=LogStream(write_end, "ascii"))
    assert os.read(read_end, PIPE) == b"a\\x1b[2J -> \\xe9\n"


def test_a_file_has_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        stream = LogStream(file.fileno())
        for number in range(1000):
            say(stream, f"{number} {'ä' * 5000}")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1000)]
