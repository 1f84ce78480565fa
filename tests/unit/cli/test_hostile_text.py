"""What others write is shown, and does nothing: on a terminal, in a pipe and in JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.messages import Message
from lando.store.store import Store
from tests.conftest import Commands
from tests.support.engine_rules import Rules

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
HOSTILE = "x[red]z[/red]\x1b[2J\x1b]0;t\a\rjob deadbeef is done\n\u202ey\x9b1m\x85\u2028\u200b"
ODD_LOCATIONS = ("file://[x", f"file:///{'long' * 2000}", "file:///dev/null/x", "file:///%00")
CONTROLS = "\x1b\a\r\u202e\x9b\x85\u2028\u200b"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A job all of whose texts are hostile, as an older version may have stored them."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    store = Store(f"sqlite:///{directory / 'lando.db'}")
    rules = Rules(store.transaction)
    rules.now = time.time()
    rules.run(JOB, name=HOSTILE, labels={HOSTILE: HOSTILE})
    rules.report("worker_progress", JOB, 2, step=1, steps=2, step_name=HOSTILE, phase="running")
    with store.transaction() as transaction:
        job = transaction.job(JOB)
        assert job is not None
        rules.engine.take_reports(transaction, [_report(job, HOSTILE)], rules.now)
    store.close()
    yield directory


def _report(job: Any, text: str) -> Message:
    outputs = {text: text, "many": [text], "file": {"class": "File", "location": f"http://x/{text}"}}
    outputs |= {str(number): {"class": "File", "location": odd} for number, odd in enumerate(ODD_LOCATIONS)}
    body = {
        "outcome": "workflow_failed",
        "exit_code": 1,
        "outputs": outputs,
        "log_tail": text,
        "reason": text,
        "log": text,
        "git_commit": text,
        "version": text,
    }
    token = job.requests[-1].token
    return Message("workflow_finished", body, job.id, job.attempt, token, 3, sent_at=1.0)


@pytest.mark.parametrize(
    "arguments",
    [["status"], *([name, JOB] for name in ("status", "history", "logs", "outputs", "cancel", "retry"))],
    ids=lambda arguments: " ".join(arguments).removesuffix(JOB),
)
def test_nothing_reaches_the_terminal(command: Commands, state: Path, arguments: list[str]) -> None:
    said = command(*arguments)
    assert not set(said.out + said.err) & set(CONTROLS)
    for line in (said.out + said.err).splitlines():
        assert not line.startswith("job deadbeef") or arguments[0] == "logs", line
    if arguments[0] not in ("cancel", "retry"):
        assert "[red]z[/red]" in said.out, "and no markup is read in it"


@pytest.mark.parametrize("arguments", [["status"], ["history", JOB], ["outputs", JOB]])
def test_json_has_everything_as_escapes(command: Commands, state: Path, arguments: list[str]) -> None:
    said = command(*arguments, "--json")
    assert HOSTILE in _texts(json.loads(said.out))
    assert not set(said.out) & set(CONTROLS)


def test_locations_that_are_no_address_or_out_of_reach(command: Commands, state: Path) -> None:
    said = command("outputs", JOB)
    assert said.code == 0
    assert "4 output files not on this machine" in said.err, "of HOSTILE it is an address of the network"
    for location in ODD_LOCATIONS:
        assert f"    {location}: " in said.err


def _texts(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(_texts(key) + _texts(inner) for key, inner in value.items())
    return "".join(map(_texts, value)) if isinstance(value, list) else str(value)
