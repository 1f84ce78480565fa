"""Removal of a VM's containers, with scripts in place of docker and podman."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lando.cloud.local import containers
from tests.support.another_account import as_another_account, place_of_another_account

IDS = [f"{number:064x}" for number in range(0xABC, 0xABF)]


def fake_engine(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def id_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    ids = tmp_path / "containers"
    ids.mkdir()
    for number in (0, 1):
        (ids / f"{number}.cid").write_text(IDS[number])
    (ids / "2.cid").touch()
    return ids


def test_containers_are_removed_by_the_engine_on_path(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "podman", f'echo "$@" > {tmp_path}/called')
    containers.remove(id_files)
    assert (tmp_path / "called").read_text() == f"rm --force {IDS[0]} {IDS[1]}\n"


def test_containers_that_do_not_exist_any_more_are_no_error(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", f'echo "Error: No such container: {IDS[0]}" >&2; exit 1')
    containers.remove(id_files)


def test_one_engine_that_answers_is_enough(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    with pytest.raises(containers.NotStopped, match=rf"{IDS[0]}, {IDS[1]} may still.*Cannot connect"):
        containers.remove(id_files)
    fake_engine(tmp_path / "bin", "podman", "exit 0")
    containers.remove(id_files)


def test_containers_without_any_engine_are_an_error(id_files: Path) -> None:
    with pytest.raises(containers.NotStopped, match="none of docker, podman is on PATH"):
        containers.remove(id_files)


def test_no_containers_need_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    containers.remove(tmp_path / "absent")


def test_what_is_no_id_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine is called, although without one every id is an error."""
    monkeypatch.setenv("PATH", "")
    junk = tmp_path / "containers"
    junk.mkdir()
    texts = (
        "database",
        "--all",
        "-f",
        "abc",
        f"{IDS[0]}x",
        IDS[0].upper(),
        IDS[0][:12],
        f"{IDS[0]}\n{IDS[1]}",
    )
    for number, text in enumerate(texts):
        (junk / str(number)).write_text(text)
    (junk / "binary").write_bytes(b"\xff\0" * 100)
    (junk / "large").write_text("0" * 1_000_000)
    (junk / os.fsdecode(b"\xff\n")).touch()
    (junk / "directory").mkdir()
    os.mkfifo(junk / "pipe")
    (tmp_path / "elsewhere").write_text(IDS[0])
    (junk / "link").symlink_to(tmp_path / "elsewhere")
    (junk / "itself").symlink_to("itself")
    (junk / "zero").symlink_to("/dev/zero")
    for number in range(1500):
        (junk / f"junk{number}").touch()
    containers.remove(junk)


def test_an_id_among_junk_is_found(tmp_path: Path, id_files: Path) -> None:
    os.mkfifo(id_files / "0.pipe")
    (id_files / "directory").mkdir()
    (id_files / "name").write_text("--all")
    (id_files / "again").write_text(f"{IDS[0]}\n")
    fake_engine(tmp_path / "bin", "docker", f'echo "$@" >> {tmp_path}/called')
    containers.remove(id_files)
    assert (tmp_path / "called").read_text() == f"rm --force {IDS[0]} {IDS[1]}\n"


def test_many_containers_are_removed_in_batches(
    tmp_path: Path, id_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (id_files / "2.cid").write_text(IDS[2])
    monkeypatch.setattr(containers, "BATCH", 2)
    fake_engine(tmp_path / "bin", "docker", f'echo "$@" >> {tmp_path}/called')
    containers.remove(id_files)
    assert (tmp_path / "called").read_text() == f"rm --force {IDS[0]} {IDS[1]}\nrm --force {IDS[2]}\n"


@pytest.mark.parametrize("kind", ["file", "pipe", "link", "dangling"])
def test_a_directory_that_was_replaced_has_no_ids(
    tmp_path: Path, id_files: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    replaced = tmp_path / "replaced"
    if kind == "file":
        replaced.write_text(IDS[0])
    elif kind == "pipe":
        os.mkfifo(replaced)
    else:
        replaced.symlink_to(id_files if kind == "link" else "nothing")
    containers.remove(replaced)


def test_a_directory_that_was_closed_is_read_all_the_same() -> None:
    with place_of_another_account() as root:

        def close_and_remove() -> None:
            (root / "containers").mkdir()
            (root / "containers" / "1.cid").write_text(IDS[0])
            (root / "containers").chmod(0)
            fake_engine(root / "bin", "docker", f'echo "$@" > {root}/called')
            os.environ["PATH"] = str(root / "bin")
            containers.remove(root / "containers")
            assert (root / "called").read_text() == f"rm --force {IDS[0]}\n"

        assert as_another_account(close_and_remove) == ""
