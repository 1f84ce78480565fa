"""What commands print: the one module that writes to stdout and stderr.

A *result* goes to stdout. If it cannot be written, the command fails: without a word if its reader has ended
(``| head``), else with a message. A *note* goes to stderr, and is dropped where it cannot be written: no job
depends on who reads that. A stream that was closed at the start (``>&-``) is taken for one to /dev/null.

All text passes the filter of ``lando.plain_text``, whoever prints it. What the encoding of the stream does
not have is replaced: ``->`` for an arrow, else an escape.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import locale
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from lando import plain_text
from lando.cli.start import open_standard_files
from lando.errors import LandoError

if TYPE_CHECKING:
    import json
    from collections.abc import Iterable

    from rich.console import Console

PIPE_CLOSED = 141
"""The exit code that a shell reports for a process that was ended by SIGPIPE."""
CHUNK = 64 * 1024
"""Characters of a list that are written at once."""
SUBSTITUTES = {"→": "->", "…": "...", "–": "-", "—": "-", "×": "x"}
"""Of our own signs, where the encoding does not have them."""
REPLACE = "lando.replace"
"""The name of this rule, for ``str.encode``."""


class ResultLost(LandoError):
    """A result could not be written to stdout."""


class ReaderGone(ResultLost):
    """Nobody reads stdout any more: the command ends, and says nothing."""

    exit_code = PIPE_CLOSED


class Stream(io.TextIOBase):
    """stdout or stderr: what is written passes the filter, and is not buffered.

    Args:
        descriptor: of the file, pipe or terminal.
        encoding: of its text.
        may_be_lost: whether a failure is ignored; else it is a ``ResultLost``.
    """

    def __init__(self, descriptor: int, encoding: str, may_be_lost: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._may_be_lost = may_be_lost
        self.unfiltered: TextIO = cast(TextIO, _Unfiltered(self))
        """For text that has passed the filter, and then was drawn with colours."""

    @property
    def encoding(self) -> str:  # type: ignore[override] # a variable in typeshed
        """Of its text."""
        return self._encoding

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """See ``io.TextIOBase``."""
        return self.write_unfiltered(plain_text.lines(text))

    def write_unfiltered(self, text: str) -> int:
        """Write text that has passed the filter."""
        self.write_bytes(text.encode(self._encoding, REPLACE))
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Write all of it, however slow the reader is.

        Raises:
            ResultLost: it cannot be written; not if it may be lost.
        """
        try:
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:  # somebody else has made the pipe or terminal non-blocking
                    select.select([], [self._descriptor], [])
        except OSError as error:
            if self._may_be_lost:
                return
            if error.errno == errno.EPIPE:
                raise ReaderGone("nobody reads stdout") from None
            raise ResultLost(f"stdout cannot be written: {error.strerror}") from None


class _Unfiltered(io.TextIOBase):
    """The same stream without the filter."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of its text."""
        return self._stream.encoding

    def fileno(self) -> int:
        """The descriptor."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """See ``io.TextIOBase``."""
        return self._stream.write_unfiltered(text)


def prepare() -> None:
    """Put these streams in place of Python's, whose errors would be tracebacks; at the start of a program."""
    open_standard_files()
    if sys.stdout is sys.__stdout__:  # else a test reads what is printed
        sys.stdout = cast(TextIO, Stream(1, encoding_of(sys.stdout), may_be_lost=False))
    if sys.stderr is sys.__stderr__:
        sys.stderr = cast(TextIO, Stream(2, encoding_of(sys.stderr), may_be_lost=True))


def encoding_of(stream: TextIO | None) -> str:
    """The encoding of what reads this stream of Python's: a terminal, say.

    In its UTF-8 mode (see ``lando.cli.start``) Python does not look. For the locales C and POSIX it takes
    UTF-8, and so do we.
    """
    if stream is None:
        return "utf-8"
    if sys.flags.utf8_mode and not os.environ.get("PYTHONIOENCODING", "").partition(":")[0]:
        with contextlib.suppress(LookupError):
            name = codecs.lookup(locale.nl_langinfo(locale.CODESET)).name
            return "utf-8" if name == "ascii" else name
    return stream.encoding or "utf-8"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Stands for characters that an encoding does not have."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    escaped = (SUBSTITUTES.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing)
    return "".join(escaped), error.end


codecs.register_error(REPLACE, _replaced)


# results


def result(*lines: str) -> None:
    """Print lines on stdout. Each argument is one line, whatever is in it."""
    sys.stdout.write("".join(f"{plain_text.one_line(line)}\n" for line in lines))


def result_log(text: str) -> None:
    """Print a part of a program's output on stdout, without its colours."""
    sys.stdout.write(plain_text.log_lines(text))


def result_styled(*parts: tuple[str, str]) -> None:
    """Print one line on stdout, on a terminal with colours.

    Args:
        parts: texts, each with ``bold``, the name of a colour, or nothing.
    """
    import click  # noqa: PLC0415 - only for what has colours

    texts = []
    for text, style in parts:
        shown = plain_text.one_line(text)
        bold, color = style == "bold" or None, style if style not in ("bold", "") else None
        texts.append(click.style(shown, fg=color, bold=bold) if style and has_colors() else shown)
    unfiltered(sys.stdout).write("".join(texts) + "\n")


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout; in ASCII unless stdout is in UTF-8."""
    import json  # noqa: PLC0415

    is_unicode = _encoding(sys.stdout).startswith("utf")
    sys.stdout.write(plain_text.json_text(json.dumps(value, indent=2, ensure_ascii=not is_unicode)) + "\n")


def print_json_list(values: Iterable[Any]) -> None:
    """Print a JSON list on stdout, its values as they come; it looks as ``print_json`` prints it."""
    import json  # noqa: PLC0415

    is_unicode = _encoding(sys.stdout).startswith("utf")
    encoders = (
        json.JSONEncoder(ensure_ascii=not is_unicode),
        json.JSONEncoder(ensure_ascii=not is_unicode, indent=2),
    )
    begin, ready, size = "[\n  ", [], 0
    for value in values:
        text = plain_text.json_text(_indented(value, *encoders))
        ready.append(f"{begin}{text}")
        begin, size = ",\n  ", size + len(text)
        if size >= CHUNK:
            sys.stdout.write("".join(ready))
            ready, size = [], 0
    sys.stdout.write("".join(ready) + ("[]\n" if begin[0] == "[" else "\n]\n"))


def _indented(value: Any, flat: json.JSONEncoder, indented: json.JSONEncoder, line: str = "\n  ") -> str:
    """As ``json.dumps(value, indent=2)`` below ``line``, which takes three times as long."""
    if not isinstance(value, dict | list) or not value:
        return flat.encode(value)
    if isinstance(value, list):
        return indented.encode(value).replace("\n", line)
    inner = f"{line}  "
    items = (f"{flat.encode(key)}: {_indented(each, flat, indented, inner)}" for key, each in value.items())
    return f"{{{inner}{f',{inner}'.join(items)}{line}}}"


def result_bytes(data: bytes) -> None:
    """Write a file for other programs on stdout: a picture, a script. Nothing of it may be foreign text."""
    stream = sys.stdout
    if isinstance(stream, Stream):
        stream.write_bytes(data)
    else:
        stream.buffer.write(data)


def result_page(text: str) -> None:
    """Show drawn text (of ``console``) on a terminal, page by page if it is longer than that."""
    import shutil  # noqa: PLC0415

    import click  # noqa: PLC0415

    if text.count("\n") < shutil.get_terminal_size().lines:
        unfiltered(sys.stdout).write(text)
        return
    if not _encoding(sys.stdout).startswith("utf"):
        text = text.encode("ascii", REPLACE).decode()  # the pager gets what the locale has, or UTF-8
    os.environ.setdefault("LESS", "-RFX")
    with contextlib.redirect_stdout(unfiltered(sys.stdout)):
        click.echo_via_pager(text, color=has_colors())


def check_reader() -> None:
    """For a command that prints little and seldom: end it if nobody reads its results any more.

    Raises:
        ReaderGone: the pipe's reader has ended.
    """
    if not isinstance(sys.stdout, Stream):
        return
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    if any(events & select.POLLERR for _, events in poll.poll(0)):
        raise ReaderGone("nobody reads stdout")


# notes


def note(*lines: str) -> None:
    """Print a remark on stderr, so that stdout holds the result alone. Each argument is one line."""
    sys.stderr.write("".join(f"{plain_text.one_line(line)}\n" for line in lines))


# what is drawn


def console(stream: TextIO | None = None) -> Console:
    """A console of rich, which respects NO_COLOR and uses no colors where the stream is no terminal.

    Args:
        stream: stdout or stderr; None: stdout. What is drawn there must have passed the filter: ``shown``.
    """
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, only where something is drawn

    return Console(file=unfiltered(stream or sys.stdout), highlight=False, markup=False, soft_wrap=False)


def shown(text: str, stream: TextIO | None = None) -> str:
    """A text as one line, as this stream (None: stdout) will show it: what is drawn depends on its width."""
    encoding = _encoding(stream or sys.stdout)
    line = plain_text.one_line(text)
    return line if line.isascii() else line.encode(encoding, REPLACE).decode(encoding)


def has_all_signs(stream: TextIO) -> bool:
    """Whether it has more than the letters of some languages."""
    return _encoding(stream).startswith("utf")


def has_colors() -> bool:
    """Whether results may have colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def unfiltered(stream: TextIO) -> TextIO:
    """The stream for what was drawn of filtered text."""
    return stream.unfiltered if isinstance(stream, Stream) else stream


def _encoding(stream: TextIO) -> str:
    return codecs.lookup(stream.encoding or "utf-8").name
