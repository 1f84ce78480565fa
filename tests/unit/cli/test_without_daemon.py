"""What the commands do where no daemon runs: nothing is lost, and everything is said."""

from __future__ import annotations

import json
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest

from lando.cli.text import one_line
from tests.conftest import Commands, Said

A = "aaaaaaaa-5c1d-4e5e-9a37-0f2d3c4b5a69"
AB = "aaaabbbb-5c1d-4e5e-9a37-0f2d3c4b5a69"
NO_DAEMON = "no daemon is running"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    path = tmp_path / "job.yml"
    path.write_text("git_clone: wf\ncd: .\ninput: {}\nrun_cwl: tool.cwl\nlabels: {project: mouse}\n")
    return path


def status(command: Commands, *arguments: str) -> list[dict[str, Any]]:
    said = command("status", "--json", *arguments)
    assert said.code == 0
    found: list[dict[str, Any]] = json.loads(said.out)
    return found


# the state directory is not there yet


def test_status_where_nothing_is_yet(command: Commands, tmp_path: Path) -> None:
    assert command("status", "--json") == Said(0, "[]\n", "")
    said = command("status")
    assert (said.code, said.out) == (0, "")
    assert NO_DAEMON in said.err
    assert not (tmp_path / "state").exists(), "looking makes nothing"


@pytest.mark.parametrize("name", ["status", "history", "logs", "outputs", "cancel", "retry"])
def test_a_job_that_is_not_there(command: Commands, name: str) -> None:
    said = command(name, "abc")
    assert (said.code, said.out) == (2, "")
    assert "no job 'abc'; `lando-fsm status` lists them all" in said.err


@pytest.mark.parametrize("is_made", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [
        *(["status"], ["submit", "job.yml"], ["run", "job.yml"], ["daemon"], ["check"], ["servers"]),
        *(["dead-letters"], ["history", "abc"], ["logs", "abc"], ["outputs", "abc"], ["cancel", "abc"]),
        *(["retry", "abc"], ["diagram", "--job", "abc"]),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("job")
def test_a_state_directory_of_others_is_refused(
    command: Commands, tmp_path: Path, arguments: list[str], is_made: bool
) -> None:
    state = tmp_path / "state"
    if is_made:
        state.mkdir()
        state.chmod(0o777)
    else:
        tmp_path.chmod(0o777)
    said = command(*arguments)
    assert (said.code, said.out) == (2, "")
    assert f"{state}: others may " in said.err
    assert f"chmod go-w {state if is_made else tmp_path}" in said.err
    assert "name another one by LANDO_STATE_DIR" in said.err
    assert not is_made or list(state.iterdir()) == []


def test_check_where_nothing_is_yet(command: Commands, tmp_path: Path) -> None:
    said = command("check")
    assert said.code == 0
    verdicts = {line[:16].strip(): line[17:].split()[0] for line in said.out.splitlines()}
    assert verdicts.keys() >= {"state directory", "queue", "cloud", "worker", "git", "containers"}
    assert verdicts["configuration"] == verdicts["database"] == "ok"
    assert verdicts["daemon"] == "warning"
    assert not (tmp_path / "state").exists(), "check creates nothing"


def test_check_tells_what_is_wrong(command: Commands, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lando.db").write_text("this is no database, but long enough" * 20)
    said = command("check")
    assert said.code == 1
    assert "wrong" in next(line for line in said.out.splitlines() if line.startswith("database"))
    assert "not a database" in said.out


# submit


def test_submit_prints_the_id_alone(command: Commands, job: Path) -> None:
    said = command("submit", job)
    assert said.code == 0
    assert str(uuid.UUID(said.out.strip())) + "\n" == said.out
    assert NO_DAEMON in said.err


def test_a_submitted_job_is_visible_at_once(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    (shown,) = status(command)
    assert shown["id"] == A
    assert (shown["state"], shown["name"], shown["labels"]) == ("queued", "wf/tool", {"project": "mouse"})
    assert "not taken yet (no daemon is running)" in shown["reason"]
    unknown = ("outcome", "step", "steps", "deadline_at", "git_commit", "exit_code")
    assert {key: shown[key] for key in unknown} == dict.fromkeys(unknown)
    assert shown["vm"] == {"name": None, "id": None, "ip": None}
    assert shown["submitted_at"].endswith("Z")
    table = command("status")
    assert A[:8] in table.out
    assert "queued" in table.out
    detail = command("status", A[:4])
    assert A in detail.out
    assert "not taken yet" in detail.out


def test_status_of_some_states(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    assert [shown["id"] for shown in status(command, "--state", "queued", "--state", "done")] == [A]
    assert status(command, "--state", "done") == []
    said = command("status", "--state", "finished")
    assert said.code == 2
    assert "terminating" in said.err, "the states are named"


def test_the_same_id_twice_changes_nothing(command: Commands, job: Path) -> None:
    first = command("submit", job, "--id", A)
    again = command("submit", job, "--id", A.upper())
    assert (first.code, first.out) == (again.code, again.out) == (0, f"{A}\n")
    assert [shown["id"] for shown in status(command)] == [A]


def test_an_id_must_be_a_uuid(command: Commands, job: Path, tmp_path: Path) -> None:
    said = command("submit", job, "--id", "mine")
    assert (said.code, said.out) == (2, "")
    assert "--id 'mine' is not a UUID" in said.err
    assert "uuidgen" in said.err
    assert not (tmp_path / "state").exists()


def test_what_the_state_directory_holds_is_private(command: Commands, job: Path, tmp_path: Path) -> None:
    command("submit", job)
    command("status")
    state = tmp_path / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()}
    assert "lando.db" in modes
    assert set(modes.values()) == {0o600}, modes


# prefixes


def test_a_prefix_names_a_job_or_is_refused(command: Commands, job: Path) -> None:
    for job_id in (A, AB):
        command("submit", job, "--id", job_id)
    assert [shown["id"] for shown in status(command, "aaaab")] == [AB]
    said = command("history", "aaaa")
    assert (said.code, said.out) == (2, "")
    assert f"job 'aaaa' is ambiguous: {A}, {AB}; give more of its id" in said.err
    assert command("status", "").code == 2, "nothing is no prefix"
    assert command("status", "%").code == 2, "nor is a pattern"


def test_upper_case_names_the_same_job(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    assert [shown["id"] for shown in status(command, A[:8].upper())] == [A]


# commands about a job that no daemon has taken


def test_history_logs_and_outputs_of_what_was_not_taken(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    assert command("history", A, "--json").out == "[]\n"
    assert "not taken yet" in command("history", A).err
    assert command("logs", A) == Said(0, "", "nothing was logged so far\n")
    said = command("outputs", A)
    assert (said.code, said.out) == (1, "")
    assert f"job {A} has no outputs: it is queued" in said.err


def test_cancel_without_a_daemon_waits_for_one(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    said = command("cancel", A)
    assert said.code == 0
    assert f"{A} will be canceled" in said.err
    assert NO_DAEMON in said.err


def test_only_a_failed_job_can_be_retried(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    said = command("retry", A)
    assert said.code == 1
    assert f"{A} is queued: only a failed job can be retried" in said.err


def test_one_wrong_id_among_several_cancels_nothing(command: Commands, job: Path) -> None:
    command("submit", job, "--id", A)
    said = command("cancel", A, "ffff")
    assert said.code == 2
    assert "will be canceled" not in said.err


# text


def test_one_line_of_several() -> None:
    assert [one_line(text) for text in ("", "a\n", "a\nb")] == ["", "a", "a …"]
