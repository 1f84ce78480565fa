"""The system on PostgreSQL and RabbitMQ, as a facility runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.local_site import Gate, workflow
from tests.support.postgres_server import OWNER, Database
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite


@pytest.fixture
def site(tmp_path: Path, virtual_host: VirtualHost, postgres_database: Database) -> Iterator[BrokerSite]:
    here = BrokerSite(tmp_path / "site", virtual_host, database=postgres_database.url)
    yield here
    here.close()


def test_jobs_from_submit_to_their_results(site: BrokerSite, gate: Gate) -> None:
    address = site.app().config.database
    assert "@" not in address
    nothing_yet = site.command("status")
    assert "no jobs" in nothing_yet.stdout + nothing_yet.stderr
    checked = site.command("check", check=False).stdout
    assert f"database         ok       database {address.rpartition('/')[2]!r} at 127.0.0.1:" in checked
    assert f", account {OWNER}), schema 0006" in checked

    daemon = site.start_daemon()
    done = site.command("submit", workflow(site.root, "echo one\n", "good")).stdout.strip()
    failing = site.command("submit", workflow(site.root, "echo two; exit 1\n", "bad")).stdout.strip()
    held = site.command("submit", workflow(site.root, gate.script, "held")).stdout.strip()
    assert site.wait(done, "done", "failed")["outcome"] == "succeeded", site.daemon_log()
    assert site.wait(failing, "done", "failed")["outcome"] == "workflow_failed"
    gate.wait_for_arrivals()
    site.command("cancel", held[:8])
    assert site.wait(held, "done", "failed")["outcome"] == "canceled"
    assert "one" in site.command("logs", done[:8]).stdout
    assert json.loads(site.command("outputs", done, "--json").stdout) == {}
    states = [change["to"] for change in json.loads(site.command("history", done, "--json").stdout)]
    assert states == ["queued", "booting", "running", "terminating", "done"]

    site.command("retry", failing)
    site._wait_for_states([failing], ("failed",), 60)
    daemon.terminate()
    assert daemon.wait(20) == 0
    site.start_daemon()
    again = site.command("submit", workflow(site.root, "echo three\n", "again")).stdout.strip()
    assert site.wait(again, "done", "failed")["outcome"] == "succeeded"
    ids = [job["id"] for job in site.status()]
    assert sorted(ids) == sorted([done, failing, held, again])
    password = site.app().config.database_url.partition("://")[2].partition("@")[0].partition(":")[2]
    assert password and password not in site.logs_of_all_daemons() + checked
    site.nothing_is_left()
