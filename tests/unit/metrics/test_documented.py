"""Documentation, dashboard and alerts name the metrics that there are, with their labels."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lando.metrics.admission_held import REASONS
from tests.support.scrape import Scrape
from tests.unit.metrics.everything import Everything
from tests.unit.test_docs import anchors, sections

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "deploy" / "prometheus" / "lando-fsm.rules.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "lando-fsm.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "lando-fsm.json"
PROCESS = ("process_cpu_seconds_total", "process_resident_memory_bytes")
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def told() -> Scrape:
    return Everything().scrape()


def exposed(told: Scrape) -> dict[str, tuple[str, set[str]]]:
    """Type and labels of every metric of ours, by the name that people write."""
    found = {}
    for name, family in told.families.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[f"{name}_total" if family.type == "counter" else name] = family.type, labels
    return found


def series(told: Scrape) -> dict[str, set[str]]:
    """The labels of every name that a query may have."""
    found: dict[str, set[str]] = {}
    for name, labels in told.samples:
        found.setdefault(name, set()).update(label for label, _ in labels)
    return found


def test_the_page_has_each_metric_with_its_type_and_labels(told: Scrape) -> None:
    row = re.compile(r"^\| `(lando_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
    documented = {
        name: (type_, set(re.findall(r"`(\w+)`", labels)))
        for name, type_, labels in row.findall(PAGE.read_text())
    }
    ours = {name: found for name, found in exposed(told).items() if name.startswith("lando_")}
    assert documented == ours
    theirs = {name for name in exposed(told) if not name.startswith("lando_")}
    assert theirs == set(re.findall(r"`(process_\w+)`", PAGE.read_text()))


def test_each_has_a_text_and_a_unit(told: Scrape) -> None:
    for name, family in told.families.items():
        assert family.documentation, name
        assert not re.search(r"_(ms|millis|mb|kb|minutes|hours)\b", name), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name


def test_the_page_has_each_reason_for_which_jobs_are_held() -> None:
    text = sections(PAGE)["LandoNobodyAdmitted"]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [*REASONS]


# queries


def queries() -> Iterator[tuple[str, str]]:
    """Every query, and where it is."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


@pytest.mark.parametrize(("where", "query"), [*queries()], ids=lambda text: text[:40])
def test_queries_name_what_there_is(told: Scrape, where: str, query: str) -> None:
    known = series(told) | {"up": set()}
    selectors = re.findall(
        r"\b((?:lando|process|up)(?:_\w+)?)(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', query)
    )
    assert selectors
    named = set()
    for name, having in selectors:
        assert name in known, f"{where}: {name}"
        labels = set(re.findall(r"(\w+)\s*[=!]~?", having))
        assert labels <= known[name] | ADDED_BY_PROMETHEUS, f"{where}: {name}{{{having}}}"
        named |= known[name]
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        assert {label.strip() for label in group.split(",")} <= named | ADDED_BY_PROMETHEUS, (
            f"{where}: {group}"
        )


def test_values_of_labels_in_queries_are_values_that_there_are(told: Scrape) -> None:
    known: dict[str, set[str]] = {}
    for _, labels in told.samples:
        for label, value in labels:
            known.setdefault(label, set()).add(value)
    wanted = [
        (label, value)
        for where, query in queries()
        for label, operator, values in re.findall(r'(\w+)(=~?)"([^"]*)"', query)
        for value in (values.split("|") if operator == "=~" else [values])
        if label not in ADDED_BY_PROMETHEUS
    ]
    assert wanted
    assert [pair for pair in wanted if pair[1] not in known[pair[0]]] == []


def test_the_dashboard_shows_every_metric(told: Scrape) -> None:
    shown = " ".join(query for where, query in queries())
    assert [name for name in exposed(told) if name.startswith("lando_") and name not in shown] == []


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert board["schemaVersion"] >= 36  # Grafana 9.0
    assert [each["name"] for each in board["templating"]["list"]] == ["datasource", "instance"]
    panels = board["panels"]
    assert panels[0]["title"] == "Troubles"
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["description"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_each_alert_says_what_to_do_and_where_that_is_explained() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        runbook = rule["annotations"]["runbook"]
        assert runbook == f"docs/metrics.md#{rule['alert'].lower()}"
        assert runbook.partition("#")[2] in anchors(PAGE)
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert len(rule["annotations"]["summary"]) > 60
    explained = re.findall(r"^### (Lando\w+)$", PAGE.read_text(), re.MULTILINE)
    assert explained == names


def test_each_alert_has_a_test_in_which_it_fires() -> None:
    text = RULE_TESTS.read_text()
    assert [rule["alert"] for rule in rules() if f'alertname="{rule["alert"]}"' not in text] == []


# promtool


@pytest.fixture(scope="module")
def promtool() -> str:
    beside = Path(sys.executable).with_name("promtool")
    found = str(beside) if beside.exists() else shutil.which("promtool")
    if found is None:
        assert not os.environ.get("LANDO_TEST_PROMTOOL_REQUIRED"), "no promtool: run make dev"
        pytest.skip("promtool is not installed")
    return found


def run(*command: str | Path, text: str = "") -> str:
    done = subprocess.run(
        [*map(str, command)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=RULES.parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_metrics(promtool: str, told: Scrape) -> None:
    assert run(promtool, "check", "metrics", text=told.text).strip() == ""


def test_promtool_finds_nothing_wrong_with_the_rules(promtool: str) -> None:
    assert f"{len(rules())} rules found" in run(promtool, "check", "rules", RULES)
    assert "SUCCESS" in run(promtool, "test", "rules", RULE_TESTS)


def test_promtool_takes_the_configuration_of_the_page(promtool: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(# prometheus.yml\n.*?)```", PAGE.read_text(), re.DOTALL)
    config = tmp_path / "prometheus.yml"
    config.write_text(example.replace("/etc/prometheus/lando-fsm.rules.yml", str(RULES)))
    assert "SUCCESS" in run(promtool, "check", "config", config)
    (job,) = yaml.safe_load(example)["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in RULES.read_text()


def test_promtool_takes_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    """As rules, of which one file costs one process."""
    named = [
        {"record": f"dashboard:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "dashboard.rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": named}]}))
    run(promtool, "check", "rules", file)


# without metrics


def test_a_daemon_without_metrics_loads_nothing_of_them() -> None:
    """So its start takes as long as before, and its memory is as small."""
    loads = "import sys, lando.app.service, lando.cli.daemon, lando.cli.check; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loads], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = done.stdout.split()
    assert "lando.daemon.meter" in loaded
    assert [
        name for name in loaded if name.startswith(("prometheus_client", "lando.metrics", "http.server"))
    ] == []
