"""The site's limits: read from landoconfig.yml, and kept at submit, by the daemon, and by retry."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lando.app.server_request import ServerRequests
from lando.cloud.interface import Cloud
from lando.config import site_config
from lando.daemon.effects import Effects
from lando.engine.operations import CreateRejected, SendCreate
from lando.errors import UsageError
from lando.states.job import Job
from lando.store.store import Store
from tests.conftest import Commands

A = "aaaaaaaa-5c1d-4e5e-9a37-0f2d3c4b5a69"
BODY = {"git_clone": "https://h/r.git", "cd": ".", "input": {}, "run_cwl": "w.cwl"}
LIMITS = """\
vm_settings: {default_flavor_name: m1.small, worker_image_name: worker}
limits:
  run_timeout: 7d
  volume_size: 500
  attempts: 5
  priority: 10
  flavors: [m1.large]
  images: []
"""


@pytest.fixture
def config(tmp_path: Path) -> site_config.Config:
    return load(tmp_path, LIMITS)


def load(directory: Path, text: str) -> site_config.Config:
    path = directory / "landoconfig.yml"
    path.write_text(text)
    return site_config.load(path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"run_timeout": 366 * 86400.0},
            "limits.run_timeout: the job asks for 366d, the site allows at most 7d",
        ),
        ({"run_timeout": 604801}, "limits.run_timeout: the job asks for 7d1s, the site allows at most 7d"),
        ({"volume_size": 501}, "limits.volume_size: the job asks for 501 GB, the site allows at most 500 GB"),
        ({"attempts": 6}, "limits.attempts: the job asks for 6, the site allows at most 5"),
        ({"priority": 11}, "limits.priority: the job asks for 11, the site allows at most 10"),
        ({"flavor": "huge"}, "limits.flavors: the job asks for huge, the site allows m1.small, m1.large"),
        ({"image": "mine"}, "limits.images: the job asks for mine, the site allows worker"),
        (
            {"priority": 11, "image": "mine"},
            "limits.priority: the job asks for 11, the site allows at most 10; "
            "limits.images: the job asks for mine, the site allows worker",
        ),
    ],
)
def test_a_job_beyond_a_limit_is_refused_with_its_name_and_value(
    config: site_config.Config, asked: dict[str, Any], said: str
) -> None:
    requests = ServerRequests(config)
    with pytest.raises(UsageError) as caught:
        requests.accept({**BODY, **asked})
    assert str(caught.value) == said
    create = SendCreate(Job("j", server_name="s"), "mark", "token")
    effects = Effects(
        Mock(Cloud), "d", lambda create, name: requests.request(create, {**BODY, **asked}, name)
    )
    rejected = effects.carry_out(create)  # it was accepted before the limit came
    assert rejected == CreateRejected("job", said, sent=False)
    unlimited = dataclasses.replace(config, limits=site_config.NO_LIMITS)
    assert ServerRequests(unlimited).accept({**BODY, **asked})


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"run_timeout": 604800, "volume_size": 500, "attempts": 5, "priority": 10, "flavor": "m1.large"},
        {"flavor": "m1.small", "image": "worker", "priority": -1_000_000},
    ],
)
def test_a_job_within_the_limits_is_taken_and_so_are_the_defaults(
    config: site_config.Config, asked: dict[str, Any]
) -> None:
    assert ServerRequests(config).accept({**BODY, **asked}).attempts == asked.get("attempts", 3)


def test_what_a_job_does_not_name_is_within_the_limits_too(tmp_path: Path) -> None:
    config = load(tmp_path, "limits: {attempts: 1, run_timeout: 2h}\n")
    assert ServerRequests(config).accept(BODY).attempts == 1
    assert config.timeouts.run == 7200.0
    shorter = load(tmp_path, "limits: {run_timeout: 2h}\ntimeouts: {run: 1h}\n")
    assert shorter.timeouts.run == 3600.0
    assert load(tmp_path, "limits: {run_timeout: 2h}\ntimeouts: {grace: 1m}\n").timeouts.run == 7200.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limits:\n  run_timeout: 367d\n", ":2: limits.run_timeout: must be at most 366d"),
        ("limits:\n  run_timeouts: 1\n", ":2: limits.run_timeouts: unknown key; did you mean run_timeout?"),
        ("limits:\n  volume_size: 0\n", ":2: limits.volume_size: must be 1 or more"),
        ("limits:\n  attempts: 101\n", ":2: limits.attempts: must be 100 or less"),
        ("limits:\n  priority: high\n", ":2: limits.priority: expected a whole number, found text"),
        ("limits:\n  priority: -1\n", ":2: limits.priority: must be 0 or more"),
        ("limits:\n  flavors: m1.large\n", ":2: limits.flavors: expected a list of texts, found text"),
        ("limits:\n  images:\n  - 5\n", ":2: limits.images[0]: expected text, found a number"),
        (
            "limits: {run_timeout: 1d12h}\ntimeouts:\n  run: 7d\n",
            ":3: timeouts.run: must be at most limits.run_timeout (1d12h)",
        ),
        ("admission:\n  reservation: 31d\n", ":2: admission.reservation: must be at most 30d"),
        ("admission:\n  reserve: 1\n", ":2: admission.reserve: unknown key; did you mean reservation?"),
    ],
)
def test_mistakes_name_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    assert f"landoconfig.yml{said}" in str(caught.value)


def test_the_reservation_is_half_an_hour_unless_configured(tmp_path: Path) -> None:
    assert load(tmp_path, "limits: {}\n").admission.reservation == 1800.0
    assert load(tmp_path, "admission: {reservation: 2h}\n").admission.reservation == 7200.0


@pytest.fixture
def limited(command: Commands, tmp_path: Path) -> Commands:
    def run(*arguments: str | Path) -> Any:
        return command("-c", tmp_path / "limited.yml", *arguments)

    (tmp_path / "limited.yml").write_text("limits: {run_timeout: 7d}\n")
    return run


def test_submit_refuses_what_the_daemon_would(limited: Commands, tmp_path: Path) -> None:
    job = tmp_path / "job.yml"
    job.write_text("git_clone: wf\ncd: .\ninput: {}\nrun_cwl: tool.cwl\nrun_timeout: 30d\n")
    said = limited("submit", job)
    assert (said.code, said.out) == (2, "")
    assert "job.yml: limits.run_timeout: the job asks for 30d, the site allows at most 7d" in said.err


def test_retry_says_so_where_the_limit_came_later(limited: Commands, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    store = Store(f"sqlite:///{tmp_path}/state/lando.db")
    with store.transaction() as transaction:
        job = Job(A, state="failed", outcome="system_failed", run_timeout=30 * 86400.0)
        transaction.insert_job(job, {**BODY, "run_timeout": 30 * 86400}, None)
    store.close()
    said = limited("retry", A)
    assert said.code == 1
    assert (
        f"{A} cannot run any more as it was submitted: limits.run_timeout: the job asks for 30d" in said.err
    )
    assert "will be run again" not in said.err
