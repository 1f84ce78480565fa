"""What belongs to what, where the books change while the cloud answers; and what is shown of a console."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lando.app.app import App
from lando.cli.text import last_lines
from lando.cloud.interface import Server
from lando.config.site_config import load
from lando.states.job import CreateRequest, Job
from lando.store.facts import STAYING_FACT, Staying, staying_value
from lando.store.store import Store
from lando.views.inventory import Inventory

A = "aaaaaaaa-0000-4000-8000-000000000001"
BOOTING = Job(A, state="booting", attempt=1, requests=(CreateRequest("m1", "t1", "sent"),))
SERVER = Server("s1", "lando-1", "ACTIVE", mark="m1", deployment="ours", job_id=A, attempt=1)


class Cloud:
    """Its list takes a while, in which something happens."""

    settle_time = 0.0
    has_quota = False
    floating_ips = None

    def __init__(self, server: Server, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._server = server
        self._meanwhile = meanwhile

    def servers(self) -> list[Server]:
        self._meanwhile()
        return [self._server]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    config = tmp_path / "landoconfig.yml"
    config.write_text("deployment: ours\n")
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path))
    return App(load(config))


def inventory(site: App, job: Job, server: Server = SERVER, after: Job | None = None) -> Inventory:
    store = Store(site.config.database_url)
    with store.transaction() as transaction:
        transaction.insert_job(job, {"git_clone": "x", "cd": ".", "input": {}, "run_cwl": "x"}, None)

    def meanwhile() -> None:
        if after is not None:
            with store.transaction() as transaction:
                transaction.save_job(after)

    site.__dict__["cloud"] = Cloud(server, meanwhile)
    return site.inventory(site.views())


@pytest.mark.parametrize(
    ("job", "belongs_to", "description"),
    [
        (replace(BOOTING, server_id="s1"), "job", "aaaaaaaa booting"),
        (replace(BOOTING, server_id="s1", state="running"), "job", "aaaaaaaa running"),
        (replace(BOOTING, server_id="s1", state="terminating"), "deletion", "being deleted (job aaaaaaaa)"),
        (BOOTING, "unresolved_create", "an unanswered create of job aaaaaaaa"),
        (replace(BOOTING, server_id="s2"), "twin", "orphaned: a duplicate of job aaaaaaaa's VM"),
        (Job(A, state="done", attempt=1), "nothing", "orphaned: no job owns it (aaaaaaaa is done)"),
    ],
)
def test_what_a_server_belongs_to(site: App, job: Job, belongs_to: str, description: str) -> None:
    (item,) = inventory(site, job).items
    assert (item.belongs_to, item.description) == (belongs_to, description)
    assert item.is_leaked == (belongs_to in ("twin", "nothing"))


@pytest.mark.parametrize(
    ("job", "names"),
    [
        (
            Job("b" * 36, state="done", attempt=1),
            f"it names job {A}, attempt 1; the database never had that job",
        ),
        (Job(A), f"it names attempt 1 of job {A}, of which the database knows no attempt"),
        (Job(A, state="failed"), f"it names attempt 1 of job {A}, of which the database knows no attempt"),
    ],
)
def test_a_server_that_the_database_does_not_know_is_unknown_and_not_leaked(
    site: App, job: Job, names: str
) -> None:
    found = inventory(site, job)
    (item,) = found.items
    assert (item.belongs_to, item.description, item.is_leaked) == ("unknown", f"unknown: {names}", False)
    assert (found.leaked, found.unknown) == ([], [item])
    shown = found.as_json()
    assert shown["unknown"] == {"servers": 1, "floating_ips": 0}
    assert (shown["servers"][0]["job"], shown["servers"][0]["attempt"]) == (A, 1)


def test_a_server_whose_job_ends_while_the_cloud_answers_is_not_leaked(site: App) -> None:
    running = replace(BOOTING, server_id="s1", state="running")
    assert inventory(site, running, after=replace(running, state="done", server_id=None)).leaked == []


def test_a_server_of_another_deployment_is_only_counted(site: App) -> None:
    found = inventory(site, BOOTING, server=replace(SERVER, deployment="theirs"))
    assert (found.items, found.other_servers) == ((), 1)


def test_a_console_is_harmless_for_a_terminal() -> None:
    text = "\x1b[32m[  OK  ]\x1b[0m Started.\r\n\x07\x1b]0;title\x07\nlast\n\n"
    assert last_lines(text) == ["[  OK  ] Started.", "\\x07\\x1b]0;title\\x07", "last"]


@pytest.mark.parametrize("owned", [False, True])
def test_what_the_daemon_cannot_delete_is_shown_with_since_when(site: App, owned: bool) -> None:
    store = Store(site.config.database_url)
    with store.transaction() as transaction:
        stays = Staying("s1", "server lando-1 (s1)", 1_700_000_000.0, 9, "HTTP 409: locked")
        transaction.set_fact(STAYING_FACT, staying_value([stays]))
    job = replace(BOOTING, server_id="s1") if owned else Job(A, state="done", attempt=1)
    (item,) = inventory(site, job).items
    said = "deletion requested 9 times since 2023-11-14T22:13:20.000Z, and it still exists: HTTP 409: locked"
    assert item.description.endswith(said) != owned
    assert item.as_json()["stays_since"] == (None if owned else "2023-11-14T22:13:20.000Z")
