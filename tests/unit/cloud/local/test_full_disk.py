"""A full disk names the job that takes most of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lando import disk_usage
from lando.cloud.local import full_disk

SMALL, LARGE = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"


def fill(path: Path, megabytes: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / "file").write_bytes(b"x" * megabytes * 10**6)


def vm(root: Path, mark: str, job: str, megabytes: int) -> Path:
    fill(root / "vms" / mark / "tmp", megabytes)
    (root / "vms" / mark / "server.json").write_text(json.dumps({"name": "vm", "job_id": job}))
    return root / "vms" / mark


def test_the_job_with_the_largest_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vm(tmp_path, "a", SMALL, 3)
    largest = vm(tmp_path, "b", LARGE, 2)
    fill(tmp_path / "jobs" / LARGE / "outputs", 1)
    fill(tmp_path / "jobs" / LARGE / "outputs" / "more", 1)
    assert full_disk.words(tmp_path) == ""
    monkeypatch.setattr(disk_usage, "LITTLE", 2**62)
    assert full_disk.words(tmp_path) in (
        f"the disk of {tmp_path} is full; the largest of its jobs is {LARGE}: 4.{digit} MB, in {place}"
        for digit in "01"
        for place in (largest, tmp_path / "jobs" / LARGE)
    )


def test_without_jobs_the_disk_alone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_usage, "LITTLE", 2**62)
    assert full_disk.words(tmp_path) == f"the disk of {tmp_path} is full"
    assert full_disk.words(tmp_path / "absent") == ""


def test_counting_ends_in_time(tmp_path: Path) -> None:
    for number in range(5):
        fill(tmp_path / str(number), 1)
    assert 0 < disk_usage.used(tmp_path, patience=0.0) < disk_usage.used(tmp_path)


@pytest.mark.parametrize(
    ("size", "words"), [(3_210_000_000, "3.2 GB"), (1_000_000, "1.0 MB"), (999_000, "999 kB"), (0, "0 kB")]
)
def test_sizes_for_people(size: int, words: str) -> None:
    assert disk_usage.shown(size) == words
