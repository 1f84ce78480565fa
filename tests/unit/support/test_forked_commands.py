"""A forked command is a process of its own, as one that is started afresh; only its imports are done."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.forked_commands import Command, start_command
from tests.support.local_site import BIN, wait_for

PROGRAM = str(BIN / "lando-fsm")
PATIENCE = 60.0


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LANDO_")}
    return {**inherited, "LANDO_STATE_DIR": str(tmp_path / "state")}


def test_it_has_its_own_arguments_environment_directory_output_and_exit_code(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "landoconfig.yml").write_text("max_workers: none\n")
    wrong = Command([PROGRAM, "status"], environment, tmp_path)
    out, err = wrong.communicate(timeout=PATIENCE)
    assert (wrong.returncode, out) == (2, "")
    assert err.startswith("lando-fsm: landoconfig.yml:1: max_workers: "), "of its directory"

    (tmp_path / "landoconfig.yml").unlink()
    right = Command([PROGRAM, "status", "--json"], environment, tmp_path)
    assert right.communicate(timeout=PATIENCE) == ("[]\n", "")
    assert right.returncode == 0
    assert wrong.pid != right.pid != os.getpid()


def test_it_is_interrupted_and_killed_as_any_process(environment: dict[str, str], tmp_path: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        watching = Command([PROGRAM, "status", "--watch"], environment, tmp_path)
        assert watching.stdout is not None
        assert watching.stdout.readline() == "no jobs\n"
        assert watching.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            watching.wait(timeout=0.05)
        watching.send_signal(number)
        assert watching.wait(timeout=PATIENCE) == code
        watching.send_signal(number)  # nobody is hit


def test_it_dies_at_the_failpoint_that_its_environment_names(
    environment: dict[str, str], tmp_path: Path
) -> None:
    daemon = Command([PROGRAM, "daemon"], {**environment, "LANDO_CRASH_AT": "before-work-commit:2"}, tmp_path)
    assert daemon.wait(timeout=PATIENCE) == -signal.SIGKILL


def test_its_end_is_reported_while_others_run(environment: dict[str, str], tmp_path: Path) -> None:
    others = [Command([PROGRAM, "status", "--watch"], environment, tmp_path) for _ in range(3)]
    assert Command([PROGRAM, "--help"], environment, tmp_path).wait(timeout=PATIENCE) == 0
    assert [other.poll() for other in others] == [None] * 3
    for other in others:
        other.kill()
    wait_for(lambda: all(other.poll() == -signal.SIGKILL for other in others), "their ends")


def test_a_fresh_one_is_a_new_interpreter(environment: dict[str, str], tmp_path: Path) -> None:
    for fresh in (False, True):
        watching = start_command([PROGRAM, "status", "--watch"], environment, tmp_path, fresh=fresh)
        assert watching.stdout is not None
        watching.stdout.readline()
        shown = Path(f"/proc/{watching.pid}/cmdline").read_text()
        assert ("lando-fsm" in shown) is fresh
        watching.kill()
        watching.communicate(timeout=PATIENCE)
