"""The name and the labels of a job, as they are shown and looked for: without the job's secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lando.address import ambiguity
from lando.credentials import job_secrets, looks_secret, scrub
from lando.message_limits import NAME, shorten
from lando.redaction import MASK, mask
from lando.repository import clone_name
from lando.store.types import storable
from lando.yaml_json import write_json

LABELS, LABEL_KEY, LABEL = 100, 200, 1000
"""How many are stored, and the characters of a key and a value: as many as a job file may have, but the body
of a job that failed because it is not valid may have more."""


def display_name(body: Mapping[str, Any]) -> str:
    """A job's name, else its document, as in ``toyworkflow/count``, without the job's secrets.

    The body need not be valid.
    """
    name = body.get("name")
    shown = name if isinstance(name, str) and name else _name_of_document(body)
    return shorten(mask(scrub(shown), job_secrets(body)), NAME)


def _name_of_document(body: Mapping[str, Any]) -> str:
    address = _text(body, "git_clone")
    # The end of an address that can be misread may be the end of a password.
    clone = "?" if ambiguity(address) else clone_name(address)
    document = _text(body, "run_cwl").rsplit("/", 1)[-1].split("#")[0].removesuffix(".cwl")
    return f"{clone}/{document}"


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "?")
    return value if isinstance(value, str) else "?"


def shown_labels(body: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a start_worker body, which need not be valid, without the job's secrets."""
    labels = body.get("labels")
    if not labels or not isinstance(labels, dict):
        return {}
    secrets = job_secrets(body)
    return {
        shorten(mask(scrub(key), secrets), LABEL_KEY): MASK if looks_secret(key) else _shown(value, secrets)
        for key, value in [*labels.items()][:LABELS]
    }


def _shown(value: Any, secrets: Sequence[str]) -> str:
    text = value if isinstance(value, str) else write_json(value)
    return shorten(mask(scrub(text), secrets), LABEL)


def label_rows(body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What ``job_labels`` has of the labels, but for what it has of the job."""
    stored = {storable(key): storable(value) for key, value in shown_labels(body).items()}
    for place, (key, value) in enumerate(stored.items()):
        yield {"place": place, "key": key, "value": value, "digest": digest(key, value)}


def digest(key: str, value: str) -> str:
    """By which jobs with this label are found. An index has no room for 200 and 1,000 characters: PostgreSQL
    takes 2,704 bytes (https://www.postgresql.org/docs/current/btree.html)."""
    return hashlib.sha256(json.dumps([key, value]).encode()).hexdigest()[:32]
