"""Workers in images that are older than the daemon: what they can do they do, all else is refused by name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lando.app.user_data import installed_command
from lando.versions import VERSION
from tests.support.local_site import QUICK, LocalSite, workflow

SILENT = """#!{python}
# This worker, but that it reports neither its version nor what it can do: as those of before did.
import sys

from lando_worker import __main__ as worker
from lando_worker.spool import Spool

add = Spool.add


def add_as_before(self, make):
    def made(seq):
        message = make(seq)
        for key in ("version", "abilities", "final"):
            message.body.pop(key, None)
        return message

    add(self, made)


Spool.add = add_as_before
sys.exit(worker.main(sys.argv[1:]))
"""

NEWER = """#!/bin/bash
# The worker configuration as a newer daemon writes it, with a setting that this worker does not know.
{python} - "$5" <<'END'
import json, sys
with open(sys.argv[1]) as file:
    configuration = json.load(file)
with open(sys.argv[1], "w") as file:
    json.dump({{**configuration, {setting}}}, file)
END
exec {command} "$@"
"""


@contextmanager
def site_with(root: Path, worker: str) -> Iterator[LocalSite]:
    """A site whose workers are started by this script."""
    script = root / "worker"
    script.write_text(worker)
    script.chmod(0o755)
    site = LocalSite(root, config=f"{QUICK}  command: {script}\n")
    try:
        yield site
    finally:
        site.close()


def newer(setting: str) -> str:
    return NEWER.format(python=sys.executable, command=installed_command(), setting=setting)


def test_the_version_is_shown(quick: LocalSite) -> None:
    quick.start_daemon()
    job = quick.submit(workflow(quick.root, "true"))
    assert quick.wait(job, "done", "failed")["worker_version"] == VERSION
    assert re.search(rf"(?m)^worker: +lando-fsm {re.escape(VERSION)}$", quick.command("status", job).stdout)
    assert "older than" not in quick.daemon_log()


def test_a_worker_that_reports_no_version_runs_what_it_knows(tmp_path: Path) -> None:
    with site_with(tmp_path, SILENT.format(python=sys.executable)) as site:
        site.start_daemon()
        jobs = [site.submit(workflow(tmp_path, "true", name)) for name in ("one", "two")]
        for shown in site.wait_all_ended(jobs):
            assert (shown["state"], shown["attempt"], shown["worker_version"]) == ("done", 1, "unknown")
        said = site.command("status", jobs[0]).stdout
        hint = rf"older than this daemon \({re.escape(VERSION)}\): rebuild the image, see docs/upgrade.md"
        assert re.search(rf"(?m)^worker: +lando-fsm unknown; {hint}$", said)
        warnings = re.findall(
            rf"WARNING the worker of job .* reports lando-fsm 'unknown', {hint}", site.daemon_log()
        )
        assert len(warnings) == 1, "once, not for each job"
        site.nothing_is_left()


def test_a_setting_that_the_worker_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    with site_with(tmp_path, newer("'archive': 'https://example.org/a.zip'")) as site:
        site.start_daemon()
        ran = tmp_path / "ran"
        job = site.submit(workflow(tmp_path, f"touch {ran}"))
        shown = site.wait(job, "done", "failed")
        assert (shown["state"], shown["outcome"], shown["failures"]) == ("failed", "system_failed", 1)
        assert shown["attempt"] == 1, "no other VM could do better"
        assert shown["reason"] == (
            f"the worker in the VM (lando-fsm {VERSION}) does not know the setting archive: "
            "rebuild the image with the daemon's version (docs/upgrade.md)"
        )
        assert shown["worker_version"] == VERSION
        assert not ran.exists()
        site.nothing_is_left()


@pytest.mark.parametrize("setting", ["'archive': None", "'optional': {'archive': 'x'}"])
def test_a_setting_that_may_be_ignored_is(tmp_path: Path, setting: str) -> None:
    with site_with(tmp_path, newer(setting)) as site:
        site.start_daemon()
        job = site.submit(workflow(tmp_path, "true"))
        assert site.wait(job, "done", "failed")["state"] == "done"
