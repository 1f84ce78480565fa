"""The broker as workers on VMs are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lando.app.rabbitmq import MAX_AUTHORITIES, worker_queue, worker_settings
from lando.app.server_request import ServerRequests
from lando.config.site_config import load
from lando.config.work_queue import WorkQueueConfig
from lando.engine.operations import SendCreate
from lando.errors import LandoError, UsageError
from lando.redaction import Secret
from lando.states.job import Job
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls
from tests.support.certificates import CERTIFICATE


def queue(tls: Tls | None) -> WorkQueueConfig:
    broker = BrokerSettings(
        *("h", 5671, "v", "lando", Secret("hunter2")), tls=tls, prefix="c.yml: work_queue.", from_url=True
    )
    return WorkQueueConfig(broker, "lobot", Secret("hunter2-worker"), worker_host="10.0.0.5")


def test_workers_get_the_authorities_but_no_client_certificate(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    text = CERTIFICATE.ljust(MAX_AUTHORITIES, "x")
    ca.write_text(text)
    configured = queue(Tls(ca, tmp_path / "lando.pem", tmp_path / "lando.key"))
    assert worker_queue(configured)["tls"] == {"authorities": text}
    assert worker_settings(configured).tls == Tls(ca)


def test_workers_have_their_own_account_and_address() -> None:
    told = worker_queue(queue(None))
    assert (told["host"], told["username"], told["password"]) == ("10.0.0.5", "lobot", "hunter2-worker")
    tried = worker_settings(queue(None))
    assert (tried.host, tried.username, tried.password.reveal()) == ("h", "lobot", "hunter2-worker")
    assert tried.setting("password") == "c.yml: work_queue.worker_password"


def test_authorities_too_large_for_a_start_up_script(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(CERTIFICATE.ljust(MAX_AUTHORITIES + 1, "x"))
    with pytest.raises(UsageError, match=r"c\.yml: work_queue\.tls\.ca: .*ca\.pem has 12,001 characters"):
        worker_queue(queue(Tls(ca)))


@pytest.mark.parametrize("content", [None, CERTIFICATE[:200]])
def test_no_job_fails_because_the_file_of_authorities_is_being_replaced(
    tmp_path: Path, content: str | None
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(CERTIFICATE)
    (tmp_path / "landoconfig.yml").write_text(
        "work_queue: {host: h, username: u, password: p, worker_username: w, worker_password: x, "
        "tls: {ca: ca.pem}}\ncloud: local\n"
    )
    requests = ServerRequests(load(tmp_path / "landoconfig.yml"))
    ca.unlink()
    if content is not None:
        ca.write_text(content)
    body = {"git_clone": "https://h/r.git", "cd": ".", "input": {}, "run_cwl": "w.cwl"}
    create = SendCreate(Job("j", server_name="s", attempt=1), "mark", "token")
    assert requests.accept(body)
    assert "outputs" in requests.needs(body)
    with pytest.raises(LandoError, match=r"work_queue\.tls\.ca: ") as error:
        requests.request(create, body, "d")
    assert not isinstance(error.value, UsageError), "that would fail the job for good"
    ca.write_text(CERTIFICATE + CERTIFICATE)
    assert requests.request(create, body, "d").user_data
