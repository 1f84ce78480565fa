"""A site whose VMs are servers of an OpenStack, reached through a proxy, and whose queue is RabbitMQ."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lando.cloud.interface import FloatingIp, Server, ServerRequest
from lando.config import job_file
from lando.engine.admission import server_name
from lando.engine.ledger import StateChange
from lando.messages import Message
from lando.states.job import Job
from lando.store.store import Store
from lando.views.job_status import JobStatus
from tests.support.local_site import Gate, wait_for, workflow
from tests.support.openstack_project import Facility, connect_to
from tests.support.openstack_proxy import CloudProxy
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 120.0
"""Seconds on the fake after which a test gives up waiting; never waited for when all is well."""

CONFIG = """
deployment: {deployment}
timeouts:
  boot: {boot}
  silence: 60
  heartbeat: 1
  retry_first: 0.1
  retry_longest: 1
  observe: {observe}
  grace: {grace}
  hold: {hold}
  settle: {settle}
worker:
  command: {checkout}/lando_worker.sh
  user: root
  protect: false
"""

QUICK = """
  cwl_base_command: [bash, -c, 'bash script.sh >&2 && echo "{{}}"']
"""
"""A site's own CWL runner; see ``tests.support.local_site.QUICK``."""

SHARED = re.compile(
    r"(identity|image|network|volumev3) "
    r"|GET compute (/servers/detail|/limits|/flavors(/detail)?|/os-(keypairs|availability-zone)|/|/v[0-9.]+)$"
)
"""Calls that are not of one job's server: however many jobs there are, they are made once, or once a look."""


@dataclass
class Stage:
    """Where a scenario plays: a cloud, a broker, and a directory; ``close`` ends what was started there.

    Args:
        root: the directory.
        here: the broker's virtual host.
        facility: the cloud.
        tell: takes a line for the terminal's summary.
        slowness: how many times as long as the fake the cloud takes for what it does.
    """

    root: Path
    here: VirtualHost
    facility: Facility
    tell: Callable[[str], None]
    slowness: float = 1.0
    started: list[OpenStackSite] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)

    def site(self, **how: Any) -> OpenStackSite:
        """The scenario's site; see ``OpenStackSite``."""
        site = OpenStackSite(self.root / "site", self, **how)
        self.started.append(site)
        return site

    def gate(self) -> Gate:
        """The scenario's gate."""
        gate = Gate(self.root)
        self.gates.append(gate)
        return gate

    def close(self) -> None:
        """End everything."""
        for site in self.started:
            site.close()
        for gate in self.gates:
            gate.close()


class OpenStackSite(BrokerSite):
    """A BrokerSite on OpenStack, configured in the original's keys and a few of today's.

    ``cloud`` is the project as somebody else sees it: on a connection of its own, past the proxy.

    Args:
        root: its directory.
        stage: where it is.
        pool: servers get floating IPs.
        quick: a CWL runner that costs nothing, rather than cwltool.
        direct: without a proxy between the daemon and the cloud.
        timeouts: seconds, in place of the usual ones.
    """

    def __init__(
        self,
        root: Path,
        stage: Stage,
        pool: bool = False,
        quick: bool = True,
        direct: bool = False,
        **timeouts: float,
    ) -> None:
        self.facility, self.slowness = stage.facility, stage.slowness
        self.patience = PATIENCE * stage.slowness
        self.deployment = f"test-{uuid.uuid4().hex[:12]}"
        self.proxy = CloudProxy(self.facility.cloud_settings["auth_url"])
        cloud_settings = self.facility.cloud_settings | ({} if direct else {"auth_url": self.proxy.auth_url})
        vm_settings = self.facility.vm_settings
        if pool:
            vm_settings = vm_settings | {"floating_ip_pool_name": self.facility.floating_ip_pool_name}
        usual = {"boot": 60.0, "observe": 0.5, "grace": 1.5, "hold": 0.5, "settle": 1.5}
        seconds = {name: round(usual[name] * stage.slowness, 1) for name in usual} | timeouts
        super().__init__(
            root,
            stage.here,
            config=CONFIG.format(deployment=self.deployment, checkout=CHECKOUT, **seconds)
            + (QUICK if quick else ""),
            cloud=yaml.safe_dump({"vm_settings": vm_settings, "cloud_settings": cloud_settings}),
        )
        self.cloud = connect_to(self.facility)
        self.tally = root / "tally"

    def close(self) -> None:
        """See ``LocalSite.close``; servers that a test left are deleted."""
        super().close()
        self.proxy.close()
        for server in self.servers():
            self.cloud.delete(server.id)
        for floating_ip in self.floating_ips():
            self.cloud.floating_ips.delete(floating_ip.id)

    # jobs

    def queue_jobs(self, count: int, script: str = "", name: str = "wf", **more: Any) -> list[str]:
        """Queue as many jobs, with more keys in their file; their ids, in order.

        Each adds a line to ``tally`` when its workflow runs.
        """
        job = workflow(self.root, f"echo {name} >> {self.tally}\n{script}", name)
        job.write_text(job.read_text() + yaml.safe_dump(more) if more else job.read_text())
        body = job_file.read(job).as_body()
        ids = [str(uuid.uuid4()) for _ in range(count)]
        self.publish(*[Message("start_worker", body, job=each, id=f"start-{each}") for each in ids])
        return ids

    @property
    def runs(self) -> int:
        """How many workflows have begun."""
        return len(self.tally.read_text().splitlines()) if self.tally.exists() else 0

    def shown(self, jobs: Sequence[str]) -> list[JobStatus]:
        """What ``status`` knows of these jobs."""
        return self.views().jobs(ids=jobs)

    def history(self, job: str) -> list[StateChange]:
        """What ``history`` shows."""
        return self.views().history(job)

    def wait_until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for as long as this cloud may take; asks seldom."""

        def answer() -> Any:
            found = condition()
            if not found:
                time.sleep(0.25)
            return found

        return wait_for(answer, f"{what}\n{self.daemon_log()[-3000:]}", self.patience)

    def wait_all_done(self, jobs: Sequence[str]) -> list[JobStatus]:
        """Wait until all have ended; all are done, each with one result that was counted once."""
        views = self.views()

        def ended() -> list[JobStatus]:
            seen = views.jobs(ids=jobs)
            return seen if all(each.ended for each in seen) else []

        found: list[JobStatus] = self.wait_until(ended, f"{len(jobs)} jobs to end")
        failed = [(each.job.id, each.reason) for each in found if each.job.state != "done"]
        assert not failed, f"{failed}\n{self.daemon_log()}"
        assert {each.job.id for each in found} == set(jobs)
        assert [each.job.output_object for each in found] == [{}] * len(jobs)
        for job in jobs:
            results = [change for change in self.history(job) if change.target == "done"]
            assert len(results) == 1, results
        return found

    def nothing_is_left(self, sweeps: bool = False) -> None:
        """Wait until the project has no server and no floating IP of ours, and the queue no message.

        Args:
            sweeps: whether some of it may have belonged to no job.
        """
        self.wait_until(lambda: not self.servers(), "every server to be gone")
        self.wait_until(lambda: not self.floating_ips(), "every floating IP to be gone")
        wait_for(lambda: self.here.messages() == 0, "the queue to be empty")
        assert self.letters() == []
        assert sweeps or "to no job" not in self.logs_of_all_daemons(), self.logs_of_all_daemons()

    # the project

    def servers(self) -> list[Server]:
        """Those that carry our mark."""
        return [server for server in self.cloud.servers() if server.deployment == self.deployment]

    def floating_ips(self) -> list[FloatingIp]:
        """Those that carry our mark."""
        return [each for each in self.cloud.floating_ips.all() if each.deployment == self.deployment]

    def leak(self) -> str:
        """A server with our mark, of a job that has ended; its id."""
        job = str(uuid.uuid4())
        self.make_state()
        store = Store(self.app().config.database_url)
        with closing(store), store.transaction() as transaction:
            body = {"git_clone": "x", "cd": ".", "input": {}, "run_cwl": "x"}
            transaction.insert_job(Job(job, state="done", attempt=1), body, None)
        request = ServerRequest(server_name(job, 1), uuid.uuid4().hex, self.deployment, job, 1, b"")
        return self.cloud.create(request).id

    @contextmanager
    def foreign(self) -> Iterator[str]:
        """Somebody else's server, named like ours; its id. It lives until the block ends."""
        server: str = self.cloud.nova.servers.create(
            server_name(str(uuid.uuid4()), 1),
            self.cloud.image().id,
            self.cloud.flavor().id,
            nics=[{"net-id": network.id} for network in self.cloud.networks()],
        ).id
        try:
            yield server
            assert self.cloud.get(server) is not None, "a server of others was deleted"
        finally:
            self.cloud.delete(server)
        self.wait_until(lambda: self.cloud.get(server) is None, "the server of others to be gone")

    # calls

    def calls(self) -> tuple[dict[str, int], dict[str, int]]:
        """How often what was called: for single servers, and for all of them."""
        every = self.proxy.calls.by_label()
        shared = {label: n for label, n in every.items() if SHARED.search(label)}
        return {label: n for label, n in every.items() if label not in shared}, shared
