"""The help that teaches, completion, and wrong usage."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from lando.cli.client import lando_client
from lando.cli.main import COMMANDS, lando_fsm
from tests.conftest import Commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_teaches(command: Commands, name: str) -> None:
    said = command(name, "--help")
    assert said.code == 0
    assert said.err == ""
    assert f"Usage: lando-fsm {name}" in said.out
    found = lando_fsm.get_command(click.Context(lando_fsm), name)
    assert found is not None
    assert found.help is not None
    assert len(found.help) > 60, "a sentence at least"
    options = [param for param in found.params if isinstance(param, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_lists_every_command_with_a_word_about_it(command: Commands) -> None:
    said = command("--help")
    assert said.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in said.out.splitlines() if line.startswith("  ")}
    assert {name: len(lines[name]) >= 3 for name in COMMANDS} == dict.fromkeys(COMMANDS, True)
    assert "lando-fsm run JOB.yml" in said.out


@pytest.mark.parametrize("name", ["start_worker", "terminate_worker", "shutdown_server"])
def test_the_client_teaches_too(name: str) -> None:
    found = lando_client.commands[name]
    assert found.help
    assert all(param.help for param in found.params if isinstance(param, click.Option))


def test_version(command: Commands) -> None:
    said = command("--version")
    assert said.code == 0
    assert said.out.startswith("lando-fsm, version ")


def test_a_mistyped_command_is_corrected(command: Commands) -> None:
    said = command("statsu")
    assert (said.code, said.out) == (2, "")
    assert "no such command 'statsu'; did you mean 'status'?" in said.err


def test_a_mistyped_option_is_wrong_usage(command: Commands) -> None:
    said = command("status", "--jsno")
    assert said.code == 2
    assert "--json" in said.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(command: Commands, shell: str) -> None:
    said = command("completion", shell)
    assert said.code == 0
    assert "_LANDO_FSM_COMPLETE" in said.out


def test_completion_knows_commands_and_jobs(command: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = "0b6f9b2a-5c1d-4e5e-9a37-0f2d3c4b5a69"
    job = Path("job.yml")
    job.write_text("git_clone: wf\ncd: .\ninput: {}\nrun_cwl: tool.cwl\n")
    assert json.loads(command("submit", job, "--id", job_id, "--json").out) == {"id": job_id}
    monkeypatch.setenv("_LANDO_FSM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "lando-fsm history 0b")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert job_id in command().out
    monkeypatch.setenv("COMP_WORDS", "lando-fsm hi")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert "history" in command().out
