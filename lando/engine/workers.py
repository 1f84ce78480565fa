"""Workers of other versions: one that cannot do what its job needs is refused at its first report."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lando.states.events import WorkerStarted, WorkflowFinished
from lando.versions import UNREPORTED, UNREPORTED_ABILITIES, refusal

LONGEST_VERSION = 40
"""Characters."""


def version_of(type: str, body: Mapping[str, Any]) -> str | None:
    """The version of the worker that wrote a report; None if the report does not say it.

    Args:
        type: of the message. Every worker that reports its version does so when it starts.
        body: of the message.
    """
    version = body.get("version")
    if isinstance(version, str) and version:
        return version[:LONGEST_VERSION]
    return UNREPORTED if type == "worker_started" else None


def refuse(
    started: WorkerStarted, body: Mapping[str, Any], needs: Collection[str]
) -> WorkflowFinished | None:
    """The end of an attempt whose worker does not know what its job needs; None if it does.

    Args:
        started: its first report.
        body: of that message.
        needs: names of settings, as abilities have them.
    """
    abilities = body.get("abilities")
    knows = abilities if isinstance(abilities, list) else UNREPORTED_ABILITIES
    unknown = [name for name in needs if name not in knows]
    if not unknown:
        return None
    version = started.version or UNREPORTED
    return WorkflowFinished(
        started.at,
        started.attempt,
        started.token,
        started.seq,
        version=version,
        outcome="system_failed",
        reason=refusal(version, unknown),
        final=True,
    )
