"""Versions of lando-fsm that meet: the daemon's, and the one in a VM's image, which may be older or newer.

A worker reports its version and its abilities first: the optional settings of the worker configuration that
it knows. A setting that it does not know may change what the job means, so that the job is refused by name
and not run without it. What may be ignored stands under the key OPTIONAL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lando import __version__

VERSION = __version__
"""This program's version."""
UNREPORTED = "unknown"
"""Stands for the version of a worker that reports none: those of before versions were reported."""
UNREPORTED_ABILITIES = frozenset(
    ("user", "git_ref", "git_user", "git_password", "cwl_base_command", "cwl_args", "outputs")
)
"""What such workers know; nothing is ever added here."""
OPTIONAL = "optional"
"""The key of the worker configuration with the settings that a worker need not know."""

_ALWAYS_KNOWN = frozenset(("job", "attempt", "token", "queue", "heartbeat"))
_NOTHING: tuple[Any, ...] = (None, False, "", [], (), {})


def needed(configuration: Mapping[str, Any]) -> frozenset[str]:
    """The settings of a worker configuration that are set and that the worker must know.

    Args:
        configuration: as the start-up script writes it. A setting that is empty is not set.
    """
    given = {name for name, value in _settings(configuration) if value not in _NOTHING}
    return frozenset(given - _ALWAYS_KNOWN)


def _settings(configuration: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names as a worker's abilities have them: ``ref`` within ``git`` is ``git_ref``."""
    for key, value in configuration.items():
        if key == "git" and isinstance(value, Mapping):
            yield from ((f"git_{inner}", of_git) for inner, of_git in value.items())
        elif key != OPTIONAL:
            yield key, value


def refusal(version: str, unknown: Iterable[str]) -> str:
    """Why a worker does not run a job, for people to read.

    Args:
        version: the worker's.
        unknown: the settings that it does not know.
    """
    which = "an older lando-fsm" if version == UNREPORTED else f"lando-fsm {version}"
    names = sorted(unknown)
    settings = f"setting{'s' if len(names) > 1 else ''} {', '.join(names)}"
    instead = ", or accept what it protects from with worker.protect: false" if "protect" in names else ""
    return (
        f"the worker in the VM ({which}) does not know the {settings}: "
        f"rebuild the image with the daemon's version (docs/upgrade.md){instead}"
    )


def hint(version: str) -> str:
    """What to do about a worker of this version; empty if it is not older than this program."""
    if not is_older(version):
        return ""
    return f"older than this daemon ({VERSION}): rebuild the image, see docs/upgrade.md"


def is_older(version: str, than: str = VERSION) -> bool:
    """Whether a version is older than another. What is no version is not, but UNREPORTED is."""
    if version == UNREPORTED:
        return True
    release = _release(version)
    return bool(release) and release < _release(than)


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version, as far as they can be compared: 0.3 of 0.3.0.dev1."""
    digits = re.match(r"\d{1,9}(\.\d{1,9}){0,3}", version)
    numbers = [int(part) for part in digits[0].split(".")] if digits else []
    while numbers and numbers[-1] == 0 and len(numbers) > 1:
        numbers.pop()
    return tuple(numbers)
