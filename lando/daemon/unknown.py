"""What is in the cloud and unknown to the database: logged once, recorded for ``status``, and no server is
requested for the jobs that it names."""

from __future__ import annotations

from collections.abc import Iterable

from lando.cloud.interface import FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.log import log
from lando.daemon.recorded_fact import RecordedFact
from lando.engine.leaks import unowned_floating_ips, unowned_servers
from lando.engine.ownership import CloudResource, described, why_unknown
from lando.states.job import Job
from lando.store.facts import UNKNOWN_FACT, UnknownResources, UnknownServer, unknown_value
from lando.store.transaction import Transaction

NOT_LISTED = "no job is started before the cloud's VMs were listed once"


class Unknown:
    """What the last snapshots showed. One thread uses it, and it does not outlive the process.

    Args:
        deployment: the deployment's name, which all our servers carry.
    """

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._fact = RecordedFact(UNKNOWN_FACT)
        self._servers: tuple[UnknownServer, ...] = ()
        self._floating_ips: tuple[FloatingIp, ...] = ()
        self._told: set[str] = set()
        self._was_listed = False
        self.jobs: frozenset[str] = frozenset()
        """Those that an unknown server names, whether the database has them or not: one of another deployment
        may be theirs, too, if this database is a copy that was renamed."""

    @property
    def obstacle(self) -> str | None:
        """Why no job can be admitted yet: any of them may have a server that the database does not know."""
        return None if self._was_listed else NOT_LISTED

    def look(self, snapshot: CloudSnapshot, jobs: Iterable[Job]) -> None:
        """Take another snapshot.

        Args:
            snapshot: what the cloud showed.
            jobs: every job that may own a server and every job that a server names.
        """
        by_id = {job.id: job for job in jobs}
        unknown = unowned_servers(snapshot, by_id.values()).unknown
        if snapshot.floating_ips is not None:
            found = unowned_floating_ips(snapshot.floating_ips, by_id.values(), unknown).unknown
            self._floating_ips = tuple(each for each in found if each.deployment == self._deployment)
        concerns_us = [
            server for server in unknown if server.deployment == self._deployment or server.job_id in by_id
        ]
        self._servers = tuple(self._record(server) for server in concerns_us)
        self.jobs = frozenset(server.job_id for server in unknown if server.job_id is not None)
        self._was_listed = True
        self._tell((*concerns_us, *self._floating_ips), by_id)

    def write(self, transaction: Transaction) -> None:
        """Record it for ``status``."""
        if self._was_listed:
            self._fact.write(
                transaction, unknown_value(UnknownResources(self._servers, len(self._floating_ips)))
            )

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()

    def _record(self, server: Server) -> UnknownServer:
        assert server.job_id is not None
        ours = server.deployment == self._deployment
        return UnknownServer(server.id, server.name, server.job_id, server.attempt, ours)

    def _tell(self, unknown: Iterable[CloudResource], jobs: dict[str, Job]) -> None:
        before, self._told = self._told, set()
        for resource in unknown:
            self._told.add(resource.id)
            if resource.id not in before:
                named = resource.job_id if isinstance(resource, Server) else None
                why = why_unknown(resource, None if named is None else jobs.get(named))
                log.warning("%s is unknown to this database, and left alone: %s", described(resource), why)
