"""Which reported outputs are here: those below the job's own directory, whatever a worker reports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lando.views.job_outputs import Refused, opened, reachable

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The outputs of a job in the state directory ``tmp_path/state``, and a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    outputs = tmp_path / "state" / "jobs" / JOB / "outputs"
    (outputs / "tree").mkdir(parents=True)
    for name in ("a.txt", "tree/b.txt", "100% #?ü.txt", os.fsdecode(b"\xff.txt")):
        (outputs / name).write_text(name.encode("ascii", "replace").decode())
    (outputs / "link").symlink_to("tree/b.txt")
    (outputs / "out").symlink_to("../../../../secret")
    os.mkfifo(outputs / "pipe")
    return outputs


def shown(tmp_path: Path, reported: Any) -> tuple[Any, list[Refused]]:
    with opened(tmp_path / "state", JOB) as base:
        result, refused = reachable({"out": reported}, base)
    return result["out"], refused


@pytest.mark.parametrize("name", ["a.txt", "tree/b.txt", "100% #?ü.txt", "link"])
@pytest.mark.parametrize("form", ["location", "path", "relative", "localhost", "one slash", "unquoted"])
def test_what_is_here_is_shown_with_its_place(outputs: Path, tmp_path: Path, name: str, form: str) -> None:
    uri = (outputs / name).as_uri()
    named = {
        "location": {"location": uri, "path": "/etc/passwd"},
        "path": {"path": str(outputs / name)},
        "relative": {"location": name},
        "localhost": {"location": uri.replace("file://", "FILE://localhost")},
        "one slash": {"location": uri.replace("file://", "file:")},
        "unquoted": {"location": "file://" + str(outputs / name).replace("%", "%25")},
    }[form]
    there = (outputs / name).resolve()
    file, refused = shown(tmp_path, {"class": "File", "size": 1, "dirname": "/etc", **named})
    assert file == {"class": "File", "size": 1, "location": there.as_uri(), "path": str(there)}
    assert refused == []


def test_a_name_that_is_not_utf_8(outputs: Path, tmp_path: Path) -> None:
    location = (outputs / os.fsdecode(b"\xff.txt")).as_uri()
    file, refused = shown(tmp_path, {"class": "File", "location": location, "path": "?.txt"})
    assert (file["location"], file["path"], refused) == (location, None, [])


HOSTILE: list[dict[str, Any]] = [
    {"location": "file:///etc/passwd"},
    {"path": "/etc/passwd"},
    {"location": "{tmp}/secret"},
    {"location": "file://{outputs}/../../../../secret"},
    {"location": "file://{outputs}/%2e%2e/%2e%2e/%2e%2e/%2e%2e/secret"},
    {"location": "../../../../secret"},
    {"location": "file://{outputs}/out"},
    {"location": "file://{outputs}/pipe"},
    {"location": "file://{outputs}/tree"},
    {"location": "file://{outputs}/a.txt/" + "x"},
    {"location": "file://{outputs}/nothing"},
    {"location": "file://{outputs}x/a.txt"},
    {"location": "file://{outputs}/a.txt%00"},
    {"location": "file://{outputs}/\ud800"},
    {"location": "file://elsewhere{outputs}/a.txt"},
    {"location": "file://[x"},
    {"location": "file:a.txt"},
    {"location": "file:"},
    {"location": "file://{outputs}/" + "x" * 10_000},
    {"location": "file:///proc/self/environ"},
    {"location": "file:///dev/zero"},
    *(
        {"location": "file://{outputs}/a.txt", "basename": name}
        for name in ("../x", "..", ".", "", "a/b", "\0", 5)
    ),
]


@pytest.mark.parametrize("named", HOSTILE, ids=repr)
@pytest.mark.parametrize("where", ["alone", "secondary", "listed"])
def test_what_is_not_the_jobs_is_refused_by_name(
    outputs: Path, tmp_path: Path, named: dict[str, Any], where: str
) -> None:
    file = {
        key: value.replace("{tmp}", str(tmp_path)).replace("{outputs}", str(outputs))
        if isinstance(value, str)
        else value
        for key, value in named.items()
    }
    name = file.get("location", file.get("path"))
    file = {"class": "File", **file}
    good = {"class": "File", "location": (outputs / "a.txt").as_uri()}
    reported = {
        "alone": file,
        "secondary": {**good, "secondaryFiles": [file]},
        "listed": {"class": "Directory", "listing": [{"class": "Directory", "listing": [file]}]},
    }[where]
    result, refused = shown(tmp_path, reported)
    assert [each.name for each in refused] == [name]
    assert refused[0].why
    inner = {
        "alone": lambda: result,
        "secondary": lambda: result["secondaryFiles"][0],
        "listed": lambda: result["listing"][0]["listing"][0],
    }[where]()
    assert inner.get("location") is inner.get("path") is None
    assert inner.get("basename") is None


def test_nothing_else_is_looked_at(tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a file of the operator exists must not show, not even in how long it takes to answer."""
    seen: list[str] = []
    for name in ("open", "stat", "lstat", "readlink", "scandir", "listdir"):
        real = getattr(os, name)

        def spy(path: Any, *args: Any, real: Any = real, **options: Any) -> Any:
            seen.append(str(path))
            return real(path, *args, **options)

        monkeypatch.setattr(os, name, spy)
    for location in (f"file://{tmp_path}/secret", f"file://{outputs}/out", "file:///etc/shadow"):
        shown(tmp_path, {"class": "File", "location": location})
    assert seen
    assert not [path for path in seen if "secret" in path or "etc" in path]


def test_an_address_of_the_network_stays(tmp_path: Path, outputs: Path) -> None:
    for location in ("https://e.org/a", "s3://bucket/a", "_:1234", "keep:1"):
        file, refused = shown(tmp_path, {"class": "File", "location": location, "path": "/etc/passwd"})
        assert (file, refused) == ({"class": "File", "location": location}, [])


def test_what_has_no_place_stays(tmp_path: Path, outputs: Path) -> None:
    literal = {"class": "File", "basename": "a", "contents": "text"}
    assert shown(tmp_path, literal) == (literal, [])
    assert shown(tmp_path, [1, "file:///etc/passwd", None]) == ([1, "file:///etc/passwd", None], [])


def test_outputs_of_a_vm_elsewhere_are_not_here(tmp_path: Path) -> None:
    file, refused = shown(tmp_path, {"class": "File", "location": "file:///var/lib/lando/outputs/a.txt"})
    assert (file["location"], [each.name for each in refused]) == (
        None,
        ["file:///var/lib/lando/outputs/a.txt"],
    )


@pytest.mark.parametrize("name", ["outputs", ""])
def test_outputs_that_a_workflow_replaced_by_a_link(tmp_path: Path, outputs: Path, name: str) -> None:
    replaced = outputs.parent / name
    replaced.rename(tmp_path / "away")
    (tmp_path / "operator" / "outputs").mkdir(parents=True)
    (tmp_path / "operator" / "outputs" / "a.txt").touch()
    replaced.symlink_to(tmp_path / "operator" / name)
    _, refused = shown(tmp_path, {"class": "File", "location": "a.txt"})
    assert len(refused) == 1
