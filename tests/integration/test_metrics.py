"""What a daemon's metrics and health tell, compared with what happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lando.engine.ledger import StateChange
from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow
from tests.support.scrape import Scrape, fetch, free_port, scrape

TRANSITIONS = "lando_transitions_total"


def enable(site: LocalSite) -> str:
    """Configure metrics; the address."""
    port = free_port()
    site.config.write_text(f"{site.config.read_text()}\nmetrics:\n  port: {port}\n")
    return f"http://127.0.0.1:{port}"


def histories(site: LocalSite, jobs: Sequence[str]) -> list[StateChange]:
    return [change for job in jobs for change in site.views().history(job)]


def transitions(found: Scrape) -> Counter[tuple[str, str, str]]:
    told = found.by(TRANSITIONS, "from", "event", "to")
    return Counter({(a, b, c): int(count) for (a, b, c), count in told.items()})


def as_stored(changes: Sequence[StateChange]) -> Counter[tuple[str, str, str]]:
    return Counter((change.source or "new", change.event, change.target) for change in changes)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LocalSite]:
    site = LocalSite(tmp_path, config=QUICK)
    yield site
    site.close()


def test_an_embedded_run(site: LocalSite, tmp_path: Path) -> None:
    """Sums are equal to the histories, and the gauges to what is stored."""
    url = enable(site)
    gate = Gate(tmp_path)
    site.start_daemon()
    good = site.submit(workflow(tmp_path, gate.script, "good"))
    bad = site.submit(workflow(tmp_path, "exit 3", "bad"))
    again = site.submit(
        workflow(tmp_path, f"[ -e {tmp_path}/mark ] || {{ touch {tmp_path}/mark; exit 1; }}", "again")
    )
    site.wait_all_ended([bad, again])
    gate.wait_for_arrivals()
    assert fetch(f"{url}/health/live").body == "live\n"
    ready = wait_for(lambda: (answer := fetch(f"{url}/health/ready")).status == 200 and answer, "readiness")
    assert ready.body == "ready\n"
    during = wait_for(
        lambda: (found := scrape(url)).get("lando_jobs", state="failed") == 2 and found, "a sample"
    )
    assert during.by("lando_jobs", "state") == {("running",): 1, ("failed",): 2}
    site.command("retry", again)
    site.wait(again, "done")
    gate.let_through()
    site.wait_all_ended([good])
    found = wait_for(lambda: (seen := scrape(url)).get("lando_jobs", state="done") == 2 and seen, "a sample")
    gate.close()

    jobs = [good, bad, again]
    changes = histories(site, jobs)
    assert transitions(found) == as_stored(changes)
    assert found.sum("lando_jobs") == 3
    assert found.sum("lando_boots_total") == found.get("lando_boots_total", outcome="booted") == 4
    print(found.text)
