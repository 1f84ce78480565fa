"""Job files that are wrong: what is said of each, exit 2, and nothing queued."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Commands

GOOD = {
    "git_clone": "git_clone: wf",
    "cd": "cd: .",
    "input": "input: {}",
    "run_cwl": "run_cwl: tool.cwl",
}


def with_(**changes: str) -> str:
    """A job file of the four required keys, some of its lines replaced, removed (by "") or added."""
    return "\n".join(line for line in {**GOOD, **changes}.values() if line) + "\n"


FILES = {
    "empty": ("", "job.yml"),
    "only a comment": ("# nothing\n", "job.yml"),
    "a list": ("- git_clone: wf\n- cd: .\n", "list"),
    "text": ("git_clone\n", "job.yml"),
    "not YAML": ("git_clone: [wf\n", "job.yml:"),
    "a tab": (with_(cd="\tcd: ."), "job.yml:2: is not YAML: "),
    "a missing key": (with_(cd=""), "cd: missing"),
    "a key without value": (with_(cd="cd:"), "job.yml:2: cd: has no value"),
    "a misspelt key": (
        with_(cd="", dc="git_clon: x"),
        "job.yml:4: git_clon: unknown key; did you mean git_clone",
    ),
    "a key twice": (with_(more="cd: x"), "job.yml:5: cd: given twice"),
    "cd is a number": (with_(cd="cd: 5"), "job.yml:2: cd: expected text"),
    "attempts is text": (with_(more="attempts: many"), "job.yml:5: attempts: expected a whole number"),
    "attempts is 0": (with_(more="attempts: 0"), "job.yml:5: attempts: must be 1 or more"),
    "priority is true": (with_(more="priority: true"), "job.yml:5: priority: expected a whole number"),
    "run_timeout is a word": (with_(more="run_timeout: soon"), "job.yml:5: run_timeout: expected seconds"),
    "cwl_args is text": (with_(more="cwl_args: --debug"), "job.yml:5: cwl_args: expected a list"),
    "labels is a list": (with_(more="labels: [a]"), "job.yml:5: labels: expected keys and values"),
    "input is a list": (with_(input="input: [1]"), "job.yml:3: input: expected"),
    "input is not YAML": (with_(input="input: |\n  a: [1\n"), "job.yml:"),
    "input is text that is a list": (with_(input="input: '[1]'"), "job.yml:3: input: expected"),
    "cd leads out": (with_(cd="cd: ../../etc"), "job.yml:2: cd: leads out of the repository"),
    "cd hides that it leads out": (with_(cd="cd: a/../../b"), "job.yml:2: cd: leads out of the repository"),
    "cd is absolute": (with_(cd="cd: /etc"), "job.yml:2: cd: may not be absolute"),
    "run_cwl is absolute": (with_(run_cwl="run_cwl: /etc/passwd"), "job.yml:4: run_cwl: may not be absolute"),
    "run_cwl leads out": (
        with_(run_cwl="run_cwl: ../x.cwl"),
        "job.yml:4: run_cwl: leads out of the repository",
    ),
    "git runs a program": (with_(git_clone="git_clone: 'ext::sh -c id'"), "job.yml:1: git_clone: "),
    "git takes an option": (with_(git_clone="git_clone: --upload-pack=id"), "job.yml:1: git_clone: "),
    "ssh takes an option": (
        with_(git_clone="git_clone: ssh://-oProxyCommand=id/x"),
        "job.yml:1: git_clone: ",
    ),
    "git_ref is an option": (with_(more="git_ref: --exec=id"), "job.yml:5: git_ref: may not begin with -"),
    "NUL": (with_(input="input: {a: \0}"), "job.yml:3"),
    "an escaped NUL": (with_(input='input: {a: "\\0"}'), "job.yml:3"),
    "input of 1 MB": (with_(input=f"input: {{a: {'x' * 1_000_000}}}"), "input: 1,000,0"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_wrong_job_file(command: Commands, tmp_path: Path, what: str) -> None:
    text, expected = FILES[what]
    (tmp_path / "job.yml").write_text(text)
    said = command("submit", "job.yml")
    assert (said.code, said.out) == (2, ""), said.err
    assert expected in said.err
    assert said.err.startswith("lando-fsm: ")
    assert len(said.err) < 2000, "a sentence, not the file"
    assert not (tmp_path / "state").exists(), "nothing was queued"


def test_every_mistake_is_told_at_once(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(with_(cd="cd: /etc", more="attempts: 0"))
    said = command("submit", "job.yml")
    assert said.code == 2
    assert "job.yml:2: cd:" in said.err
    assert "job.yml:5: attempts:" in said.err


@pytest.mark.parametrize("name", ["submit", "run"])
def test_a_job_file_that_cannot_be_read(command: Commands, tmp_path: Path, name: str) -> None:
    said = command(name, "nowhere.yml")
    assert (said.code, said.err) == (2, "lando-fsm: nowhere.yml: no such file\n")
    said = command(name, tmp_path)
    assert said.code == 2
    assert str(tmp_path) in said.err
    (tmp_path / "latin.yml").write_bytes(b"git_clone: caf\xe9\n")
    said = command(name, "latin.yml")
    assert said.code == 2
    assert "UTF-8" in said.err


def test_a_secret_in_a_wrong_line_is_not_repeated(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "job.yml").write_text(
        with_(git_clone="git_clone: ftp://me:hunter2xyz@host/x", input="input: {password: [hunter2xyz}")
    )
    said = command("submit", "job.yml")
    assert said.code == 2
    assert "hunter2xyz" not in said.err


def test_a_wrong_configuration(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "landoconfig.yml").write_text("max_worker: 3\n")
    (tmp_path / "job.yml").write_text(with_())
    for arguments in (["submit", "job.yml"], ["status"], ["daemon"], ["run", "job.yml"], ["check"]):
        said = command(*arguments)
        assert (said.code, said.out) == (2, "")
        assert "landoconfig.yml:1: max_worker: unknown key; did you mean max_workers" in said.err


def test_a_configuration_that_is_not_there(command: Commands, tmp_path: Path) -> None:
    said = command("-c", tmp_path / "other.yml", "status")
    assert said.code == 2
    assert "other.yml: no such file" in said.err
