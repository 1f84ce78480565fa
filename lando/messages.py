"""The wire format: JSON messages from clients and workers, validated before they are used.

A message is one UTF-8 object ``{id, type, version, sent_at, job, attempt, token, body}``, with ``seq`` if a
worker sends it. Whether it came from a client or a worker is known from the queue, never from the message.
"""

from __future__ import annotations

import json
import math
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
YEAR_10000 = 253402300800
"""Epoch seconds; Python's dates end there."""

Origin = Literal["client", "worker"]

CLIENT_TYPES = ("start_worker", "cancel_job", "retry_job", "terminate_worker", "shutdown_server")
WORKER_TYPES = ("worker_started", "worker_progress", "workflow_finished")
ABOUT_A_JOB = ("start_worker", "cancel_job", "retry_job")

ENVELOPE = frozenset(("id", "type", "version", "sent_at", "job", "attempt", "token", "seq", "body"))
REPORTED_OUTCOMES = ("succeeded", "workflow_failed", "system_failed")


class Malformed(Exception):
    """The bytes are not a valid message; the text says why, and is stored with the dead letter."""


@dataclass(frozen=True)
class Message:
    """A valid message. ``job``, ``attempt``, ``token`` and ``seq`` are None if the type has none."""

    type: str
    body: Mapping[str, Any] = field(default_factory=dict)
    job: str | None = None
    attempt: int | None = None
    token: str | None = None
    seq: int | None = None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    sent_at: float = field(default_factory=time.time)
    """Epoch seconds by the sender's clock: for people to read, never to decide anything."""

    @property
    def origin(self) -> Origin:
        """Who may send this type."""
        return "worker" if self.type in WORKER_TYPES else "client"

    def encode(self) -> bytes:
        """The message as it goes over the wire."""
        envelope: dict[str, Any] = {
            "id": self.id,
            "type": self.type,
            "version": VERSION,
            "sent_at": self.sent_at,
            "job": self.job,
            "attempt": self.attempt,
            "token": self.token,
            "body": dict(self.body),
        }
        if self.seq is not None:
            envelope["seq"] = self.seq
        return json.dumps(envelope, ensure_ascii=False, allow_nan=False).encode()


def decode(raw: bytes, origin: Origin | None = None) -> Message:
    """Decode and validate one message.

    Args:
        raw: the bytes as received from the queue.
        origin: who may publish where the message came from; None if the queue does not know.

    Raises:
        Malformed: the text names the wrong key.
    """
    if len(raw) > MAX_BYTES:
        raise Malformed(f"{len(raw)} bytes; a message has at most {MAX_BYTES}")
    envelope = _object(raw)
    version = envelope.get("version")
    if version != VERSION or isinstance(version, bool):
        raise Malformed(f"version {_short(version)}; this daemon understands version {VERSION}")
    kind = envelope.get("type")
    if kind not in CLIENT_TYPES + WORKER_TYPES:
        raise Malformed(f"unknown type {_short(kind)}")
    message = Message(
        type=kind,
        id=_identifier(envelope, "id"),
        sent_at=_number(envelope, "sent_at"),
        job=envelope.get("job"),
        attempt=envelope.get("attempt"),
        token=envelope.get("token"),
        seq=envelope.get("seq"),
        body=_mapping(envelope, "body"),
    )
    unknown = envelope.keys() - ENVELOPE
    if unknown:
        raise Malformed(f"unknown key {_short(sorted(unknown)[0])}")
    if origin is not None and origin != message.origin:
        raise Malformed(f"a {origin} may not send {kind}")
    if message.origin == "worker":
        _check_worker(message)
    else:
        _check_client(message)
    return message


def _object(raw: bytes) -> dict[str, Any]:
    try:
        envelope = _DECODER.decode(raw.decode("utf-8"))
        if b"\\u" in raw and _ESCAPED_SURROGATE.search(raw):
            json.dumps(envelope, ensure_ascii=False).encode()  # fails for a lone surrogate, which is not text
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(envelope, dict):
        raise Malformed(f"expected a JSON object, found {type(envelope).__name__}")
    if b"\\u0000" in raw and _NUL.search(raw):
        raise Malformed("contains a NUL character")
    return envelope


def _check_client(message: Message) -> None:
    for key in ("attempt", "token", "seq"):
        if getattr(message, key) is not None:
            raise Malformed(f"{key}: only messages of workers have it, not {message.type}")
    if message.type in ABOUT_A_JOB:
        _uuid(message.job, "job")
    elif message.job is not None:
        raise Malformed(f"job: {message.type} has none")
    if message.type == "terminate_worker" and not isinstance(message.body.get("vm_name"), str):
        raise Malformed("body.vm_name: expected a string")


def _check_worker(message: Message) -> None:
    _uuid(message.job, "job")
    if not _is_int(message.attempt, 1):
        raise Malformed("attempt: expected an integer from 1")
    if not isinstance(message.token, str) or not message.token or not message.token.isascii():
        raise Malformed("token: expected an ASCII string")
    if not _is_int(message.seq, 1):
        raise Malformed("seq: expected an integer from 1")
    _check_report(message.type, message.body)


def _check_report(kind: str, body: Mapping[str, Any]) -> None:
    for key in ("phase", "step_name", "git_commit", "log", "log_tail", "reason"):
        if not isinstance(body.get(key), (str, type(None))):
            raise Malformed(f"body.{key}: expected a string")
    for key in ("step", "steps"):
        if body.get(key) is not None and not _is_int(body[key], 0):
            raise Malformed(f"body.{key}: expected an integer from 0")
    if kind != "workflow_finished":
        return
    if body.get("outcome") not in REPORTED_OUTCOMES:
        raise Malformed(f"body.outcome: expected one of {', '.join(REPORTED_OUTCOMES)}")
    if body.get("exit_code") is not None and not _is_int(body["exit_code"], -(2**31)):
        raise Malformed("body.exit_code: expected an integer")
    if not isinstance(body.get("outputs"), (dict, type(None))):
        raise Malformed("body.outputs: expected an object")


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _identifier(envelope: Mapping[str, Any], key: str) -> str:
    value = envelope.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= 100:
        raise Malformed(f"{key}: expected a string of 1 to 100 characters")
    return value


def _number(envelope: Mapping[str, Any], key: str) -> float:
    value = envelope.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Malformed(f"{key}: expected a number")
    if not 0 <= value < YEAR_10000:
        raise Malformed(f"{key}: out of range")
    return float(value)


def _mapping(envelope: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = envelope.get(key)
    if not isinstance(value, dict):
        raise Malformed(f"{key}: expected an object")
    return value


def _uuid(value: object, key: str) -> None:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise Malformed(f"{key}: expected a UUID in lower case with hyphens, found {_short(value)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{_short(digits)} is out of range")
    return number


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
