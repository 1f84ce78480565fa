"""``lando-fsm run``: where output files go, and what is said when its daemon fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.app.service import Service
from lando.cli.run import copied
from lando.errors import LandoError
from tests.conftest import Commands


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The outputs of a job: two files of one name, a directory, and a file beside a file."""
    base = tmp_path / "state" / "outputs"
    for path in ("a.txt", "a.txt.idx", "outputs/a.txt", "tree/deep/b.txt"):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(path)
    return base


def file(path: Path, **more: Any) -> dict[str, Any]:
    return {"class": "File", "location": path.as_uri(), "basename": path.name, **more}


def test_files_keep_their_places(base: Path, tmp_path: Path) -> None:
    outputs = {
        "one": file(base / "a.txt", secondaryFiles=[file(base / "a.txt.idx")]),
        "several": [file(base / "outputs" / "a.txt"), None],
        "tree": {
            "class": "Directory",
            "location": (base / "tree").as_uri(),
            "listing": [file(base / "tree" / "deep" / "b.txt")],
        },
        "number": 5,
    }
    there = tmp_path / "there"
    result = copied(outputs, base, there)
    assert {path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()} == {
        *("a.txt", "a.txt.idx", "outputs/a.txt", "tree/deep/b.txt")
    }
    assert (there / "outputs" / "a.txt").read_text() == "outputs/a.txt"
    assert result["one"]["path"] == str(there / "a.txt")
    assert result["one"]["secondaryFiles"][0]["location"] == (there / "a.txt.idx").as_uri()
    assert result["tree"]["listing"][0]["path"] == str(there / "tree" / "deep" / "b.txt")
    assert result["number"] == 5
    assert outputs["one"] == file(base / "a.txt", secondaryFiles=[file(base / "a.txt.idx")]), "unchanged"


def test_a_file_from_elsewhere_goes_to_the_top(base: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.touch()
    assert copied({"out": file(elsewhere)}, base, tmp_path / "there")["out"]["path"] == str(
        tmp_path / "there" / "elsewhere.txt"
    )


def test_what_cannot_be_copied_is_told(base: Path, tmp_path: Path) -> None:
    (base / "a.txt").unlink()
    with pytest.raises(LandoError, match=r"a\.txt could not be copied to .*: No such file or directory"):
        copied({"out": file(base / "a.txt")}, base, tmp_path / "there")


@pytest.fixture
def _own_signals() -> Iterator[None]:
    """The handlers of before, afterwards."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_own_signals")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_daemon_that_fails_ends_the_run(
    command: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(service: Service) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Service, "run", fail)
    (tmp_path / "job.yml").write_text("git_clone: wf\ncd: .\ninput: {}\nrun_cwl: tool.cwl\n")
    said = command("run", "job.yml")
    assert (said.code, said.out) == (1, "")
    assert (
        "the daemon in this process failed; its jobs continue under the next `lando-fsm daemon`" in said.err
    )
