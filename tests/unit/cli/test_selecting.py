"""The options of ``status`` that say which jobs to show, and its list in JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lando.cli.main import lando_fsm
from lando.cli.output import print_json, print_json_list
from lando.cli.selecting import Label, Since
from lando.store.store import Store
from tests.support.stored_jobs import job_id, store_jobs

Status = Callable[..., Result]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01 00:01z", 60.0),
        ("1970-01-01t00:00:01.25-00:30", 1801.25),
        ("1970-01-01T00:00:00.123456789Z", 0.123456),
        ("2026-11-27T15:11:50.976Z", 1795792310.976),
    ],
)
def test_a_time(text: str, at: float) -> None:
    assert Since().convert(text, None, None) == pytest.approx(at, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "ago"), [("2h", 7200), ("90m", 5400), ("7d", 604800), ("1d12h", 129600), ("30s", 30)]
)
def test_a_time_ago(text: str, ago: float) -> None:
    assert time.time() - Since().convert(text, None, None) == pytest.approx(ago, abs=5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("yesterday", "give 2h, 90m or 7d ago"),
        ("", "is not a time"),
        ("2026", "is not a time"),
        ("1795369706", "is not a time"),
        ("-1h", "is not a time"),
        ("2026-02-30", "day is out of range"),
        ("2026-11-28T25:00Z", "hour must be in 0..23"),
        ("2026-11-28T10:00", "no time zone; add Z"),
        ("2026-11-28T10:00 CET", "'CET' is not a time zone"),
        ("2026-11-28T10:00+99:00", "is not a time"),
        ("9" * 30 + "d", "is not a time"),
        ("٢٠٢٦-١١-٢٨", "is not a time"),
    ],
)
def test_what_is_no_time(text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(words)):
        Since().convert(text, None, None)


def test_a_label() -> None:
    assert Label().convert("a=b=c", None, None) == ("a", "b=c")
    assert Label().convert("a=", None, None) == ("a", "")
    for text in ("a", "=b", ""):
        with pytest.raises(click.BadParameter, match="is not KEY=VALUE"):
            Label().convert(text, None, None)


@pytest.mark.parametrize(
    "values",
    [[], [{}], [{"a": {"b": {}, "c": {"d": "é\n\x1b\u202e"}}, "e": [], "f": None}, {"g": [1, {"h": 2}]}]],
)
def test_a_list_that_comes_looks_like_one_that_is_there(
    values: list[dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    print_json(values)
    whole = capsys.readouterr().out
    print_json_list(iter(values))
    came = capsys.readouterr().out
    assert came == whole


@pytest.fixture
def status(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Status:
    """Runs ``lando-fsm status`` on 3 running, 300 queued and 70 ended jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path))
    monkeypatch.delenv("LANDO_CONFIG", raising=False)
    tmp_path.chmod(0o700)
    with closing(Store(sqlite_url)) as store:
        store_jobs(store, 70, lambda n: "failed" if n % 7 == 0 else "done", lambda n: {"n": str(n)}, first=1)
        store_jobs(store, 3, "running", first=100)
        store_jobs(store, 300, "queued", submitter=lambda _: "bo", first=200)

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(lando_fsm, ["status", *arguments], catch_exceptions=False)
        return result

    return run


def test_the_table_has_live_jobs_and_then_the_newest(status: Status) -> None:
    result = status()
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + 200 + 50
    assert [line[:8] for line in lines[1:5]] == [job_id(n)[:8] for n in (100, 101, 102, 200)]
    assert [line[:8] for line in lines[201:203]] == [job_id(n)[:8] for n in (70, 69)]
    note, totals, *_ = result.stderr.splitlines()
    assert note.startswith("not shown: 103 queued, ") and note.endswith("; --all or --limit N shows more")
    assert totals.startswith("300 queued, 3 running, 60 done, 10 failed; no daemon is running")


def test_limits(status: Status) -> None:
    assert len(status("--limit", "2").stdout.splitlines()) == 1 + 2 + 2
    assert status("--limit", "0").stdout == ""
    assert "300 queued, 3 running, 60 done, 10 failed" in status("--limit", "0").stderr
    assert len(status("--all").stdout.splitlines()) == 1 + 373
    assert "not shown" not in status("--all").stderr
    found = json.loads(status("--json").stdout)
    assert [each["id"] for each in found] == [
        job_id(n) for n in (*range(1, 71), *range(100, 103), *range(200, 500))
    ]
    assert found[-1]["reason"].endswith("position 300 (no daemon is running)")
    found = json.loads(status("--json", "--limit", "2").stdout)
    assert [each["id"] for each in found] == [job_id(n) for n in (69, 70, 100, 101)]


def test_conditions(status: Status) -> None:
    (found,) = json.loads(status("--json", "--label", "n=33").stdout)
    assert (found["id"], found["labels"]) == (job_id(33), {"n": "33"})
    assert json.loads(status("--json", "--label", "n=33", "--label", "n=34").stdout) == []
    assert json.loads(status("--json", "--submitter", "bo", "--state", "done").stdout) == []
    nothing = status("--label", "n=x")
    assert (nothing.stdout, nothing.exit_code) == ("", 0)
    assert nothing.stderr.startswith("no jobs match; ")
    since = json.loads(status("--json", "--since", "100s").stdout)
    assert [each["id"] for each in since[:10]] == [job_id(n) for n in range(62, 71)] + [job_id(100)]
    several = status(job_id(33), job_id(100), job_id(34), "--label", "n=33")
    assert [line[:8] for line in several.stdout.splitlines()[1:]] == [job_id(33)[:8]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--all", "--limit", "3"), "--all and --limit contradict each other"),
        (("--limit", "-1"), "-1 is not in the range"),
        (("--limit", f"{10**20}"), "is not in the range"),
        (("--limit", "3", "1234"), "leave out --all and --limit"),
        (("--since", "soon"), "'soon' is not a time"),
        (("--label", "x"), "is not KEY=VALUE"),
    ],
)
def test_wrong_usage(status: Status, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(click.ClickException, match=re.escape(words)) as error:
        lando_fsm.main(["status", *arguments], standalone_mode=False)
    assert error.value.exit_code == 2


def test_status_loads_no_rules_and_no_drivers() -> None:
    code = "import sys, lando.cli.status; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "lando.views.jobs" in loaded.split()
    unwanted = {"transitions", "rich", "pika", "novaclient", "psycopg", "cwltool", "alembic"}
    unwanted |= {"lando.engine.engine", "lando.engine.quota", "lando.store.transaction", "lando.states.table"}
    assert unwanted.isdisjoint(loaded.split())
