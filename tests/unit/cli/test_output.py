"""stdout and stderr of commands: what is written, and what cannot be."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO, cast

import pytest

from lando.cli import output
from lando.cli.output import ReaderGone, ResultLost, Stream

FORGED = "\x1b[31mred\n2026-11-27T00:00:00Z INFO job deadbeef  running → done\x9b"


class Pipe:
    """A pipe whose write end is a stream of commands."""

    def __init__(self, encoding: str = "utf-8", may_be_lost: bool = False) -> None:
        self.read_end, self.write_end = os.pipe()
        self.stream = Stream(self.write_end, encoding, may_be_lost)

    def read(self) -> bytes:
        return os.read(self.read_end, 1 << 20)


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pipe]]:
    made: list[Pipe] = []

    def make(encoding: str = "utf-8") -> Pipe:
        made.append(Pipe(encoding))
        monkeypatch.setattr(sys, "stdout", made[-1].stream)
        return made[-1]

    yield make
    for pipe in made:
        os.close(pipe.write_end)


def test_each_result_is_one_line(stdout: Callable[..., Pipe]) -> None:
    pipe = stdout()
    output.result(FORGED, "two")
    first, second = pipe.read().decode().splitlines()
    assert first == "\\x1b[31mred\\n2026-11-27T00:00:00Z INFO job deadbeef  running → done\\x9b"
    assert second == "two"
    output.result_styled((FORGED, "bold"), ("[red]x[/red]", ""))
    assert pipe.read().decode() == f"{first}[red]x[/red]\n"
    assert output.shown(FORGED) == first


def test_whoever_prints_the_terminal_gets_no_escapes(stdout: Callable[..., Pipe]) -> None:
    pipe = stdout()
    print(FORGED)
    said = pipe.read()
    assert b"\x1b" not in said and b"\xc2\x9b" not in said
    assert said.count(b"\n") == 2, "here lines are lines"


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_what_the_encoding_lacks_is_replaced(stdout: Callable[..., Pipe], encoding: str) -> None:
    pipe = stdout(encoding)
    output.result("é → Ω … \U0001f600")
    assert (
        pipe.read().decode(encoding)
        == {
            "ascii": "\\xe9 -> \\u03a9 ... \\U0001f600\n",
            "iso8859-1": "é -> \\u03a9 ... \\U0001f600\n",
            "utf-8": "é → Ω … \U0001f600\n",
        }[encoding]
    )
    value = {"é": "Ω\U0001f600\x9b\udcff"}
    output.print_json(value)
    assert json.loads(pipe.read().decode(encoding)) == value, "JSON stays JSON"


def test_nobody_reads_a_result(stdout: Callable[..., Pipe]) -> None:
    pipe = stdout()
    output.check_reader()
    os.close(pipe.read_end)
    with pytest.raises(ReaderGone) as gone:
        output.result("x")
    assert gone.value.exit_code == output.PIPE_CLOSED
    with pytest.raises(ReaderGone):
        output.check_reader()


def test_a_result_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", Stream(full.fileno(), "utf-8", may_be_lost=False))
        with pytest.raises(ResultLost, match="stdout cannot be written: No space left on device"):
            output.result("x")


def test_a_note_that_cannot_be_written_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipe(may_be_lost=True)
    monkeypatch.setattr(sys, "stderr", pipe.stream)
    output.note("one\nline")
    assert pipe.read() == b"one\\nline\n"
    os.close(pipe.read_end)
    output.note("x")
    os.close(pipe.write_end)
    output.note("x")


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything(stdout: Callable[..., Pipe]) -> None:
    """Programs that share a terminal or a pipe share whether it blocks: open(2), O_NONBLOCK."""
    pipe = stdout()
    os.set_blocking(pipe.write_end, False)
    pid = os.fork()
    if pid == 0:
        os.close(pipe.write_end)
        with os.fdopen(pipe.read_end, "rb") as reader:
            os._exit(0 if len(reader.read()) == 300_001 else 1)
    output.result("x" * 300_000)
    os.dup2(os.open(os.devnull, os.O_WRONLY), pipe.write_end)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_encoding_of_a_terminal_in_pythons_utf8_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        utf8_mode = 1

    stream = cast(TextIO, io.TextIOWrapper(io.BytesIO(), "utf-8"))
    for name in ("ISO-8859-1", "ANSI_X3.4-1968"):
        codecs.lookup(name)  # is imported here, with the true flags
    monkeypatch.setattr(sys, "flags", Flags())
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    for codeset, encoding in (("ISO-8859-1", "iso8859-1"), ("ANSI_X3.4-1968", "utf-8"), ("UTF-8", "utf-8")):
        monkeypatch.setattr("locale.nl_langinfo", lambda _, codeset=codeset: codeset)
        assert output.encoding_of(stream) == encoding
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.setattr("locale.nl_langinfo", lambda _: "ISO-8859-1")
    assert output.encoding_of(stream) == "utf-8"
    assert output.encoding_of(None) == "utf-8"
