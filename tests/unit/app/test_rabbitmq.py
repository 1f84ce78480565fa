"""The broker as workers on VMs are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lando.app.rabbitmq import MAX_AUTHORITIES, worker_queue, worker_settings
from lando.config.work_queue import WorkQueueConfig
from lando.errors import UsageError
from lando.redaction import Secret
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls


def queue(tls: Tls | None) -> WorkQueueConfig:
    broker = BrokerSettings(
        *("h", 5671, "v", "lando", Secret("hunter2")), tls=tls, prefix="c.yml: work_queue.", from_url=True
    )
    return WorkQueueConfig(broker, "lobot", Secret("hunter2-worker"), worker_host="10.0.0.5")


def test_workers_get_the_authorities_but_no_client_certificate(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x" * MAX_AUTHORITIES)
    configured = queue(Tls(ca, tmp_path / "lando.pem", tmp_path / "lando.key"))
    assert worker_queue(configured)["tls"] == {"authorities": "x" * MAX_AUTHORITIES}
    assert worker_settings(configured).tls == Tls(ca)


def test_workers_have_their_own_account_and_address() -> None:
    told = worker_queue(queue(None))
    assert (told["host"], told["username"], told["password"]) == ("10.0.0.5", "lobot", "hunter2-worker")
    tried = worker_settings(queue(None))
    assert (tried.host, tried.username, tried.password.reveal()) == ("h", "lobot", "hunter2-worker")
    assert tried.setting("password") == "c.yml: work_queue.worker_password"


def test_authorities_too_large_for_a_start_up_script(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("x" * (MAX_AUTHORITIES + 1))
    with pytest.raises(UsageError, match=r"c\.yml: work_queue\.tls\.ca: .*ca\.pem has 12,001 characters"):
        worker_queue(queue(Tls(ca)))
