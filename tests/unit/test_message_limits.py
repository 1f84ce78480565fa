"""The limits of messages: what is shortened, what is refused, and that neither takes long."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest

from lando import message_limits
from lando.message_limits import FOR_PEOPLE, excess, shorten
from lando.messages import Malformed, Message, Origin, decode

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"


def report(kind: str = "worker_progress", **body: Any) -> Message:
    sent = Message(kind, body, JOB, attempt=1, token="t", seq=1)
    return decode(sent.encode(), "worker")


def refusal(raw: bytes, origin: Origin | None = None) -> str:
    with pytest.raises(Malformed) as caught:
        decode(raw, origin)
    return str(caught.value)


def test_a_shortened_text_says_so_and_keeps_both_ends() -> None:
    text = "begin " + "x" * 10_000 + " end"
    short = shorten(text, 200)
    assert len(short) == 200 and short.startswith("begin xxx") and short.endswith("xxx end")
    mark = short[short.index("…") :]
    left_out = int(mark.split("[")[1].split(" ")[0].replace(",", ""))
    assert "characters left out]" in mark
    kept = short.count("x")
    assert left_out == pytest.approx(10_000 - kept, abs=5)
    assert shorten(short, 200) == short
    assert shorten("as it is", 8) == "as it is"
    assert len(shorten("x" * 100, 5)) == 5


@pytest.mark.parametrize("key", FOR_PEOPLE)
def test_texts_for_people_are_shortened(key: str) -> None:
    more = {"outcome": "succeeded"} if key in ("reason", "log_tail") else {}
    kind = "workflow_finished" if more else "worker_progress"
    value = report(kind, **{key: "x" * 3_000_000}, **more).body[key]
    assert len(value) == FOR_PEOPLE[key] and "characters left out]" in value
    exact = "y" * FOR_PEOPLE[key]
    assert report(kind, **{key: exact}, **more).body[key] == exact


@pytest.mark.parametrize(
    "body, words",
    [
        ({"git_commit": "a" * 101}, "body.git_commit: 101 characters; it has at most 100"),
        ({"version": "1" * 41}, "body.version: 41 characters; it has at most 40"),
        ({"version": 1}, "body.version: expected a string"),
        ({"abilities": ["a"] * 51}, "body.abilities: expected a list of at most 50 strings"),
        ({"abilities": ["a" * 41]}, "body.abilities: expected strings of at most 40 characters"),
        ({"abilities": "run_timeout"}, "body.abilities: expected a list"),
        ({"abilities": [1]}, "body.abilities: expected strings"),
        ({"step": 2**31}, "body.step: expected an integer"),
    ],
)
def test_what_is_not_for_people_is_refused(body: dict[str, Any], words: str) -> None:
    sent = Message("worker_started", body, JOB, attempt=1, token="t", seq=1)
    assert words in refusal(sent.encode())


def test_the_envelope_is_bounded() -> None:
    assert "token: expected" in refusal(Message("worker_started", {}, JOB, 1, "t" * 201, 1).encode())
    long_name = Message("terminate_worker", {"vm_name": "v" * 256})
    assert "body.vm_name: 256 characters" in refusal(long_name.encode())
    for wrong in ({"version": {"a": 1}}, {"type": ["x"] * 1000}, {"type": "x" * 100_000}, {"k" * 100_000: 1}):
        raw = json.dumps({**json.loads(Message("shutdown_server").encode()), **wrong}).encode()
        assert len(refusal(raw)) < 200


def test_what_a_type_does_not_have_is_left_out() -> None:
    assert report("worker_started", phase="cloning", outcome="succeeded", more=[1]).body == {
        "phase": "cloning"
    }
    assert decode(Message("cancel_job", {"why": "x" * 1000}, JOB).encode()).body == {}


@pytest.mark.parametrize(
    "outputs, words",
    [
        ({"a": [1] * 100_001}, "has more than 100,000 values"),
        ({"a": json.loads("[" * 150 + "]" * 150)}, "is nested more than 100 levels deep"),
        ({"a": 10**400}, "has a number that is out of range"),
        ({"a": "x" * 3_500_000}, "is larger than 3,145,728 bytes"),
    ],
)
def test_an_output_object_that_is_too_large_is_left_out_and_the_end_is_reported(
    outputs: dict[str, Any], words: str
) -> None:
    body = report("workflow_finished", outcome="succeeded", outputs=outputs, reason="r" * 5000).body
    assert (body["outcome"], body["outputs"]) == ("succeeded", None)
    assert len(body["reason"]) <= 2000
    assert body["reason"].endswith(f"; the output object {words}, and was left out")
    alone = report("workflow_finished", outcome="succeeded", outputs=outputs).body["reason"]
    assert alone == f"the output object {words}, and was left out"


def test_the_largest_output_object_is_taken() -> None:
    files = [{"class": "File", "location": f"file:///{i}", "size": i} for i in range(24_000)]
    assert report("workflow_finished", outcome="succeeded", outputs={"a": files}).body["outputs"] == {
        "a": files
    }


def test_messages_have_a_size() -> None:
    large = Message("start_worker", {"input": {"a": "x" * message_limits.COMMAND_BYTES}}, JOB).encode()
    assert "a message has at most 1048576" in refusal(large, "client")
    assert "a message has at most 1048576" in refusal(large), "also where the queue does not know the origin"
    assert "a message has at most 4194304" in refusal(b"x" * 4194305, "worker")


def test_separators_in_texts_are_no_values() -> None:
    text = ',[{"\\,' * 100_000
    body = {"input": {"a": text}}
    assert decode(Message("start_worker", body, JOB).encode(), "client").body == body
    for value in ([1] * 50_000, [[]] * 50_000, {str(i): "" for i in range(50_000)}):
        many = Message("start_worker", {"input": {"a": value}}, JOB)
        assert refusal(many.encode(), "client") == "a message has at most 50,000 values"


@pytest.mark.parametrize(
    "value, expected",
    [
        ([0] * 99, None),
        ([0] * 100, "has more than 100 values"),
        ({"a": [{}] * 98}, None),
        ({"a": [{}] * 99}, "has more than 100 values"),
        (json.loads("[" * 10 + "1" + "]" * 10), None),
        (json.loads("[" * 11 + "]" * 11), "is nested more than 10 levels deep"),
        (float("inf"), message_limits.OUT_OF_RANGE),
        ([1, [float("nan")]], message_limits.OUT_OF_RANGE),
        (json.loads("[" * 10 + "1e999" + "]" * 10), message_limits.OUT_OF_RANGE),
        (-(2**1024), message_limits.OUT_OF_RANGE),
        (2**1024 - 1, None),
    ],
)
def test_excess(value: object, expected: str | None) -> None:
    assert excess(value, 100, 10) == expected


WORST = {
    "lists": "[],",
    "nested lists": "[" * 50 + "]" * 50 + ",",
    "objects": "{},",
    "floats": "1e1,",
    "integers": "1,",
    "large integers": "9" * 4300 + ",",
    "texts": '"",',
    "escapes": r'"\u0001",',
    "backslashes": '"' + "\\\\" * 5000 + '",',
    "quotes": '"' + '\\"' * 5000 + '",',
    "surrogates": '"' + r"\ud83e\uddec" * 5000 + '",',
}


@pytest.mark.parametrize("name", WORST)
def test_the_worst_message_is_read_within_a_tenth_of_a_second(name: str) -> None:
    unit = WORST[name]
    envelope = Message("start_worker", {"input": {"a": "HERE"}}, JOB).encode().decode()
    space = message_limits.COMMAND_BYTES - len(envelope) - 10
    raw = envelope.replace('"HERE"', f"[{unit * (space // len(unit))}1]").encode()
    started = time.process_time()
    with contextlib.suppress(Malformed):
        decode(raw, "client")
    assert time.process_time() - started < 0.1
