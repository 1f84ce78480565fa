"""requirements.lock: it fits pyproject.toml, and ``scripts/setup`` installs what it says or says why not."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PYTHONS = re.findall(r"^# Python: (.+)$", LOCK, re.MULTILINE)[0].split()
ENTRY = re.compile(r"^([^#\s].*?)(?: \\)?\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)*)", re.MULTILINE)


def test_the_lock_has_exact_versions_with_hashes_and_nothing_else() -> None:
    entries = ENTRY.findall(LOCK)
    for requirement, hashes in entries:
        assert re.fullmatch(r"[a-z0-9-]+==\S+( ; .+)?", requirement)
        assert hashes, requirement
    lines = ENTRY.sub("", LOCK).splitlines()
    assert len(entries) > 80 and all(line.startswith("# ") for line in lines), lines
    assert "://" not in LOCK


def test_the_lock_is_for_the_pythons_of_the_classifiers() -> None:
    named = [re.search(r"Python :: (3\.\d+)$", classifier) for classifier in project()["classifiers"]]
    assert [each[1] for each in named if each] == PYTHONS


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_fits_what_pyproject_requires(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    locked = {
        canonicalize_name(entry.name): str(entry.specifier).removeprefix("==")
        for entry in (Requirement(requirement) for requirement, _ in ENTRY.findall(LOCK))
        if entry.marker is None or entry.marker.evaluate(environment)
    }
    for requirement in required():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def required() -> Iterator[Requirement]:
    extras = project()["optional-dependencies"]
    for line in (*project()["dependencies"], *extras["demo"], *extras["dev"]):
        requirement = Requirement(line)
        if requirement.name != "lando-fsm":
            yield requirement


def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no parser for TOML")
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


# scripts/setup, with a virtual environment that only notes what pip is asked for

PYTHON = """#!/bin/bash
case "$*" in
-c*) echo 3.11 ;;
*" check") cat "$VENV/missing" 2>/dev/null ;;
*) echo "${*:4}" >>"$VENV/pip" && [ ! -e "$VENV/broken" ] ;;
esac
"""


class Checkout:
    """``scripts/setup`` beside a lock for these versions of Python, run by Python 3.11."""

    def __init__(self, root: Path, pythons: str) -> None:
        self.root = root
        self.venv = root / "venv"
        (root / "scripts").mkdir()
        (root / "scripts" / "setup").symlink_to(ROOT / "scripts" / "setup")
        (root / "requirements.lock").write_text(f"# Python: {pythons}\n")
        (self.venv / "bin").mkdir(parents=True)
        for program in ("pip", "python"):
            (self.venv / "bin" / program).write_text(PYTHON)
            (self.venv / "bin" / program).chmod(0o755)

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["scripts/setup", "python3", "venv", "demo"],
            cwd=self.root,
            env={**os.environ, "CI": "", "VENV": str(self.venv), **environment},
            check=False,
            capture_output=True,
            text=True,
        )

    def installed(self) -> list[str]:
        asked = self.venv / "pip"
        return asked.read_text().splitlines() if asked.exists() else []


def test_setup_installs_the_locked_versions_by_their_hashes(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, "3.11 3.12")
    assert checkout.setup().returncode == 0
    packages, own = checkout.installed()
    assert packages.startswith("install -qq --require-hashes -r ")
    assert own == "install -qq --no-deps --no-build-isolation -e ."


def test_setup_with_another_python_installs_the_newest_and_says_so(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, "3.12 3.13")
    ended = checkout.setup()
    assert ended.returncode == 0
    assert "requirements.lock is for Python 3.12, 3.13, and this is 3.11: the newest versions" in ended.stderr
    assert checkout.installed() == ["install -qq -e .[demo]"]


def test_setup_with_another_python_fails_in_ci(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, "3.12 3.13")
    ended = checkout.setup(CI="true")
    assert ended.returncode == 1
    assert "this is 3.11: CI installs locked versions only" in ended.stderr
    assert checkout.installed() == []


@pytest.mark.parametrize("ci", ["", "true"])
def test_setup_fails_where_a_locked_version_cannot_be_installed(tmp_path: Path, ci: str) -> None:
    checkout = Checkout(tmp_path, "3.11")
    (checkout.venv / "broken").touch()
    ended = checkout.setup(CI=ci)
    assert ended.returncode == 1
    assert "the versions in requirements.lock could not be installed" in ended.stderr
    assert len(checkout.installed()) == 1


def test_setup_fails_where_the_lock_lacks_a_package(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, "3.11")
    missing = "lando-fsm 0.1.0 requires newpackage, which is not installed."
    (checkout.venv / "missing").write_text(
        f"{missing}\nother 1.0 requires another, which is not installed.\n"
    )
    ended = checkout.setup()
    assert ended.returncode == 1
    assert (
        f"requirements.lock does not fit pyproject.toml; make lock writes it anew: {missing}\n"
        in ended.stderr
    )
