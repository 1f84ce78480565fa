"""The wire format: JSON messages from clients and workers, validated before they are used.

A message is one UTF-8 object ``{id, type, version, sent_at, job, attempt, token, body}``, with ``seq`` if a
worker sends it. Whether it came from a client or a worker is known from the queue, never from the message.

The limits of its fields are in ``lando.message_limits``. Only the rules of the job file check the body of a
``start_worker``: a message that breaks them becomes a job that has failed, which says why.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lando import message_limits, plain_text
from lando.message_limits import COMMAND_BYTES, REPORT_BYTES
from lando.yaml_json import WrittenFloat, write_json

VERSION = 1
YEAR_10000 = 253402300800
"""Epoch seconds; Python's dates end there."""

Origin = Literal["client", "worker"]

CLIENT_TYPES = (
    *("start_worker", "cancel_job", "retry_job", "forget_job"),
    *("terminate_worker", "shutdown_server"),
)
WORKER_TYPES = ("worker_started", "worker_progress", "workflow_finished")
ABOUT_A_JOB = ("start_worker", "cancel_job", "retry_job", "forget_job")

ENVELOPE = frozenset(("id", "type", "version", "sent_at", "job", "attempt", "token", "seq", "body"))
REPORTED_OUTCOMES = ("succeeded", "workflow_failed", "system_failed")

OF_COMMANDS = ("vm_name",)
"""What the bodies of commands other than ``start_worker`` may have; the rest is left out."""
OF_REPORTS = ("phase", "step", "steps", "step_name", "git_commit", "log", "version", "abilities")
"""The same of a worker's messages: a newer worker may add more."""
OF_RESULTS = ("outcome", "exit_code", "outputs", "log_tail", "reason", "final")
"""The same of ``workflow_finished`` only."""
OF_SEVERAL_LINES = ("log", "log_tail")
"""What workers report as a program wrote it, control characters too: they are escaped where it is shown."""
NOT_ONE_LINE = "expected one line without control characters"


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
        return write_json(envelope).encode()


def decode(raw: bytes, origin: Origin | None = None) -> Message:
    """Decode and validate one message.

    Args:
        raw: the bytes as received from the queue.
        origin: who may publish where the message came from; None if the queue does not know.

    Raises:
        Malformed: the text names the wrong key.
    """
    is_command = origin == "client"
    _check_size(raw, COMMAND_BYTES if is_command else REPORT_BYTES)
    _check_values(raw, message_limits.COMMAND_VALUES if is_command else message_limits.REPORT_VALUES)
    envelope = _object(raw)
    version = envelope.get("version")
    if version != VERSION or isinstance(version, bool):
        raise Malformed(f"version {_short(version)}; this daemon understands version {VERSION}")
    kind = envelope.get("type")
    if not isinstance(kind, str) or kind not in CLIENT_TYPES + WORKER_TYPES:
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
        raise Malformed(f"unknown key {_short(min(unknown))}")
    if origin is not None and origin != message.origin:
        raise Malformed(f"a {origin} may not send {kind}")
    if message.origin == "worker":
        _check_worker(message)
        return replace(message, body=_report(message, len(raw)))
    _check_size(raw, COMMAND_BYTES)
    _check_client(message)
    return message if kind == "start_worker" else replace(message, body=_known(message.body, OF_COMMANDS))


def _check_size(raw: bytes, most: int) -> None:
    if len(raw) > most:
        raise Malformed(f"{len(raw)} bytes; a message has at most {most}")


def _check_values(raw: bytes, most: int) -> None:
    """Refuse what has far too many values for its type, before it takes a lot of memory."""
    if _separators(raw) < most:
        return
    # They may be in texts. Of a value there are two texts at most: its key and itself.
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 4 * most or _separators(_STRING.sub(b"", unescaped)) >= most:
        raise Malformed(f"a message has at most {most:,} values")


def _separators(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        envelope = _DECODER.decode(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from None
    if not isinstance(envelope, dict):
        raise Malformed(f"expected a JSON object, found {type(envelope).__name__}")
    _check_escapes(raw)
    return envelope


def _check_escapes(raw: bytes) -> None:
    """Refuse NUL, which not every database stores, and half of a surrogate pair, which is not text."""
    if b"\\u" not in raw:
        return
    escapes = raw.replace(b"\\\\", b"")  # without escaped backslashes every other one begins an escape
    if b"\\u0000" in escapes:
        raise Malformed("contains a NUL character")
    if _SURROGATE.search(_SURROGATE_PAIR.sub(b"", escapes)):
        raise Malformed("not JSON: contains half of a surrogate pair")


def _known(body: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: body[key] for key in keys if key in body}


def _check_client(message: Message) -> None:
    for key in ("attempt", "token", "seq"):
        if getattr(message, key) is not None:
            raise Malformed(f"{key}: only messages of workers have it, not {message.type}")
    if message.type in ABOUT_A_JOB:
        _uuid(message.job, "job")
    elif message.job is not None:
        raise Malformed(f"job: {message.type} has none")
    if message.type == "start_worker":
        if message_limits.excess(message.body, message_limits.JOB_VALUES) == message_limits.OUT_OF_RANGE:
            raise Malformed(f"body: {message_limits.OUT_OF_RANGE}")
    elif message.type == "terminate_worker":
        if not isinstance(message.body.get("vm_name"), str):
            raise Malformed("body.vm_name: expected a string")
        _check_text(message.body, "vm_name")


def _check_worker(message: Message) -> None:
    _uuid(message.job, "job")
    if not _is_int(message.attempt, 1):
        raise Malformed("attempt: expected an integer from 1")
    token = message.token
    if not isinstance(token, str) or not 1 <= len(token) <= message_limits.TOKEN or not token.isascii():
        raise Malformed(f"token: expected an ASCII string of 1 to {message_limits.TOKEN} characters")
    if not _is_int(message.seq, 1):
        raise Malformed("seq: expected an integer from 1")


def _report(message: Message, size: int) -> dict[str, Any]:
    """The body of a worker's message within its limits; ``size``: bytes of the whole message.

    Raises:
        Malformed: a field has the wrong type, or is too long and not for people.
    """
    is_result = message.type == "workflow_finished"
    body = _known(message.body, OF_REPORTS + OF_RESULTS if is_result else OF_REPORTS)
    for key in body.keys() & message_limits.FOR_PEOPLE.keys():
        if not isinstance(body[key], (str, type(None))):
            raise Malformed(f"body.{key}: expected a string")
        if body[key]:
            body[key] = _for_people(key, body[key])
    for key in ("git_commit", "version"):
        _check_text(body, key)
    for key in ("step", "steps"):
        if body.get(key) is not None and not _is_int(body[key], 0):
            raise Malformed(f"body.{key}: expected an integer from 0")
    _check_abilities(body.get("abilities"))
    return message_limits.shortened(_result(body, size) if is_result else body)


def _for_people(key: str, text: str) -> str:
    """A text of a worker with its control characters escaped, but for those of a program's output."""
    short = message_limits.shorten(text, message_limits.FOR_PEOPLE[key])
    if key in OF_SEVERAL_LINES:
        return short
    return plain_text.lines(short) if key == "reason" else plain_text.one_line(short)


def _check_text(body: Mapping[str, Any], key: str) -> None:
    value, most = body.get(key), message_limits.EXACT[key]
    if not isinstance(value, (str, type(None))):
        raise Malformed(f"body.{key}: expected a string")
    if value is not None and len(value) > most:
        raise Malformed(f"body.{key}: {len(value)} characters; it has at most {most}")
    if value is not None and not plain_text.is_one_line(value):
        raise Malformed(f"body.{key}: {NOT_ONE_LINE}")


def _check_abilities(value: object) -> None:
    if value is None:
        return
    most, length = message_limits.ABILITIES, message_limits.ABILITY
    if not isinstance(value, list) or len(value) > most:
        raise Malformed(f"body.abilities: expected a list of at most {most} strings")
    if not all(isinstance(ability, str) and len(ability) <= length for ability in value):
        raise Malformed(f"body.abilities: expected strings of at most {length} characters")
    if not all(map(plain_text.is_one_line, value)):
        raise Malformed(f"body.abilities: {NOT_ONE_LINE}")


def _result(body: dict[str, Any], size: int) -> dict[str, Any]:
    """The body of a ``workflow_finished``; an output object that is too large is left out, since the workflow
    has ended all the same."""
    if body.get("outcome") not in REPORTED_OUTCOMES:
        raise Malformed(f"body.outcome: expected one of {', '.join(REPORTED_OUTCOMES)}")
    if body.get("exit_code") is not None and not _is_int(body["exit_code"], -(2**31)):
        raise Malformed("body.exit_code: expected an integer")
    if not isinstance(body.get("final"), (bool, type(None))):
        raise Malformed("body.final: expected true or false")
    outputs = body.get("outputs")
    if not isinstance(outputs, (dict, type(None))):
        raise Malformed("body.outputs: expected an object")
    if outputs is None:
        return body
    wrong = message_limits.excess(outputs, message_limits.OUTPUTS_VALUES)
    if size > message_limits.OUTPUTS_BYTES + message_limits.BESIDE_OUTPUTS_BYTES:
        wrong = f"is larger than {message_limits.OUTPUTS_BYTES:,} bytes"
    if wrong is None:
        return body
    said = f"the output object {wrong}, and was left out"
    reason = message_limits.shorten(body.get("reason") or "", message_limits.REASON - len(said) - 2)
    return {**body, "outputs": None, "reason": f"{reason}; {said}" if reason else said}


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**31


def _identifier(envelope: Mapping[str, Any], key: str) -> str:
    value = envelope.get(key)
    if not isinstance(value, str) or not 1 <= len(value) <= message_limits.ID:
        raise Malformed(f"{key}: expected a string of 1 to {message_limits.ID} characters")
    if not plain_text.is_one_line(value):
        raise Malformed(f"{key}: {NOT_ONE_LINE}")
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
    """The value for an error, cut before it is written: it may be a whole message."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    from lando.credentials import scrub  # noqa: PLC0415 - for a wrong message only

    # Scrubbed before it is cut: the beginning of an address does not show that it holds a password.
    text = repr(scrub(value[:2000])[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


_STRING = re.compile(rb'"[^"]*"?')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATE_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=WrittenFloat)
