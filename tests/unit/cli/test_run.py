"""``lando-fsm run``: what is said when its daemon fails."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.app.service import Service
from tests.conftest import Commands


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
