"""What is in the cloud and unknown to the database: logged once, and recorded for ``status``. No server is
requested for a job that a server names which no job owns, be it unknown or an orphan: two would run the job.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from lando.cloud.interface import FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.log import log
from lando.daemon.recorded_fact import RecordedFact
from lando.engine.leaks import Unowned, held_back, unowned_floating_ips, unowned_servers
from lando.engine.ownership import CloudResource, described, why_unknown
from lando.states.job import Job
from lando.store.facts import UNKNOWN_FACT, UnknownResources, UnknownServer, unknown_value
from lando.store.transaction import Transaction

NOT_LISTED = "no job is started before the cloud's VMs were listed once"
RECORDED = 100
"""How many servers are recorded with what they name; of others their number is."""
TOLD = 20
"""How many lines of the log one snapshot may make."""


class Unknown:
    """What the last snapshots showed. One thread uses it, and it does not outlive the process.

    Args:
        deployment: the deployment's name, which all our servers carry.
        grace: seconds for which a server must be missing in the cloud's lists until it counts as gone.
    """

    def __init__(self, deployment: str, grace: float) -> None:
        self._deployment = deployment
        self._grace = grace
        self._last: tuple[Server, ...] = ()
        self._missing_since: dict[str, float] = {}
        self._fact = RecordedFact(UNKNOWN_FACT)
        self._resources = UnknownResources()
        self._floating_ips: tuple[FloatingIp, ...] = ()
        self._told: set[str] = set()
        self._was_listed = False
        self.jobs: frozenset[str] = frozenset()
        """Those that an unknown server names, whether the database has them or not: one of another deployment
        may be theirs, too, if this database is a copy that was renamed. And those that one of our orphans
        names, which the sweep deletes."""

    @property
    def obstacle(self) -> str | None:
        """Why no job can be admitted yet: any of them may have a server that the database does not know."""
        return None if self._was_listed else NOT_LISTED

    def begin_anew(self) -> None:
        """The database may know less than before: no job is admitted before another snapshot."""
        self._was_listed = False

    def hold_back(self, transaction: Transaction) -> None:
        """Tell a transaction for which jobs no server is to be requested."""
        transaction.held_back = self.jobs
        transaction.is_cloud_known = self._was_listed

    def look(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> None:
        """Take another snapshot.

        Args:
            snapshot: what the cloud showed.
            jobs: every job that may own a server and every job that a server names, listed now or unknown
                until now.
            now: ``time.monotonic()``.
        """
        by_id = {job.id: job for job in jobs}
        unowned = unowned_servers(snapshot, by_id.values())
        unknown = unowned.unknown + self._missing(snapshot, now)
        self._last = unknown
        if snapshot.floating_ips is not None:
            found = unowned_floating_ips(snapshot.floating_ips, by_id.values(), unknown).unknown
            self._floating_ips = tuple(each for each in found if each.deployment == self._deployment)
        concerns_us = [
            server for server in unknown if server.deployment == self._deployment or server.job_id in by_id
        ]
        concerns_us.sort(key=lambda each: (each.deployment != self._deployment, each.job_id not in by_id))
        ours = sum(server.deployment == self._deployment for server in concerns_us)
        self._resources = UnknownResources(
            tuple(self._record(server, by_id) for server in concerns_us[:RECORDED]),
            len(self._floating_ips),
            more=max(0, ours - RECORDED),
            orphans=tuple(self._record(each, by_id) for each in unowned.orphans if self._delays(each, by_id)),
        )
        self.jobs = held_back(Unowned(unowned.orphans, unknown), self._deployment)
        self._was_listed = True
        self._tell((*concerns_us, *self._floating_ips), by_id)

    def write(self, transaction: Transaction) -> None:
        """Record it for ``status``."""
        if self._was_listed:
            self._fact.write(transaction, unknown_value(self._resources))

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()

    def _missing(self, snapshot: CloudSnapshot, now: float) -> tuple[Server, ...]:
        """The servers that were unknown until now, and are not listed, but may exist.

        A replica of Nova's database that lags behind, or is restored, may not have them yet.
        """
        listed = {server.id for server in snapshot.servers}
        missing = [server for server in self._last if server.id not in listed]
        before = self._missing_since
        self._missing_since = {server.id: before.get(server.id, now) for server in missing}
        return tuple(server for server in missing if now - self._missing_since[server.id] < self._grace)

    def _record(self, server: Server, jobs: Mapping[str, Job]) -> UnknownServer:
        job_id = server.job_id
        assert job_id is not None
        ours = server.deployment == self._deployment
        return UnknownServer(server.id, server.name, job_id, server.attempt, ours, job_id in jobs)

    def _delays(self, orphan: Server, jobs: Mapping[str, Job]) -> bool:
        """Whether a job would start without it."""
        named = None if orphan.job_id is None else jobs.get(orphan.job_id)
        return orphan.deployment == self._deployment and named is not None and named.state == "queued"

    def _tell(self, unknown: Collection[CloudResource], jobs: dict[str, Job]) -> None:
        new = [resource for resource in unknown if resource.id not in self._told]
        self._told = {resource.id for resource in unknown}
        for resource in new[:TOLD]:
            named = resource.job_id if isinstance(resource, Server) else None
            why = why_unknown(resource, None if named is None else jobs.get(named))
            log.warning("%s is unknown to this database, and left alone: %s", described(resource), why)
        if len(new) > TOLD:
            more = len(new) - TOLD
            log.warning("%s more are unknown to this database: see `lando-fsm servers`", f"{more:,}")
