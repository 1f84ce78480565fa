"""The wire format: which messages are valid, which are not, and that arbitrary bytes are only refused."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lando import messages
from lando.messages import Malformed, Message, decode

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
START = {
    "id": "m1",
    "type": "start_worker",
    "version": 1,
    "sent_at": 1.5,
    "job": JOB,
    "attempt": None,
    "token": None,
    "body": {"cd": "."},
}
FINISHED = {
    **START,
    "type": "workflow_finished",
    "attempt": 1,
    "token": "t0ken",
    "seq": 3,
    "body": {"outcome": "succeeded", "exit_code": 0, "outputs": {"a": 1}, "log_tail": "ok"},
}
PROGRESS = {**FINISHED, "type": "worker_progress", "body": {"phase": "running", "step": 1, "steps": 4}}


def encoded(message: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**message, **changes}).encode()


def without(message: dict[str, Any], key: str) -> bytes:
    return json.dumps({name: value for name, value in message.items() if name != key}).encode()


def refusal(raw: bytes, origin: messages.Origin | None = None) -> str:
    with pytest.raises(Malformed) as caught:
        decode(raw, origin)
    return str(caught.value)


@pytest.mark.parametrize("kind", [*messages.CLIENT_TYPES, *messages.WORKER_TYPES])
def test_an_encoded_message_is_decoded_unchanged(kind: str) -> None:
    worker = kind in messages.WORKER_TYPES
    about_a_job = worker or kind in messages.ABOUT_A_JOB
    bodies: dict[str, dict[str, Any]] = {
        "start_worker": {"cd": ".", "no such key": "🧬"},
        "terminate_worker": {"vm_name": "vm 🧬"},
        "worker_started": {"phase": "cloning", "version": "0.2.0", "abilities": ["run_timeout"]},
        "worker_progress": {"step": 1, "steps": 2, "step_name": "🧬", "git_commit": "a" * 40, "log": "x"},
        "workflow_finished": {"outcome": "succeeded", "outputs": {"a": [1]}, "log_tail": "", "reason": ""},
    }
    body = bodies.get(kind, {})
    sent = Message(
        type=kind,
        body=body,
        job=JOB if about_a_job else None,
        attempt=2 if worker else None,
        token="t" if worker else None,
        seq=1 if worker else None,
    )
    assert decode(sent.encode()) == sent
    assert decode(sent.encode(), sent.origin) == sent
    assert sent.origin == ("worker" if worker else "client")


def test_ids_are_never_the_same() -> None:
    assert Message("shutdown_server").id != Message("shutdown_server").id


@pytest.mark.parametrize(
    "raw, words",
    [
        (b"", "not JSON"),
        (b"start_worker", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"\x80\x04K\x01.", "not JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"null", "expected a JSON object, found NoneType"),
        (b"{" * 100_000, "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (encoded(START)[:-1], "not JSON"),
        (encoded(START, body={"x": float("nan")}), "NaN is not JSON"),
        (encoded(START, body={"x": float("inf")}), "Infinity is not JSON"),
        (encoded(START, body={"x": "a\0b"}), "contains a NUL character"),
        (encoded(START, body={"a\0b": "x"}), "contains a NUL character"),
        (b" " * (messages.REPORT_BYTES + 1), "a message has at most"),
    ],
)
def test_bytes_that_are_not_a_message(raw: bytes, words: str) -> None:
    assert words in refusal(raw)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"version": 2}, "version 2; this daemon understands version 1"),
        ({"version": True}, "version True"),
        ({"version": "1"}, "version '1'"),
        ({"type": "start_wrker"}, "unknown type 'start_wrker'"),
        ({"type": ["start_worker"]}, "unknown type"),
        ({"type": "x" * 10_000}, "unknown type"),
        ({"id": ""}, "id: expected a string of 1 to 100 characters"),
        ({"id": "x" * 101}, "id: expected"),
        ({"id": 5}, "id: expected"),
        ({"sent_at": "now"}, "sent_at: expected a number"),
        ({"sent_at": True}, "sent_at: expected a number"),
        ({"body": []}, "body: expected an object"),
        ({"body": None}, "body: expected an object"),
        ({"job": None}, "job: expected a UUID"),
        ({"job": "../../etc/passwd"}, "job: expected a UUID"),
        ({"job": JOB.upper()}, "job: expected a UUID in lower case with hyphens"),
        ({"job": JOB.replace("-", "")}, "job: expected a UUID in lower case with hyphens"),
        ({"attempt": 1}, "attempt: only messages of workers have it"),
        ({"token": "t"}, "token: only messages of workers have it"),
        ({"seq": 1}, "seq: only messages of workers have it"),
        ({"reply_to": "x"}, "unknown key 'reply_to'"),
        ({"type": "shutdown_server"}, "job: shutdown_server has none"),
        ({"type": "terminate_worker", "job": None}, "body.vm_name: expected a string"),
        (
            {"type": "terminate_worker", "job": None, "body": {"vm_name": 5}},
            "body.vm_name: expected a string",
        ),
    ],
)
def test_wrong_client_message(changes: dict[str, Any], words: str) -> None:
    said = refusal(encoded(START, **changes))
    assert words in said and len(said) < 300


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"job": None}, "job: expected a UUID"),
        ({"attempt": None}, "attempt: expected an integer from 1"),
        ({"attempt": 0}, "attempt: expected an integer from 1"),
        ({"attempt": True}, "attempt: expected an integer from 1"),
        ({"attempt": 1.0}, "attempt: expected an integer from 1"),
        ({"attempt": 2**31}, "attempt: expected an integer from 1"),
        ({"token": None}, "token: expected an ASCII string"),
        ({"token": ""}, "token: expected an ASCII string"),
        ({"token": "tökén"}, "token: expected an ASCII string"),
        ({"seq": None}, "seq: expected an integer from 1"),
        ({"seq": 0}, "seq: expected an integer from 1"),
        ({"body": {}}, "body.outcome: expected one of succeeded, workflow_failed, system_failed"),
        ({"body": {"outcome": "canceled"}}, "body.outcome: expected one of"),
        ({"body": {"outcome": []}}, "body.outcome: expected one of"),
        ({"body": {"outcome": "succeeded", "exit_code": "0"}}, "body.exit_code: expected an integer"),
        ({"body": {"outcome": "succeeded", "exit_code": 2**40}}, "body.exit_code: expected an integer"),
        ({"body": {"outcome": "succeeded", "outputs": []}}, "body.outputs: expected an object"),
        ({"body": {"outcome": "succeeded", "log_tail": 5}}, "body.log_tail: expected a string"),
        ({"body": {"outcome": "succeeded", "reason": {}}}, "body.reason: expected a string"),
    ],
)
def test_wrong_worker_message(changes: dict[str, Any], words: str) -> None:
    assert words in refusal(encoded(FINISHED, **changes))


@pytest.mark.parametrize("key", ["phase", "step_name", "git_commit", "log"])
def test_texts_of_a_report_are_strings(key: str) -> None:
    assert f"body.{key}: expected a string" in refusal(encoded(PROGRESS, body={key: 1}))
    assert decode(encoded(PROGRESS, body={key: None})).body == {key: None}


@pytest.mark.parametrize("key", ["step", "steps"])
@pytest.mark.parametrize("value", ["1", -1, True, 1.5, 2**31])
def test_numbers_of_a_report_are_integers(key: str, value: object) -> None:
    assert f"body.{key}: expected an integer from 0" in refusal(encoded(PROGRESS, body={key: value}))


@pytest.mark.parametrize("key", ["id", "type", "version", "sent_at", "job", "body"])
def test_required_keys(key: str) -> None:
    assert key in refusal(without(START, key))


@pytest.mark.parametrize("key", ["id", "job", "attempt", "token", "seq", "body"])
def test_required_keys_of_a_worker(key: str) -> None:
    assert key in refusal(without(FINISHED, key))


def test_who_may_send_what() -> None:
    assert refusal(encoded(START), "worker") == "a worker may not send start_worker"
    assert refusal(encoded(FINISHED), "client") == "a client may not send workflow_finished"
    for kind in messages.CLIENT_TYPES:
        assert "may not send" in refusal(encoded(START, type=kind), "worker")


def test_numbers_that_json_cannot_say_are_not_sent() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Message("shutdown_server", {"x": float("nan")}).encode()


def test_an_escaped_backslash_is_not_a_nul() -> None:
    body = {"input": {"pattern": r"\u0000"}}
    assert decode(encoded(START, body=body)).body == body


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_beyond_all_floats(number: str) -> None:
    refusal(encoded(START).replace(b"1.5", number.encode()))


def test_infinite_number_in_the_body() -> None:
    refusal(encoded(START, body={"x": 5}).replace(b'{"x": 5}', b'{"x": 1e999}'))


FORGED = "\x1b[2Ja\n2026-11-27T00:00:00Z INFO job deadbeef\u202e\t"


def test_control_characters_in_texts_for_people_are_escaped() -> None:
    body = {"phase": FORGED, "step_name": FORGED, "log": FORGED}
    shown = decode(encoded(PROGRESS, body=body)).body
    one_line = "\\x1b[2Ja\\n2026-11-27T00:00:00Z INFO job deadbeef\\u202e\\t"
    assert shown == {"phase": one_line, "step_name": one_line, "log": FORGED}
    body = {"outcome": "workflow_failed", "reason": FORGED, "log_tail": FORGED}
    shown = decode(encoded(FINISHED, body=body)).body
    assert shown["reason"] == "\\x1b[2Ja\n2026-11-27T00:00:00Z INFO job deadbeef\\u202e\t"
    assert shown["log_tail"] == FORGED, "the output of a program is stored as it was"
    long = decode(encoded(PROGRESS, body={"step_name": "\x1b" * 100_000})).body["step_name"]
    assert len(long) <= 300


@pytest.mark.parametrize(
    "message, key, value",
    [
        (PROGRESS, "git_commit", FORGED),
        (PROGRESS, "version", "0.2\x9b"),
        (PROGRESS, "abilities", ["a", "b\n"]),
        ({**START, "type": "terminate_worker", "job": None}, "vm_name", "vm\u2066"),
    ],
)
def test_texts_for_programs_have_no_control_characters(message: dict[str, Any], key: str, value: Any) -> None:
    assert refusal(encoded(message, body={key: value})) == (
        f"body.{key}: expected one line without control characters"
    )
    assert refusal(encoded(START, id="a\nb")) == "id: expected one line without control characters"


def test_lone_surrogate() -> None:
    refusal(encoded(START, body={"x": "\ud800"}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*FINISHED, "other"]), JSON, max_size=4), st.booleans())
def test_any_change_is_understood_or_refused(changes: dict[str, Any], worker: bool) -> None:
    raw = encoded(FINISHED if worker else START, **changes)
    try:
        message = decode(raw)
    except Malformed as reason:
        assert str(reason)
    else:
        assert decode(message.encode()) == message


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        decode(raw)


def test_job_is_a_uuid_of_any_version() -> None:
    for made in (uuid.uuid1(), uuid.uuid4(), uuid.UUID(int=0)):
        assert decode(encoded(START, job=str(made))).job == str(made)
