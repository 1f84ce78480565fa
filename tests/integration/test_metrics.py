"""What a daemon's metrics and health tell, compared with what happened."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from lando.cloud.interface import ServerRequest
from lando.engine.ledger import StateChange
from lando.messages import Message
from tests.support.fake_openstack import Fault
from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow
from tests.support.openstack_project import FakeFacility
from tests.support.openstack_scenarios import CREATE, DELETE, PLENTY
from tests.support.openstack_site import Stage
from tests.support.rabbitmq_server import VirtualHost
from tests.support.scrape import Answer, Scrape, fetch, free_port, scrape

TRANSITIONS = "lando_transitions_total"


def enable(site: LocalSite) -> str:
    """Configure metrics; the address."""
    port = free_port()
    site.config.write_text(f"{site.config.read_text()}\nmetrics:\n  port: {port}\n")
    return f"http://127.0.0.1:{port}"


def is_told(found: Scrape, changes: Sequence[StateChange]) -> bool:
    """Whether the transitions that are counted are those that are stored."""
    told = found.by(TRANSITIONS, "from", "event", "to")
    stored = Counter((change.source or "new", change.event, change.target) for change in changes)
    return told == stored


def wait_for_scrape(
    url: str, condition: Callable[[Scrape], bool], what: str, patience: float = 30.0
) -> Scrape:
    """Scrape until what is told is so."""
    last: list[Scrape] = []

    def holds() -> bool:
        last[:] = [scrape(url)]
        return condition(last[0])

    try:
        wait_for(holds, what, patience)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{last[0].text if last else ''}") from error
    return last[0]


def wait_until_ready(url: str) -> Answer:
    found: Answer = wait_for(
        lambda: (answer := fetch(f"{url}/health/ready")).status == 200 and answer, "readiness"
    )
    return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LocalSite]:
    site = LocalSite(tmp_path, config=QUICK)
    yield site
    site.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with contextlib.closing(Gate(tmp_path)) as gate:
        yield gate


def test_an_embedded_run(site: LocalSite, gate: Gate, tmp_path: Path) -> None:
    """Also while the database is away, and after a restart."""
    url = enable(site)
    daemon = site.start_daemon()
    good = site.submit(workflow(tmp_path, gate.script, "good"))
    once = f"[ -e {tmp_path}/mark ] || {{ touch {tmp_path}/mark; exit 1; }}"
    again = site.submit(workflow(tmp_path, once, "again"))
    site.wait(again, "failed")
    gate.wait_for_arrivals()
    assert fetch(f"{url}/health/live").body == "live\n"
    assert wait_until_ready(url).body == "ready\n"
    during = wait_for_scrape(url, lambda found: found.get("lando_jobs", state="failed") == 1, "a failed job")
    assert during.by("lando_jobs", "state") == {("running",): 1, ("failed",): 1}
    assert during.get("lando_max_workers") == 4
    assert during.get("lando_database_size_bytes") > 100_000
    check = site.command("check").stdout
    assert f"the daemon answers at {url}/metrics and is ready" in check

    database = sqlite3.connect(site.state / "lando.db", isolation_level=None)
    with contextlib.closing(database):
        database.execute("BEGIN IMMEDIATE")
        away = wait_for_scrape(url, lambda found: found.get("lando_database_connected") == 0, "the outage")
        assert away.get("lando_ready") == 0
        begun = time.monotonic()
        answer = fetch(f"{url}/health/ready")
        scrape(url)
        assert time.monotonic() - begun < 2.0
        assert answer.status == 503
        assert "database: " in answer.body and "locked" in answer.body
        assert fetch(f"{url}/health/live").status == 200
        assert f"answers at {url} and is not ready, database: " in site.command("check").stdout
    wait_until_ready(url)

    site.command("retry", again)
    site.wait(again, "done")
    gate.let_through()
    site.wait_all_ended([good])
    changes = [change for job in (good, again) for change in site.views().history(job)]
    found = wait_for_scrape(url, lambda found: found.get("lando_jobs", state="done") == 2, "the end")
    assert is_told(found, changes)
    assert found.sum("lando_boots_total") == found.get("lando_boots_total", outcome="booted") == 3
    assert found.get("lando_boot_seconds_count") == found.get("lando_server_gone_seconds_count") == 3
    assert found.get("lando_messages_total", type="workflow_finished", disposition="taken") == 3
    assert found.get("lando_cloud_operations_total", operation="create", outcome="ok") == 3
    assert found.get("lando_effect_tries_total", kind="create_server") == 3
    assert found.get("lando_database_reconnects_total") == 1
    assert found.get("lando_turns_failed_total", cause="database") >= 1
    assert found.get("lando_turns_failed_total", cause="bug") == 0

    site.command("daemon", check=False)  # a second one, which must not answer in the place of the first
    assert scrape(url).get("process_start_time_seconds") == found.get("process_start_time_seconds")
    daemon.terminate()
    assert daemon.wait(10) == 0
    with pytest.raises(OSError):
        fetch(url)
    site.start_daemon()
    fresh = wait_for_scrape(url, lambda found: found.get("lando_jobs", state="done") == 2, "a sample")
    assert fresh.sum(TRANSITIONS) == 0, "counters begin at zero"


def test_a_port_in_use_keeps_nobody_from_working(site: LocalSite, tmp_path: Path) -> None:
    url = enable(site)
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        assert "warning" in _line(site.command("check").stdout, "metrics")
        site.start_daemon()
        job = site.submit(workflow(tmp_path, "true"))
        site.wait(job, "done")
    log = site.daemon_log()
    assert log.count(f"metrics cannot be served at {url} (Address already in use)") == 1, log
    line = _line(site.command("check").stdout, "metrics")
    assert "warning" in line
    assert f"the daemon does not answer at {url} (" in line


def _line(text: str, begins: str) -> str:
    (line,) = (line for line in text.splitlines() if line.startswith(begins))
    return line


class Watch:
    """Scrapes again and again, and remembers which metrics were ever other than zero."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.touched: set[str] = set()
        self.declared: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.2):
            with contextlib.suppress(OSError):
                for name, family in scrape(self.url).families.items():
                    self.declared.add(name)
                    if any(sample.value for sample in family.samples):
                        self.touched.add(name)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def stage(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[Stage]:
    facility = FakeFacility(tmp_path / "machines")
    here = Stage(tmp_path, least_privilege, facility, lambda line: None)
    yield here
    here.close()
    facility.close()


def test_a_run_on_openstack(stage: Stage) -> None:
    """With refused and slow creates, deletions and builds that fail, leaks, and messages of all kinds."""
    site, gate = stage.site(pool=True), stage.gate()
    url = enable(site)
    faults = site.proxy.faults
    faults.add(Fault(CREATE, nth=1, status=429, retry_after="1"))
    faults.add(Fault(CREATE, nth=1, work="once", hang=4.0))
    undeleted = faults.add(Fault(DELETE, status=503))
    leaked = site.leak()
    site.cloud.floating_ips.allocate(uuid.uuid4().hex, site.deployment)
    unknown = _unknown_server(site.cloud.create, site.deployment)
    watch = Watch(url)
    with (
        contextlib.closing(watch),
        stage.facility.quota(instances=6),
        stage.facility.knobs(spawn_fail_every=5),
    ):
        site.start_daemon()
        jobs = site.queue_jobs(8, attempts=PLENTY)
        [bad] = site.queue_jobs(1, "exit 3", "bad", attempts=PLENTY)
        site.wait_until(lambda: "lando_effects_failing" in watch.touched, "deletions that fail")
        faults.clear()
        site.wait_all_ended([*jobs, bad], site.patience)
        [canceled] = site.queue_jobs(1, gate.script, "gated", attempts=PLENTY)
        site.wait_until(lambda: gate.arrivals, "a workflow to begin")
        site.publish(
            Message("cancel_job", job=canceled),
            Message("cancel_job", job=jobs[0]),
            Message("retry_job", job=jobs[1]),
            Message("retry_job", job=bad),
        )
        [again] = site.queue_jobs(1, "true", "again", attempts=PLENTY)
        site.publish(Message("start_worker", {}, job=again, id=f"start-{again}"))
        site.publish_raw([b"{"], None, site.here.names.commands)
        every = [*jobs, bad, canceled, again]
        site.wait_until(lambda: _runs_of(site.history(bad)) > 1, "the retry")
        site.wait_all_ended(every, site.patience)
        site.wait_until(lambda: leaked not in [server.id for server in site.servers()], "the sweep")
        site.cloud.delete(unknown)
        site.wait_until(lambda: not site.servers() and not site.floating_ips(), "an empty project")
        assert len(site.wait_for_letters(1, 10)) == 1
        found = wait_for_scrape(
            url,
            lambda found: (
                found.get("lando_dead_letters_kept", origin="client") == 1
                and found.sum("lando_swept_total") == 2
                and found.sum("lando_jobs", state="done") == 10
                and not found.sum("lando_unknown_servers")
                and not found.sum("lando_leaked")
            ),
            "what is left",
        )
        before = site.proxy.calls.count()
        last = scrape(url)
        after = site.proxy.calls.count()

    changes = [change for job in every for change in site.history(job)]
    assert is_told(found, changes), found.text
    # One more job is stored, and has no history: the one that leaked.
    assert found.by("lando_jobs", "state") == {("done",): 10, ("failed",): 2}

    assert before <= last.sum("lando_cloud_requests_total") <= after
    assert last.sum("lando_cloud_requests_total", call="other") == 0, site.proxy.calls
    creates = site.proxy.calls.count(CREATE)
    assert found.sum("lando_cloud_requests_total", call="POST /servers") == creates
    assert found.get("lando_cloud_requests_total", call="POST /servers", status="4xx") == 1
    assert found.sum("lando_cloud_requests_total", call="DELETE /servers/ID") == site.proxy.calls.count(
        DELETE
    )
    assert (
        found.get("lando_cloud_requests_total", call="DELETE /servers/ID", status="5xx") == undeleted.happened
    )
    assert found.sum("lando_cloud_operations_total", operation="create") == creates
    assert found.get("lando_cloud_operations_total", operation="create", outcome="rate_limit") == 1
    assert found.get("lando_cloud_operation_seconds_count", operation="create") == creates

    ended = Counter(change.event for change in changes if change.source == "booting")
    assert found.sum("lando_boots_total") == sum(ended.values())
    assert found.get("lando_boots_total", outcome="failed") == ended["boot_failed"] > 0
    assert found.get("lando_boots_total", outcome="refused") == 1
    assert found.get("lando_server_gone_seconds_count") == sum(
        change.source == "terminating" for change in changes
    )
    assert found.get("lando_effect_failures_total", kind="create_server") == 1
    assert found.sum("lando_effect_failures_total", kind="delete_server") > 0
    assert found.by("lando_swept_total", "kind") == {("servers",): 1, ("floating_ips",): 1}

    messages = found.by("lando_messages_total", "type", "disposition")
    commands = {key: count for key, count in messages.items() if not key[0].startswith("work")}
    assert commands == {
        ("start_worker", "taken"): 11,
        ("start_worker", "duplicate"): 1,
        ("cancel_job", "taken"): 1,
        ("cancel_job", "stale"): 1,
        ("retry_job", "taken"): 1,
        ("retry_job", "refused"): 1,
        ("other", "dead_lettered"): 1,
    }
    assert found.get("lando_dead_letters_total", origin="client") == 1
    assert found.get("lando_quota_limit", resource="servers") == 6
    assert found.get("lando_turns_failed_total", cause="bug") == 0

    rare = {
        "lando_turns_failed",
        "lando_database_reconnects",
        "lando_queue_messages",
        "lando_queue_head_age_seconds",
    }
    assert watch.declared - watch.touched - rare == set(), "metrics that nothing has touched"
    secrets = (site.here.client.password, stage.facility.cloud_settings["password"], *every, unknown, leaked)
    assert [secret for secret in secrets if secret in found.text] == []


def _unknown_server(create: Callable[[ServerRequest], object], deployment: str) -> str:
    """A server of a job that no database knows; its id."""
    made = create(ServerRequest("lando-unknown-1", uuid.uuid4().hex, deployment, str(uuid.uuid4()), 1, b""))
    return str(made.id)  # type: ignore[attr-defined]


def _runs_of(history: Sequence[StateChange]) -> int:
    return sum(change.target == "running" for change in history)
