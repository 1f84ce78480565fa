"""A mapping of a YAML document, read key by key: types, ranges, nearest names, durations."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lando.config.yaml_document import Document, KeyPath
from lando.plain_text import is_one_line
from lando.times import written

T = TypeVar("T")

MAX_DURATION = 3650 * 86400.0
"""Seconds."""

UNKNOWN_SHOWN = 10
"""So many unknown keys are named; of more, their number is given."""
LONGEST_MISSPELT = 60
"""Characters of a key for which the nearest known one is looked for: that takes the square of them."""

ONE_LINE = "one line without control characters"
_DURATION = re.compile(r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s?)?")


def nearest(word: str, known: Collection[str]) -> str | None:
    """The known name that is most similar, if one is similar."""
    folded = word.lower().replace("-", "_").replace(" ", "_")
    return next(iter(difflib.get_close_matches(folded, known, n=1)), None)


def or_default(value: T | None, default: T) -> T:
    """The value, or the default if there is no value."""
    return default if value is None else value


def beside(file: Path, written: str) -> Path:
    """A path in a configuration file, made absolute from the directory of that file."""
    return Path(os.path.abspath(file.parent / os.path.expanduser(written)))


class Section:
    """One mapping of a document, read key by key; mistakes are noted in the document.

    A key whose value is null counts as not given. A getter returns None (or a placeholder, if the key is
    required) for a value that is missing or wrong; call ``Document.check`` before any value is used.

    Args:
        document: the document that contains the section.
        known: every key that the section may have.
        path: where the section is; the whole document if empty.
    """

    def __init__(self, document: Document, known: Sequence[str], path: KeyPath = ()) -> None:
        self.document = document
        self.path = path
        self._known = known
        self._values = self._at(path)
        self._misspelt: set[str] = set()
        self._complain_of_unknown_keys()

    def _at(self, path: KeyPath) -> Mapping[str, Any]:
        value = self.document.value
        for part in path:
            value = value[part]
        if isinstance(value, dict):
            return value
        empty = "is empty" if not path else "has nothing in it"
        found = f"expected keys and values (a mapping), found {kind(value)}"
        self.document.complain(path, empty if value is None else found)
        if not path:
            self.document.check()
        return {}

    def _complain_of_unknown_keys(self) -> None:
        unknown = [key for key in self._values if key not in self._known]
        for key in unknown[:UNKNOWN_SHOWN]:
            meant = self._meant(key)
            if meant:
                self._misspelt.add(meant)  # so that it is not reported as missing, too
            hint = f"did you mean {meant}?" if meant else f"known here: {', '.join(self._known)}"
            self.complain(key, f"unknown key; {hint}")
        if len(unknown) > UNKNOWN_SHOWN:
            more = len(unknown) - UNKNOWN_SHOWN
            self.document.complain(self.path, f"{more:,} more unknown keys")

    def _meant(self, key: str) -> str | None:
        is_word = self.document.is_file and len(key) <= LONGEST_MISSPELT
        return nearest(key, self._known) if is_word else None

    def complain(self, key: str, what: str) -> None:
        """Note a mistake in the value of ``key``."""
        self.document.complain((*self.path, key), what)

    def get(self, key: str) -> Any:
        """The value as written; None if there is none."""
        assert key in self._known, key
        return self._values.get(key)

    def holds(self, key: str) -> bool:
        """Whether the key is written, with or without a value."""
        return key in self._values

    def require(self, key: str, what: str) -> Any:
        """The value of a required key; ``what`` says what to write."""
        value = self.get(key)
        if value is None and self.holds(key):
            self.complain(key, f"has no value; {what}")
        elif value is None and key not in self._misspelt:
            self.complain(key, f"missing; {what}")
        return value

    def text(self, key: str, most: int | None = None) -> str | None:
        """One line of text, not empty, of at most so many characters."""
        value = self.get(key)
        return None if value is None else self._line((*self.path, key), value, most)

    def required_text(self, key: str, what: str, most: int | None = None) -> str:
        """One line of text of a required key; ``what`` says what to write."""
        self.require(key, what)
        return self.text(key, most) or ""

    def _line(self, path: KeyPath, value: object, most: int | None) -> str | None:
        if not isinstance(value, str):
            self.document.complain(path, _expected_text(value))
        elif most is not None and len(value) > most:
            self.document.complain(path, f"must be at most {most:,} characters")
        elif not value.strip():
            self.document.complain(path, "is empty; give it a value or remove the key")
        elif not is_one_line(value):
            self.document.complain(path, f"expected {ONE_LINE}")
        else:
            return value
        return None

    def integer(self, key: str, least: int, most: int = 2**31 - 1) -> int | None:
        """A whole number from ``least`` to ``most``."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            self.complain(key, f"expected a whole number, found {kind(value)}")
        elif not least <= value <= most:
            self.complain(key, f"must be {least} or more" if value < least else f"must be {most} or less")
        else:
            return value
        return None

    def flag(self, key: str) -> bool | None:
        """``true`` or ``false``."""
        value = self.get(key)
        if value is None or isinstance(value, bool):
            return value
        self.complain(key, f"expected true or false, found {kind(value)}")
        return None

    def duration(self, key: str, most: float = MAX_DURATION, or_else: str = "") -> float | None:
        """Seconds, more than zero; written as a number, or as ``90m``, ``2h``, ``1d``, ``1h30m``.

        Args:
            key: of the value.
            most: seconds.
            or_else: what else could have been written, for the end of an error.
        """
        value = self.get(key)
        if value is None:
            return None
        seconds = to_seconds(value)
        if seconds is None:
            self.complain(key, f"expected seconds, or a time such as 90m, 2h, 1d or 1h30m{or_else}")
        elif not 0 < seconds <= most:
            limit = "more than 0" if seconds <= 0 else f"at most {written(most)}"
            self.complain(key, f"must be {limit}{or_else}")
        else:
            return seconds
        return None

    def texts(self, key: str, most: int | None = None, length: int | None = None) -> tuple[str, ...]:
        """A list of texts, unchanged: at most so many, of so many characters together."""
        value = self.get(key)
        if value is None:
            return ()
        if not isinstance(value, list):
            self.complain(key, f"expected a list of texts, found {kind(value)}")
            return ()
        if most is not None and len(value) > most:
            self.complain(key, f"must be at most {most:,} texts")
            return ()
        for index, item in enumerate(value):
            if not isinstance(item, str):
                self.document.complain((*self.path, key, index), _expected_text(item))
        if length is not None and sum(len(item) for item in value if isinstance(item, str)) > length:
            self.complain(key, f"must be at most {length:,} characters in all")
        return tuple(value)

    def lines(
        self, key: str, most: int | None = None, key_most: int | None = None, line_most: int | None = None
    ) -> dict[str, str]:
        """A mapping whose values are one line of text each.

        Args:
            key: the mapping's.
            most: how many there may be.
            key_most: characters of a key.
            line_most: characters of a value.
        """
        value = self.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.complain(key, f"expected keys and values (a mapping), found {kind(value)}")
            return {}
        if most is not None and len(value) > most:
            self.complain(key, f"must be at most {most:,} keys")
            return {}
        for name in value:
            if key_most is not None and len(name) > key_most:
                self.document.complain(
                    (*self.path, key, name), f"a key must be at most {key_most:,} characters"
                )
            elif not is_one_line(name):
                self.document.complain((*self.path, key, name), f"expected a key of {ONE_LINE}")
        return {
            name: self._line((*self.path, key, name), item, line_most) or "" for name, item in value.items()
        }

    def section(self, key: str, known: Sequence[str]) -> Section | None:
        """The section under ``key``; None if it is missing or empty."""
        return None if self.get(key) is None else Section(self.document, known, (*self.path, key))


def kind(value: object) -> str:
    """The type of a value, for people who write YAML; never the value itself."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text" if value else "empty text"
    return "a list" if isinstance(value, list) else "a mapping"


def _expected_text(value: object) -> str:
    hint = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
    return f"expected text, found {kind(value)}{hint}"


def to_seconds(value: object) -> float | None:
    """A duration in seconds, as ``Section.duration`` takes it; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return float(min(value, 2**53))
    if isinstance(value, float):
        return float(value)
    match = _DURATION.fullmatch(value.replace(" ", "")) if isinstance(value, str) else None
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds)
