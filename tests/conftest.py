from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lando import cli
from tests.localsite import CONFIG, QUICK, Gate, LocalSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LocalSite]:
    here = LocalSite(tmp_path)
    yield here
    here.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[LocalSite]:
    """A site with a CWL runner that costs nothing."""
    here = LocalSite(tmp_path, config=QUICK)
    yield here
    here.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    here = Gate(tmp_path)
    yield here
    here.close()


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    code: int
    out: str
    err: str


Commands = Callable[..., Said]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs ``lando-fsm`` in this process, for a state directory ``tmp_path/state`` that is not there yet."""
    config = tmp_path / "landoconfig.yml"
    config.write_text(CONFIG.format(max_workers=2))
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LANDO_CONFIG", str(config))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Said:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["lando-fsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the explorations of the model saw; here, since a parallel run loads no conftest further down."""
    reports = terminalreporter.getreports("passed")
    lines = [value for report in reports for name, value in report.user_properties if name == "exploration"]
    if lines:
        terminalreporter.section("explorations of the model")
        for line in lines:
            terminalreporter.write_line(line)
