"""What the database does not know is logged once, and recorded; its jobs get no other server."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from lando.cloud.interface import FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.unknown import RECORDED, TOLD, Unknown
from lando.engine.ownership import why_unknown
from lando.states.job import CreateRequest, Job
from lando.store.facts import UnknownResources, UnknownServer
from lando.store.store import Store
from lando.views.daemon_status import DaemonStatus
from tests.model.ledger import MemoryLedger

SERVER = Server("server-1", "lando-a-1", "ACTIVE", "mark-1", "ours", "a", 1)
FOREIGN = replace(SERVER, id="server-2", name="vm", deployment="theirs", job_id="b")
ADDRESS = FloatingIp("ip-1", "192.0.2.1", "mark-1", "ours", "port")
GRACE = 60.0
QUEUED = [Job("b")]


def recorded(store: Store, unknown: Unknown) -> UnknownResources:
    with store.transaction() as transaction:
        unknown.write(transaction)
    with store.reading() as queries:
        return queries.unknown()


def test_it_is_recorded_with_its_floating_ips_for_as_long_as_it_is_there(store: Store) -> None:
    unknown = Unknown("ours", GRACE)
    assert recorded(store, unknown) == UnknownResources()
    unknown.look(CloudSnapshot((SERVER,), floating_ips=(ADDRESS,)), [], 0.0)
    ours = UnknownServer("server-1", "lando-a-1", "a", 1, ours=True, is_job_known=False)
    assert recorded(store, unknown) == UnknownResources((ours,), floating_ips=1)
    unknown.look(CloudSnapshot((SERVER,)), [], 0.0)
    assert recorded(store, unknown) == UnknownResources((ours,), floating_ips=1), "they were not listed"
    for now in (100.0, 100.0 + GRACE - 1):
        unknown.look(CloudSnapshot((), floating_ips=()), [], now)
        assert recorded(store, unknown) == UnknownResources((ours,)), "a list may lag behind"
        assert unknown.jobs == {"a"}
    unknown.look(CloudSnapshot((SERVER,)), [], 100.0 + GRACE)
    unknown.look(CloudSnapshot(()), [], 101.0 + GRACE)
    assert unknown.jobs == {"a"}, "it was there in between"
    unknown.look(CloudSnapshot(()), [], 101.0 + 2 * GRACE)
    assert recorded(store, unknown) == UnknownResources()
    assert unknown.jobs == frozenset()


def test_a_server_that_the_database_knows_in_the_end_is_not_unknown_any_more() -> None:
    unknown = Unknown("ours", GRACE)
    unknown.look(CloudSnapshot((SERVER,)), [], 0.0)
    owner = Job("a", "booting", attempt=1, requests=(CreateRequest("mark-1", "token", "sent"),))
    unknown.look(CloudSnapshot((SERVER,)), [owner], 1.0)
    assert unknown.jobs == frozenset()
    unknown.look(CloudSnapshot(()), [owner], 2.0)
    assert unknown.jobs == frozenset()


def test_a_job_waits_until_an_orphan_that_names_it_is_gone(store: Store) -> None:
    unknown = Unknown("ours", GRACE)
    waits = Job("a", attempt=1)
    unknown.look(CloudSnapshot((SERVER, replace(SERVER, id="theirs", deployment="theirs"))), [waits], 0.0)
    assert unknown.jobs == {"a"}, "the sweep deletes it: until then two servers would run the job"
    orphan = UnknownServer("server-1", "lando-a-1", "a", 1, ours=True)
    assert recorded(store, unknown) == UnknownResources(orphans=(orphan,))
    unknown.look(CloudSnapshot((replace(SERVER, deployment="theirs"),)), [waits], 1.0)
    assert unknown.jobs == frozenset(), "nobody here deletes it"
    assert recorded(store, unknown) == UnknownResources()


def test_before_the_servers_were_listed_no_server_is_requested() -> None:
    unknown, transaction = Unknown("ours", GRACE), MemoryLedger()
    unknown.hold_back(transaction)  # type: ignore[arg-type]
    assert not transaction.is_cloud_known
    unknown.look(CloudSnapshot((SERVER,)), [], 0.0)
    unknown.hold_back(transaction)  # type: ignore[arg-type]
    assert transaction.is_cloud_known
    assert transaction.held_back == {"a"}


def test_thousands_are_told_and_recorded_by_their_number(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lando")
    foreign = [replace(FOREIGN, id=f"f{number}", job_id=f"b{number}") for number in range(200)]
    ours = [replace(SERVER, id=f"s{number}", job_id=f"a{number}") for number in range(3_000)]
    unknown = Unknown("ours", GRACE)
    jobs = [Job("a2999"), *(Job(f"b{number}") for number in range(200))]
    for _ in range(2):
        unknown.look(CloudSnapshot((*foreign, *ours)), jobs, 0.0)
    assert len(unknown.jobs) == 3_200, "no server is requested for any of them"
    written = recorded(store, unknown)
    assert (len(written.servers), written.more) == (RECORDED, 3_000 - RECORDED)
    assert written.servers[0].job_id == "a2999", "first those of this deployment that keep a job waiting"
    assert len(caplog.messages) == TOLD + 1
    assert caplog.messages[-1] == "3,180 more are unknown to this database: see `lando-fsm servers`"
    (problem, named), (lost, _) = DaemonStatus(1, unknown=written).problems
    assert lost.startswith("99 jobs "), "those that are recorded and that the database does not have"
    assert problem.startswith("3,000 VMs of this deployment") and ", and 2,997 more; " in named


def test_a_server_of_another_deployment_counts_where_it_names_a_job_of_this_database(store: Store) -> None:
    unknown = Unknown("ours", GRACE)
    unknown.look(CloudSnapshot((FOREIGN,)), [], 0.0)
    assert recorded(store, unknown) == UnknownResources()
    assert unknown.jobs == {"b"}, "it may be submitted any time"
    unknown.look(CloudSnapshot((FOREIGN,)), QUEUED, 0.0)
    (shown,) = recorded(store, unknown).servers
    assert (shown.job_id, shown.ours) == ("b", False)


def test_each_is_logged_once_with_what_it_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lando")
    unknown = Unknown("ours", GRACE)
    for _ in range(3):
        unknown.look(CloudSnapshot((SERVER, FOREIGN), floating_ips=(ADDRESS,)), QUEUED, 0.0)
    alone = "is unknown to this database, and left alone: it"
    assert caplog.messages == [
        f"server lando-a-1 (server-1) {alone} names job a, attempt 1; the database never had that job",
        f"server vm (server-2) {alone} names attempt 1 of job b, of which the database knows no attempt",
        f"floating IP 192.0.2.1 (ip-1) {alone} is the floating IP of a VM that is unknown",
    ]
    unknown.look(CloudSnapshot(()), QUEUED, 1.0)
    unknown.look(CloudSnapshot((SERVER,)), QUEUED, 2.0)
    assert len(caplog.messages) == 3, "it was not listed once"
    for now in (3.0, 3.0 + GRACE):
        unknown.look(CloudSnapshot(()), QUEUED, now)
    unknown.look(CloudSnapshot((SERVER,)), QUEUED, 4.0 + GRACE)
    assert len(caplog.messages) == 4, "it is there again"


def test_a_server_that_names_no_attempt_is_told_without_one() -> None:
    server = replace(SERVER, attempt=None)
    assert why_unknown(server, None) == "it names job a; the database never had that job"
    said = "it names job a, of which the database knows no attempt"
    assert why_unknown(server, Job("a")) == said
