"""Policies of a real broker that would cost messages: ``check`` and the daemon name them, where they can be
seen."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lando.redaction import Secret
from lando.workqueue.rabbitmq import policies
from lando.workqueue.rabbitmq.policies import PoliciesUnseen, harmful_policies
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls
from lando.workqueue.rabbitmq.topology import REPORT_BYTES_WAITING, REPORTS_WAITING
from tests.support.local_site import wait_for
from tests.support.rabbitmq_server import Broker, VirtualHost, make_certificates, require_server
from tests.support.rabbitmq_site import BrokerSite

ADDRESS = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250 + 1}.7"
"""Of the loopback network, so that the management plugin can have its usual port."""


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with the management plugin."""
    require_server()
    broker = Broker(tmp_path_factory.mktemp("managed") / "rabbitmq", tls=True)
    shutil.rmtree(broker.root / "certificates")
    make_certificates(broker.root / "certificates", ADDRESS)
    certificates = broker.certificates
    assert certificates is not None
    (broker.root / "enabled_plugins").write_text("[rabbitmq_management].")
    with (broker.root / "rabbitmq.conf").open("a") as settings:
        settings.write(f"listeners.tcp.2 = {ADDRESS}:{broker.port}\n")
        settings.write(f"management.tcp.ip = {ADDRESS}\nmanagement.tcp.port = {policies.PORT}\n")
        settings.write(f"management.ssl.ip = {ADDRESS}\nmanagement.ssl.port = {policies.TLS_PORT}\n")
        settings.write(f"management.ssl.cacertfile = {certificates.ca}\n")
        settings.write(f"management.ssl.certfile = {certificates.server}\n")
        settings.write(f"management.ssl.keyfile = {certificates.server_key}\n")
        settings.write("collect_statistics_interval = 300\n")
    (broker.root / "advanced.config").write_text("[{rabbit, [{quorum_tick_interval, 300}]}].")
    with broker.running():
        yield broker


@pytest.fixture
def here(managed: Broker) -> Iterator[VirtualHost]:
    virtual_host = managed.virtual_host()
    yield virtual_host
    virtual_host.close()


def account(here: VirtualHost) -> BrokerSettings:
    daemon = here.daemon
    return BrokerSettings(
        ADDRESS, here.broker.port, here.name, daemon.username, Secret(daemon.password), prefix="c.yml: "
    )


def set_policy(here: VirtualHost, name: str, definition: str, operator: str = "") -> None:
    assert isinstance(here.broker, Broker)
    what = f'<<"{here.name}">>, <<"{name}">>, <<"^lando">>, [{definition}], 0, <<"queues">>, <<"tests">>'
    here.broker.evaluate(f"ok = rabbit_policy:{'set_op' if operator else 'set'}({what})")


def permit(here: VirtualHost) -> None:
    assert isinstance(here.broker, Broker)
    here.broker.evaluate(
        f'rabbit_auth_backend_internal:set_tags(<<"{here.daemon.username}">>, [management], <<"tests">>)'
    )


def test_harmful_policies_are_told_by_name(here: VirtualHost, tmp_path: Path) -> None:
    site = BrokerSite(tmp_path / "site", here, host=ADDRESS)
    try:
        assert "since the account" in (line := policy_line(site)) and " may not ask " in line
        permit(here)
        assert "since the queues do not exist yet" in policy_line(site)
        set_policy(here, "tidy", '{<<"expires">>, 1800000}, {<<"message-ttl">>, 60000}')
        set_policy(here, "capped", '{<<"max-length">>, 100}', operator="yes")
        site.start_daemon()
        line = policy_line(site)
        assert line.split()[2] == "warning"
        for queue in ("lando", "lando.reports", "lando.dead-letters", "lando.dead-letters.reports"):
            assert (
                "policy 'tidy' and operator policy 'capped': expires: 1800000, max-length: 100, "
                f"message-ttl: 60000 on the queue '{queue}'" in line
            )
        wait_for(lambda: "policy 'tidy' and operator policy 'capped'" in site.daemon_log(), "the warning")
    finally:
        site.close()


def policy_line(site: BrokerSite) -> str:
    """What ``check`` says of policies."""
    said = site.command("check", check=False).stdout
    [line] = [line for line in said.splitlines() if line.startswith("queue policies")]
    return line


def test_what_our_own_arguments_outweigh_is_harmless(here: VirtualHost) -> None:
    site = account(here)
    permit(here)
    with here.connect(here.admin) as connection:
        kind = {"x-queue-type": "quorum"}
        connection.channel().queue_declare(here.names.reports, durable=True, arguments=kind)
    set_policy(
        here,
        "wide",
        f'{{<<"max-length">>, {REPORTS_WAITING}}}, {{<<"max-length-bytes">>, {REPORT_BYTES_WAITING}}}, '
        '{<<"overflow">>, <<"drop-head">>}, {<<"dead-letter-exchange">>, <<"elsewhere">>}, '
        '{<<"queue-mode">>, <<"lazy">>}',
    )
    assert harmful_policies(site, here.names) == []
    set_policy(here, "wide", f'{{<<"max-length">>, {REPORTS_WAITING - 1}}}')

    def told() -> list[str]:
        return [str(policy) for policy in harmful_policies(site, here.names)]

    wait_for(lambda: told() == ["policy 'wide': max-length: 2999 on the queue 'lando.reports'"], "the policy")


def test_with_tls_the_plugin_proves_who_it_is(here: VirtualHost, managed: Broker) -> None:
    permit(here)
    set_policy(here, "tidy", '{<<"expires">>, 1800000}')
    with here.connect(here.admin) as connection:
        connection.channel().queue_declare(here.names.dead_letters, durable=True)
    assert managed.certificates is not None
    known = replace(account(here), tls=Tls(managed.certificates.ca))
    [found] = harmful_policies(known, here.names)
    assert str(found) == "policy 'tidy': expires: 1800000 on the queue 'lando.dead-letters'"
    foreign = replace(known, tls=Tls(managed.certificates.ca.with_name("foreign.pem")))
    with pytest.raises(
        PoliciesUnseen, match=r"no management plugin answers at https://.*:15671: .*verify failed"
    ):
        harmful_policies(foreign, here.names)


def test_without_the_plugin_nothing_is_seen(here: VirtualHost) -> None:
    with pytest.raises(PoliciesUnseen, match=r"no management plugin answers at http://127\.0\.0\.9:15672: "):
        harmful_policies(replace(account(here), host="127.0.0.9"), here.names)
