"""The spool: what an earlier process left is read, whatever else is there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from lando.messages import Message
from lando_worker.spool import Spool

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"


def message(kind: str, seq: int) -> Message:
    body = {"outcome": "succeeded"} if kind == "workflow_finished" else {}
    return Message(kind, body, job=JOB, attempt=1, token="t", seq=seq)  # type: ignore[arg-type]


def left_behind(directory: Path) -> list[bytes]:
    """Two reports of an earlier process."""
    dead = Spool(directory)
    for kind in ("worker_started", "worker_progress"):
        dead.add(lambda seq, kind=kind: message(kind, seq))  # type: ignore[misc]
    return [path.read_bytes() for path in sorted(directory.glob("0*.json"))]


def test_what_the_workflow_put_there_is_ignored(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    reports = left_behind(directory)
    for name in ("junk.json", "1.json", "-0000001.json", "00000003.json.new", "١٢٣٤٥٦٧٨.json"):
        (directory / name).write_text("junk")
    (directory / "00000004.json").mkdir()
    os.mkfifo(directory / "00000005.json")
    (tmp_path / "secret").write_text("secret")
    (directory / "00000006.json").symlink_to(tmp_path / "secret")
    (directory / "00000003.new").symlink_to(tmp_path / "secret")
    spool = Spool(directory)
    assert spool.first() == (1, reports[0])
    spool.remove(1)
    assert spool.first() == (2, reports[1])
    spool.remove(2)
    assert spool.first() is None
    spool.add(lambda seq: message("workflow_finished", seq))
    assert Spool(directory).first() == spool.first()
    assert (tmp_path / "secret").read_text() == "secret"


@pytest.mark.parametrize(
    "note", ["pipe", "directory", "[", "[]", '{"seq": "x"}', "[" * 900, "\xff", "missing"]
)
def test_without_its_note_the_numbering_goes_on(tmp_path: Path, note: str) -> None:
    reports = left_behind(tmp_path)
    last = tmp_path / "last"
    last.unlink()
    if note == "pipe":
        os.mkfifo(last)
    elif note == "directory":
        last.mkdir()
    elif note != "missing":
        last.write_text(note, encoding="latin-1")
    spool = Spool(tmp_path)
    assert not spool.closed
    spool.add(lambda seq: message("worker_progress", seq))
    assert [spool.first()] == [(1, reports[0])]
    assert json.loads((tmp_path / "00000003.json").read_text())["seq"] == 3


@pytest.mark.parametrize("name", ["spool", "spool/attempt"])
def test_a_spool_that_cannot_be_made_is_kept_in_memory(tmp_path: Path, name: str) -> None:
    (tmp_path / "spool").touch()
    spool = Spool(tmp_path / name)
    spool.add(lambda seq: message("worker_started", seq))
    assert spool.first() is not None
