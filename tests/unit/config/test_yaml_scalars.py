"""Numbers keep their digits from the job file to the CWL runner, which passes them on as they are written."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from cwltool.builder import Builder
from hypothesis import example, given
from hypothesis import strategies as st
from schema_salad.utils import yaml_no_ts

from lando.config import job_file, yaml_document, yaml_scalars
from lando.errors import UsageError
from lando.messages import Message, decode
from lando.yaml_json import WrittenFloat, read_json, write_json, yaml_safe_json

JOB = "7b1ce1a6-9c1c-4c02-9f4e-f0a3c83f2a40"
BODY = {"git_clone": "/r", "cd": ".", "run_cwl": "w.cwl"}
BUGS = (ValueError, IndexError, InvalidOperation)
"""ruamel.yaml cannot write -0e0, and cwltool no number beyond all floats."""


def carried(text: str) -> str:
    """The CWL parameter file of a job whose input is this YAML, after all that a job goes through."""
    document = yaml_document.parse(text, "input")
    document.check()
    return sent(document.value)


def sent(value: Any) -> str:
    """The same of an input object."""
    message = Message("start_worker", job=JOB, body={**BODY, "input": value})
    spec = job_file.from_body(decode(message.encode(), "client").body)
    stored = job_file.from_body(read_json(write_json(spec.as_body())))
    return yaml_safe_json(stored.input)


def read_by_cwltool(text: str) -> Any:
    return yaml_no_ts().load(text)["a"]


def passed_on(value: Any) -> str:
    """The argument that cwltool makes of an input."""
    return Builder.tostr(None, value)  # type: ignore[arg-type]  # it is a function of its argument


@pytest.mark.parametrize(
    ("written", "argument"),
    [
        *[("0.05", "0.05"), ("1.50", "1.50"), ("0.10", "0.10"), ("2.0", "2.0"), ("-0.0", "-0.0")],
        *[("1e-5", "0.00001"), ("1E-5", "0.00001"), ("1e3", "1000"), ("1.50e3", "1500"), ("1e+03", "1000")],
        *[("123456789012.5", "123456789012.5"), ("9007199254740993", "9007199254740993")],
        *[(".5", "0.5"), ("5.", "5"), ("+1.50", "1.50"), ("-.50", "-0.50"), ("01.50", "1.50")],
        *[("1_000.50", "1000.50"), ("1_000", "1000"), (".5e-3", "0.00050"), ("-0.", "-0")],
        *[("0x1F", "31"), ("0o17", "15"), ("017", "17"), ("0b101", "5"), ("-_1", "-1"), ("+7", "7")],
        *[(".5e3", ".5e3"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("on", "on"), ("True", "True")],
        *[("!!float 1", "1"), ("!!float '1.50'", "1.50")],
    ],
)
def test_a_value_is_passed_on_as_cwltool_does(written: str, argument: str) -> None:
    text = f"a: {written}"
    assert passed_on(read_by_cwltool(text)) == argument, "without lando"
    assert passed_on(read_by_cwltool(carried(text))) == argument


NOTATIONS = st.one_of(
    st.from_regex(re.compile(rf"(?:{pattern})\Z", re.ASCII), fullmatch=True)
    for pattern, _ in yaml_scalars.PATTERNS.values()
) | st.text("0123456789abexo_+-.~yn", min_size=1, max_size=8).filter(lambda text: text != "-")


@given(NOTATIONS)
@example("-0e0")
@example("0x_")
@example("1e400")
def test_any_notation_is_the_same_value(written: str) -> None:
    text = f"a: {written}"
    try:
        expected = read_by_cwltool(text)
        argument = passed_on(expected)
    except BUGS:
        expected = argument = None
    try:
        value = read_by_cwltool(carried(text))
    except UsageError as refused:
        assert re.search("infinite or not|out of range|number that can be read", str(refused))
        assert argument is None or "inf" in argument or "nan" in argument
        return
    if argument is None:
        return
    assert value == expected
    assert isinstance(value, str) == isinstance(expected, str)
    if isinstance(value, float):
        # Of more digits than a float has, and of zeros before the others, ruamel.yaml makes some up.
        digits = re.sub("[^0-9]", "", re.split("[eE]", written)[0])
        if len(digits) > 15 or digits.startswith("0"):
            return
        rel = Decimal("1e-6" if re.search("[eE]", written) else "1e-15")  # it rounds what it writes with E
        assert Decimal(passed_on(value)) == pytest.approx(Decimal(argument), rel=rel, abs=0)
    else:
        assert passed_on(value) == argument


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_of_json_is_carried_to_the_digit(number: str) -> None:
    try:
        text = sent(read_json(f'{{"a": {number}}}'))
    except ValueError:
        assert abs(float(number)) == float("inf")
    else:
        assert text == f'{{"a": {number if re.search("[.eE]", number) else int(number)}}}'


def test_other_readers_of_the_message_see_the_same_number() -> None:
    body = {**BODY, "input": {"a": WrittenFloat("1.50"), "b": [WrittenFloat("1e-5")]}}
    sent = Message("start_worker", job=JOB, body=body).encode()
    assert b'"a": 1.50' in sent
    assert json.loads(sent)["body"]["input"] == {"a": 1.5, "b": [0.00001]}


def test_yaml_1_1_is_refused() -> None:
    with pytest.raises(UsageError, match=r"x:1: declares YAML 1\.1, but is read as 1\.2; remove the line"):
        yaml_document.parse("%YAML 1.1\n---\na: yes\n", "x")
    assert yaml_document.parse("%YAML 1.2\n---\na: yes\n", "x").value == {"a": "yes"}
