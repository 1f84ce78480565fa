"""The units of ``deploy/systemd``, as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
INSTALLED = "/opt/lando-fsm"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").glob("lando-fsm*.*"))

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


def verify(unit: Path) -> str:
    """What systemd has to say about a unit; nothing, if all of it is understood."""
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return f"{ended.stdout}{ended.stderr}" or ("" if ended.returncode == 0 else f"exit {ended.returncode}")


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A directory with the units, of an installation that exists."""
    installed = tmp_path / "opt"
    for program in (".venv/bin/lando-fsm",):
        (installed / program).parent.mkdir(parents=True, exist_ok=True)
        (installed / program).write_text("#!/bin/sh\n")
        (installed / program).chmod(0o755)
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text()
        (tmp_path / name).write_text(text.replace(INSTALLED, str(installed)))
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_each_unit(units: Path, name: str) -> None:
    assert verify(units / name) == ""


def test_systemd_understands_what_only_openstack_allows(units: Path) -> None:
    plain = exposure(units / "lando-fsm.service")
    (units / "lando-fsm.service.d").mkdir()
    shutil.copy(DEPLOY / "systemd" / "openstack-only.conf", units / "lando-fsm.service.d")
    assert verify(units / "lando-fsm.service") == ""
    assert exposure(units / "lando-fsm.service") < 2.5 < 6 < plain


def exposure(unit: Path) -> float:
    """How exposed a service is, from 0 to 10: systemd-analyze(1), ``security``."""
    command = ["systemd-analyze", "security", "--offline=yes", str(unit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return float(ended.stdout.rpartition("Overall exposure level for")[2].split(":")[1].split()[0])


def test_what_systemd_does_not_understand_is_seen(units: Path) -> None:
    unit = units / "lando-fsm.service"
    unit.write_text(unit.read_text().replace("KillMode=process", "KillMode=proces"))
    assert "KillMode" in verify(unit) or "kill mode" in verify(unit)


def test_programs_of_the_units_exist() -> None:
    repository = DEPLOY.parent
    for name in UNITS:
        for line in (DEPLOY / "systemd" / name).read_text().splitlines():
            if line.startswith("ExecStart=") and f"{INSTALLED}/.venv" not in line:
                program = line.partition("=")[2].split()[0].replace(INSTALLED, str(repository))
                assert Path(program).stat().st_mode & 0o111, name
