"""Messages that start a job: checked before their transaction, and stored within bounds."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lando.app.server_request import ServerRequests
from lando.config import site_config
from lando.engine.engine import Engine
from lando.engine.submission import KEPT_CHARACTERS, Submission
from lando.messages import Message
from tests.support.engine_rules import PACE, POLICY

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
BODY = {"git_clone": "https://example.org/a.git", "cd": ".", "input": {}, "run_cwl": "a.cwl"}


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    config = site_config.embedded(tmp_path)
    return Engine(POLICY, PACE, ServerRequests(config).accept, lambda: "secret")


def examined(engine: Engine, **changes: Any) -> Submission:
    found = engine.examine(Message("start_worker", {**BODY, **changes}, JOB))
    assert isinstance(found, Submission)
    return found


def test_a_job_that_can_run(engine: Engine) -> None:
    found = examined(engine, name="n")
    assert found.spec is not None and found.spec.name == "n"
    assert (found.problem, found.body) == ("", {**BODY, "name": "n"})
    assert engine.examine(found) is found
    other = Message("cancel_job", {}, JOB)
    assert engine.examine(other) is other


def test_yaml_text_is_never_parsed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lando.config.yaml_document.parse", None)
    found = examined(engine, input="a: 1")
    assert (found.spec, found.problem) == (
        None,
        "start_worker message: input: expected an object, found text",
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({f"key{i}": 1 for i in range(15_000)}, "14,990 more unknown keys"),
        ({"gitclone": "x"}, "gitclone: unknown key; known here:"),
        ({"git_clone": "x" * 500_000}, "git_clone: must be at most 4,000 characters"),
        ({"git_clone": "\x01" * 100_000}, "git_clone: must be at most 4,000 characters"),
        ({"cd": "../" * 300_000}, "cd: must be at most 2,000 characters"),
        ({"git_ref": "x" * 500_000}, "git_ref: must be at most 255 characters"),
        ({"flavor": "x" * 500_000}, "flavor: must be at most 255 characters"),
        ({"name": "x" * 201}, "name: must be at most 200 characters"),
        ({"cwl_args": ["x"] * 501}, "cwl_args: must be at most 500 texts"),
        ({"cwl_args": ["x" * 20_001]}, "cwl_args: must be at most 20,000 characters in all"),
        ({"labels": {str(i): "x" for i in range(101)}}, "labels: must be at most 100 keys"),
        ({"labels": {"x" * 201: "x"}}, "a key must be at most 200 characters"),
        ({"labels": {"x": "x" * 1001}}, "labels.x: must be at most 1,000 characters"),
        ({"input": {"a": [[]] * 20_000}}, "input: has more than 20,000 values"),
        ({"input": json.loads("[" * 500 + "]" * 500)}, "input: is nested more than 100 levels deep"),
        (
            {"input": {"a": "x" * 1_000_000}},
            "input: 1,000,009 bytes of JSON make a start-up script of at least",
        ),
        ({"run_timeout": "1d" * 100_000}, "run_timeout: expected seconds"),
        ({"priority": 10**300}, "priority: must be 1000000 or less"),
    ],
)
def test_the_worst_is_refused_soon_in_few_words_and_stored_in_few_bytes(
    engine: Engine, changes: dict[str, Any], words: str
) -> None:
    started = time.process_time()
    found = examined(engine, **changes)
    assert time.process_time() - started < 0.1
    assert found.spec is None
    assert words in found.problem and len(found.problem) <= 2000
    assert len(json.dumps(found.body)) <= KEPT_CHARACTERS
