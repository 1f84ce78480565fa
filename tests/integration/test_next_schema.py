"""This program on a database that a later release has migrated: what a rolling upgrade needs."""

from __future__ import annotations

from pathlib import Path

from lando.store.schema import HEAD
from tests.support.local_site import LocalSite, workflow
from tests.support.next_schema import NEXT, migrate_to_next, versions


def test_an_older_program_works_on_a_schema_that_it_may_use(quick: LocalSite, tmp_path: Path) -> None:
    url = f"sqlite:///{quick.state / 'lando.db'}"
    before = quick.submit(workflow(quick.root, "true", "before"))
    daemon = quick.start_daemon()
    assert quick.wait(before, "done", "failed")["state"] == "done"
    migrate_to_next(url, tmp_path, oldest=HEAD)  # beneath the daemon, which goes on
    during = quick.submit(workflow(quick.root, "true", "during"))
    assert quick.wait(during, "done", "failed")["state"] == "done", quick.daemon_log()
    daemon.terminate()
    assert daemon.wait(20) == 0
    quick.start_daemon()
    after = quick.command("submit", workflow(quick.root, "echo hello; exit 3", "after")).stdout.strip()
    assert quick.wait(after, "done", "failed")["outcome"] == "workflow_failed", quick.daemon_log()
    assert {job["id"] for job in quick.status()} == {before, during, after}
    assert "hello" in quick.command("logs", after).stdout
    assert "failed" in quick.command("history", after).stdout
    checked = quick.command("check").stdout
    assert f"schema {NEXT}, which this lando-fsm ({HEAD}) may use" in checked
    assert versions(url) == ([NEXT], [HEAD])


COMMANDS = (
    ("daemon",),
    ("status",),
    ("history", "x"),
    ("logs", "x"),
    ("outputs", "x"),
    ("servers",),
    ("servers", "--sweep"),
)


def test_an_older_program_refuses_a_schema_that_it_may_not_use(quick: LocalSite, tmp_path: Path) -> None:
    quick.make_state()
    database = quick.state / "lando.db"
    migrate_to_next(f"sqlite:///{database}", tmp_path, oldest=NEXT)
    before = database.read_bytes()
    for arguments in COMMANDS:
        said = quick.command(*arguments, check=False)
        assert (said.returncode, said.stdout) == (2, ""), (arguments, said)
        assert f"its schema ({NEXT}) is newer than this lando-fsm knows ({HEAD})" in said.stderr, arguments
    checked = quick.command("check", check=False)
    assert checked.returncode == 1 and f"its schema ({NEXT}) is newer" in checked.stdout
    assert database.read_bytes() == before
