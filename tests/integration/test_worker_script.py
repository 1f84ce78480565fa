"""Which Python lando_worker.sh takes."""

import os
import shutil
import subprocess

import pytest

from lando.app.user_data import installed_command

ARGUMENTS = ["-I", "-X", "utf8", "-m", "lando_worker", "a b", "$x"]


@pytest.fixture
def checkout(tmp_path):
    package = tmp_path / "checkout" / "worker" / "lando_worker"
    package.mkdir(parents=True)
    shutil.copy(installed_command(), package)
    (tmp_path / "checkout" / "lando_worker.sh").symlink_to("worker/lando_worker/lando_worker.sh")
    return tmp_path / "checkout"


def python(path):
    """A program that prints its own path and arguments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/bash\nprintf "%s\\n" "$(readlink -f "$0")" "$@"\n')
    path.chmod(0o755)
    return path


def taken(command, cwd=None, **environment):
    environment = {"PATH": os.environ["PATH"], **environment}
    ended = subprocess.run(
        [command, "a b", "$x"], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout.splitlines()


def test_python_beside_the_link(checkout):
    expected = python(checkout / ".venv" / "bin" / "python")
    assert taken(checkout / "lando_worker.sh") == [str(expected), *ARGUMENTS]
    assert taken("./lando_worker.sh", cwd=checkout) == [str(expected), *ARGUMENTS]


def test_python_of_the_checkout(checkout):
    expected = python(checkout / ".venv" / "bin" / "python")
    assert taken(checkout / "worker" / "lando_worker" / "lando_worker.sh") == [str(expected), *ARGUMENTS]


def test_python_of_a_checkout_reached_through_a_link(checkout, tmp_path):
    expected = python(checkout / ".venv" / "bin" / "python")
    (tmp_path / "lando").symlink_to(checkout)
    assert taken(tmp_path / "lando" / "lando_worker.sh") == [str(expected), *ARGUMENTS]


def test_python_of_the_installation(checkout, tmp_path):
    package = tmp_path / "prefix" / "lib" / "python3.11" / "site-packages" / "lando_worker"
    shutil.copytree(checkout / "worker" / "lando_worker", package)
    expected = python(tmp_path / "prefix" / "bin" / "python3")
    assert taken(package / "lando_worker.sh") == [str(expected), *ARGUMENTS]


def test_python_of_the_environment_variable(checkout, tmp_path):
    python(checkout / ".venv" / "bin" / "python")
    expected = python(tmp_path / "other")
    assert taken(checkout / "lando_worker.sh", LANDO_PYTHON=str(expected)) == [str(expected), *ARGUMENTS]


def test_no_python_is_an_error(checkout, tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("bash", "readlink"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    ended = subprocess.run(
        [checkout / "lando_worker.sh"],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 127
    assert "found no Python with lando-fsm" in ended.stderr
