"""The settings of a broker: what messages call them, and the authorities of TLS."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lando.errors import UsageError
from lando.redaction import Secret
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls
from tests.support.certificates import CERTIFICATE

BROKER = BrokerSettings("h", 5672, "/", "lando", Secret("hunter2"), prefix="c.yml: work_queue.")


def test_a_setting_has_the_name_that_it_has_in_the_file() -> None:
    assert BROKER.setting("password") == "c.yml: work_queue.password"
    worker = replace(BROKER, account_prefix="worker_")
    assert worker.setting("password") == "c.yml: work_queue.worker_password"
    assert worker.setting("tls.ca") == "c.yml: work_queue.tls.ca"
    by_url = replace(BROKER, from_url=True)
    assert by_url.setting("password") == "c.yml: work_queue.url"
    assert by_url.setting("queue_name") == "c.yml: work_queue.queue_name"


def test_authorities_are_a_file_or_its_text(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(CERTIFICATE)
    assert BROKER.authorities() is None
    assert replace(BROKER, tls=Tls()).authorities() is None
    assert replace(BROKER, tls=Tls(ca)).authorities() == CERTIFICATE
    assert replace(BROKER, tls=Tls(authorities="PEM")).authorities() == "PEM"


@pytest.mark.parametrize("content", [None, "ü"])
def test_authorities_that_cannot_be_read_are_named(tmp_path: Path, content: str | None) -> None:
    ca = tmp_path / "ca.pem"
    if content is not None:
        ca.write_text(content)
    with pytest.raises(UsageError) as error:
        replace(BROKER, tls=Tls(ca)).authorities()
    assert str(error.value).startswith(f"c.yml: work_queue.tls.ca: {ca}: ")


@pytest.mark.parametrize("content", ["", "PEM", CERTIFICATE[:-60], CERTIFICATE + CERTIFICATE[:300]])
def test_a_half_written_file_is_no_authority(tmp_path: Path, content: str) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(content)
    with pytest.raises(
        UsageError, match=r"^c\.yml: work_queue\.tls\.ca: contains no PEM certificate, or only a part"
    ):
        replace(BROKER, tls=Tls(ca)).authorities()
