"""``log_format: json``: one JSON object a line, whatever happens."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.cli.json_log import JsonLines, JsonStream
from lando.cli.log_stream import LogStream
from lando.daemon.log import log_changes
from lando.engine.ledger import StateChange

HOSTILE = '\x1b[2K\n{"level": "info"}\u2028\x85 → \ud800'


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, logging.Logger]]:
    """A log as JSON that is the daemon's, and the end of its pipe to read from."""
    read_end, write_end = os.pipe()
    handler = logging.StreamHandler(LogStream(write_end))
    handler.setFormatter(JsonLines())
    logger = logging.Logger("lando")  # not pytest's, which cannot report every text
    logger.addHandler(handler)
    monkeypatch.setattr("lando.daemon.log.log", logger)
    yield read_end, logger
    os.close(read_end)
    os.close(write_end)


def written(read_end: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in os.read(read_end, 65536).decode("ascii").split("\n")[:-1]]


def test_an_event_is_an_object_with_its_time_level_and_message(log: tuple[int, logging.Logger]) -> None:
    read_end, logger = log
    logger.warning("job %s: %s https://bob:pw@host", 1, HOSTILE)
    (event,) = written(read_end)
    assert event.pop("time").endswith("Z")
    assert event == {"level": "warning", "message": f"job 1: {HOSTILE} https://bob:***@host"}


def test_a_change_of_state_has_what_history_has(log: tuple[int, logging.Logger]) -> None:
    read_end, _ = log
    log_changes([StateChange("1ab2c3d4-…", 5.0, "submitted", None, "queued", "a reason", 0)])
    (event,) = written(read_end)
    assert event["message"] == "job 1ab2c3d4  new → queued  a reason"
    change = {key: event[key] for key in ("job", "event", "from", "to", "reason", "attempt")}
    assert change == {
        **{"job": "1ab2c3d4-…", "event": "submitted", "from": None, "to": "queued"},
        **{"reason": "a reason", "attempt": 0},
    }


def test_a_traceback_belongs_to_its_event(log: tuple[int, logging.Logger]) -> None:
    read_end, logger = log
    try:
        raise ValueError(f"password=hunter2 {HOSTILE}")
    except ValueError:
        logger.exception("failed")
    (event,) = written(read_end)
    assert (event["level"], event["message"]) == ("error", "failed")
    assert event["traceback"].startswith("Traceback") and "ValueError" in event["traceback"]
    assert "hunter2" not in event["traceback"]


def test_what_is_printed_beside_the_log_is_an_event_a_line() -> None:
    read_end, write_end = os.pipe()
    stderr = JsonStream(LogStream(write_end))
    print("lando-fsm: the database\nis damaged", file=stderr)
    print("begun, ", end="", file=stderr)
    assert [event["message"] for event in written(read_end)] == ["lando-fsm: the database", "is damaged"]
    print("ended", file=stderr)
    assert [event["message"] for event in written(read_end)] == ["begun, ended"]
    os.close(read_end)
    os.close(write_end)


def test_lines_that_were_lost_are_told_in_an_object() -> None:
    read_end, write_end = os.pipe()
    stream = LogStream(write_end)
    JsonStream(stream)
    os.set_blocking(write_end, False)
    full = 0
    while True:
        try:
            full += os.write(write_end, b"x" * 4096)
        except BlockingIOError:
            break
    stream.write('{"lost": true}\n')
    assert len(os.read(read_end, full)) == full
    stream.write('{"lost": false}\n')
    note, line = written(read_end)
    assert note["message"] == "1 line of the log was lost here: nobody read it" and line == {"lost": False}
    os.close(read_end)
    os.close(write_end)


def test_the_daemon_logs_as_the_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "landoconfig.yml").write_text("state_dir: state\nlog_format: json\n")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "lando.db").write_text("this is no database, and the daemon says so")
    ended = subprocess.run(
        [Path(sys.executable).parent / "lando-fsm", "daemon"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert events[0]["message"].startswith("configuration: ")
    assert "lando.db" in events[-1]["message"] and ended.returncode == 2
