"""A start_worker message that was checked before its transaction, which it would delay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lando.message_limits import REASON, excess, shorten
from lando.messages import Message
from lando.states.job import JobSpec

KEPT_VALUES, KEPT_CHARACTERS = 1000, 64 * 1024
"""The body of a job that cannot be run is stored as it is up to so many values and characters of JSON."""
KEYS = tuple(field.name for field in fields(JobSpec))


@dataclass(frozen=True)
class Submission(Message):
    """The message with the job that it asks for, or with what is wrong with it."""

    spec: JobSpec | None = None
    """None if it cannot be run."""
    problem: str = ""


def submission(message: Message, spec: JobSpec | None, problem: str = "") -> Submission:
    """The message with the result of its check; of a body that cannot be run, a bounded part is left."""
    known = dict(message.__dict__)
    if spec is None:
        known["body"] = _bounded(message.body)
    return Submission(**known, spec=spec, problem=problem)


def _bounded(body: Mapping[str, Any]) -> Mapping[str, Any]:
    if excess(body, KEPT_VALUES) is None and len(json.dumps(body)) <= KEPT_CHARACTERS:
        return body
    texts = {key: body[key] for key in KEYS if isinstance(body.get(key), str)}
    return {key: shorten(text, REASON) for key, text in texts.items()}
