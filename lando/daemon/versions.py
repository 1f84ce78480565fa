"""Warns of workers that are older than this daemon: once for each version, since one image serves all VMs."""

from __future__ import annotations

from lando import versions
from lando.daemon.log import log
from lando.engine.workers import version_of
from lando.messages import Message

REMEMBERED = 100
"""Versions; a worker may report any text, and must not fill the memory or the log."""


class WorkerVersions:
    """The versions that workers have reported to this daemon."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def note(self, message: Message) -> None:
        """A report has been taken, with the token of its job."""
        version = version_of(message.type, message.body)
        if version is None or version in self._seen or len(self._seen) >= REMEMBERED:
            return
        self._seen.add(version)
        hint = versions.hint(version)
        if hint:
            log.warning("the worker of job %s reports lando-fsm %r, %s", message.job, version, hint)
