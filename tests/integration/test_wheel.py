"""The wheel has all that is needed: installed outside of the checkout, it runs the demo's jobs."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import lando

ROOT = Path(__file__).parents[2]
PACKAGES = {"lando": ROOT / "lando", "lando_worker": ROOT / "worker" / "lando_worker"}
SECONDS = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a build leaves files in its source."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("lando", "worker"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, source)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """The ``bin`` of a virtual environment with the wheel. All else it takes from where the tests run."""
    here = tmp_path / "venv"
    venv.create(here, symlinks=True)
    python = here / "bin" / "python"
    pip("--python", python, "install", "--no-index", "--no-deps", wheel)
    (site_packages,) = here.glob("lib/python*/site-packages")
    # Of directories that a .pth names, no .pth is read: the checkout, installed editable, stays out.
    others = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site_packages / "others.pth").write_text("".join(f"{path}\n" for path in others))
    _, script = (Path(sys.executable).parent / "sequali").read_text().split("\n", 1)
    (here / "bin" / "sequali").write_text(f"#!{python}\n{script}")
    (here / "bin" / "sequali").chmod(0o755)
    return here / "bin"


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 0, ended.stderr


def test_every_file_of_both_packages_is_in_the_wheel(wheel: Path) -> None:
    expected = {f"{name}/{file}" for name, package in PACKAGES.items() for file in files(package)}
    assert expected >= {
        "lando/app/bootstrap.sh",
        "lando/py.typed",
        "lando/store/migrations/versions/v0001_jobs.py",
        "lando_worker/lando_worker.sh",
        "lando_worker/py.typed",
    }

    names = set(zipfile.ZipFile(wheel).namelist())

    assert {name for name in names if ".dist-info/" not in name} == expected
    assert wheel.name == f"lando_fsm-{lando.__version__}-py3-none-any.whl"


def files(package: Path) -> Iterator[Path]:
    for path in package.rglob("*"):
        if path.is_file() and path.parent.name != "__pycache__":
            yield path.relative_to(package)


def test_an_installed_wheel_runs_the_demos_jobs(installed: Path, tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", examples)

    program = "import lando, lando_worker; print(lando.__file__, lando_worker.__file__)"
    for path in run(installed, tmp_path, "python", "-c", program).split():
        assert Path(path).is_relative_to(installed.parent)
    assert run(installed, tmp_path, "lando-fsm", "--version").split()[-1] == lando.__version__

    words = json.loads(run(installed, tmp_path, "lando-fsm", "run", examples / "toyworkflow.yml"))
    counts = {Path(file["path"]).stem: int(Path(file["path"]).read_text()) for file in words["counts"]}
    texts = (examples / "toyworkflow" / "texts").glob("*.txt")
    assert counts == {text.stem: len(text.read_text().split()) for text in texts}
    assert str(sum(counts.values())) in Path(words["report"]["path"]).read_text()

    reads = json.loads(run(installed, tmp_path, "lando-fsm", "run", examples / "fastq-qc.yml"))
    results = Path(reads["results"]["path"])
    for line in (results / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((results / name).read_bytes()).hexdigest() == digest
    shipped = gzip.decompress((examples / "fastq-qc" / "data" / "reads.fastq.gz").read_bytes())
    assert json.loads((results / "summary.json").read_text())["reads"] == shipped.count(b"\n") // 4
    assert (results / "report.html").stat().st_size > 0


def run(bin: Path, cwd: Path, program: str, *arguments: str | Path) -> str:
    """Run a program of the virtual environment, without what the tests' own environment says; its stdout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LANDO_", "PYTHON"))}
    environment = {**kept, "PATH": f"{bin}:{os.environ['PATH']}", "LANDO_STATE_DIR": str(cwd / "state")}
    ended = subprocess.run(
        [bin / program, *arguments],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
