"""Removal of a VM's containers, with scripts in place of docker and podman."""

from __future__ import annotations

from pathlib import Path

import pytest

from lando.cloud.local import containers


def fake_engine(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def id_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    ids = tmp_path / "containers"
    ids.mkdir()
    for number in (1, 2):
        (ids / f"{number}.cid").write_text(f"cid{number}")
    (ids / "3.cid").touch()
    return ids


def test_containers_are_removed_by_the_engine_on_path(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "podman", f'echo "$@" > {tmp_path}/called')
    containers.remove(id_files)
    assert (tmp_path / "called").read_text() == "rm --force cid1 cid2\n"


def test_containers_that_do_not_exist_any_more_are_no_error(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", 'echo "Error: No such container: cid1" >&2; exit 1')
    containers.remove(id_files)


def test_one_engine_that_answers_is_enough(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    with pytest.raises(containers.NotStopped, match=r"cid1, cid2 may still.*Cannot connect"):
        containers.remove(id_files)
    fake_engine(tmp_path / "bin", "podman", "exit 0")
    containers.remove(id_files)


def test_containers_without_any_engine_are_an_error(id_files: Path) -> None:
    with pytest.raises(containers.NotStopped, match="none of docker, podman is on PATH"):
        containers.remove(id_files)


def test_no_containers_need_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    containers.remove(tmp_path / "absent")
