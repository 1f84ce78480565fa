"""What the database does not know is logged once, and recorded; its jobs get no other server."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from lando.cloud.interface import FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.unknown import Unknown
from lando.engine.ownership import why_unknown
from lando.states.job import Job
from lando.store.facts import UnknownResources, UnknownServer
from lando.store.store import Store

SERVER = Server("server-1", "lando-a-1", "ACTIVE", "mark-1", "ours", "a", 1)
FOREIGN = replace(SERVER, id="server-2", name="vm", deployment="theirs", job_id="b")
ADDRESS = FloatingIp("ip-1", "192.0.2.1", "mark-1", "ours", "port")
QUEUED = [Job("b")]


def recorded(store: Store, unknown: Unknown) -> UnknownResources:
    with store.transaction() as transaction:
        unknown.write(transaction)
    with store.reading() as queries:
        return queries.unknown()


def test_it_is_recorded_with_its_floating_ips_for_as_long_as_it_is_there(store: Store) -> None:
    unknown = Unknown("ours")
    assert recorded(store, unknown) == UnknownResources()
    unknown.look(CloudSnapshot((SERVER,), floating_ips=(ADDRESS,)), [])
    ours = UnknownServer("server-1", "lando-a-1", "a", 1, ours=True)
    assert recorded(store, unknown) == UnknownResources((ours,), floating_ips=1)
    unknown.look(CloudSnapshot((SERVER,)), [])
    assert recorded(store, unknown) == UnknownResources((ours,), floating_ips=1), "they were not listed"
    unknown.look(CloudSnapshot((), floating_ips=()), [])
    assert recorded(store, unknown) == UnknownResources()
    assert unknown.jobs == frozenset()


def test_a_server_of_another_deployment_counts_where_it_names_a_job_of_this_database(store: Store) -> None:
    unknown = Unknown("ours")
    unknown.look(CloudSnapshot((FOREIGN,)), [])
    assert recorded(store, unknown) == UnknownResources()
    assert unknown.jobs == {"b"}, "it may be submitted any time"
    unknown.look(CloudSnapshot((FOREIGN,)), QUEUED)
    (shown,) = recorded(store, unknown).servers
    assert (shown.job_id, shown.ours) == ("b", False)


def test_each_is_logged_once_with_what_it_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lando")
    unknown = Unknown("ours")
    for _ in range(3):
        unknown.look(CloudSnapshot((SERVER, FOREIGN), floating_ips=(ADDRESS,)), QUEUED)
    alone = "is unknown to this database, and left alone: it"
    assert caplog.messages == [
        f"server lando-a-1 (server-1) {alone} names job a, attempt 1; the database never had that job",
        f"server vm (server-2) {alone} names attempt 1 of job b, of which the database knows no attempt",
        f"floating IP 192.0.2.1 (ip-1) {alone} is the floating IP of a VM that is unknown",
    ]
    unknown.look(CloudSnapshot(()), QUEUED)
    unknown.look(CloudSnapshot((SERVER,)), QUEUED)
    assert len(caplog.messages) == 4, "it is there again"


def test_a_server_that_names_no_attempt_is_told_without_one() -> None:
    server = replace(SERVER, attempt=None)
    assert why_unknown(server, None) == "it names job a; the database never had that job"
    said = "it names job a, of which the database knows no attempt"
    assert why_unknown(server, Job("a")) == said
