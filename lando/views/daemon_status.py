"""The daemon, as the commands see it."""

from __future__ import annotations

from dataclasses import dataclass

from lando.store.facts import LostJobs, Staying, UnknownResources, UnknownServer
from lando.times import rfc3339
from lando.views import lost_jobs

NOTHING = UnknownResources()
NO_REPORTS = LostJobs()
SHOWN = 3
"""How many unknown servers, or resources that stay, are named; ``servers`` lists all."""


@dataclass(frozen=True)
class DaemonStatus:
    """Whether a daemon runs, and whether it reaches the work queue and the cloud."""

    pid: int | None
    """None: none is running."""
    disconnected_since: float | None = None
    """Epoch seconds since which it does not reach the work queue."""
    disconnected_reason: str = ""
    cloud_silent_since: float | None = None
    """Epoch seconds since which the cloud does not answer it."""
    cloud_silent_reason: str = ""
    no_boot_since: float | None = None
    """Epoch seconds since which servers of several jobs failed to boot, and none has booted."""
    no_boot_reason: str = ""
    no_start_since: float | None = None
    """Epoch seconds since which no job could be started, whatever it asks for."""
    no_start_reason: str = ""
    unrecorded_since: float | None = None
    """Epoch seconds since which it has recorded nothing, which it does every few seconds."""
    unrecorded_reason: str = ""
    """Why, if it says so."""
    unknown: UnknownResources = NOTHING
    """What it last saw in the cloud that the database does not know."""
    staying: tuple[Staying, ...] = ()
    """What belongs to no job, and cannot be deleted."""
    reported: LostJobs = NO_REPORTS
    """Which jobs reports have named that the database does not have."""

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What keeps the daemon from its work, what it does not know and what it cannot delete, each with the
        reason."""
        return [
            (problem, reason)
            for problem, reason in (
                (self.database_problem, self._why_unrecorded),
                (self.queue_problem, self.disconnected_reason),
                (self.cloud_problem, self.cloud_silent_reason),
                (self.start_problem, self.no_start_reason),
                (self.boot_problem, self.no_boot_reason),
                (self.unknown_problem, self._unknown_servers),
                *lost_jobs.sentences([each for each in self.unknown.servers if each.ours], self.reported),
                (self.staying_problem, self._what_stays),
            )
            if problem
        ]

    @property
    def database_problem(self) -> str:
        """The sentence about the database; empty where the daemon writes to it."""
        if self.unrecorded_since is None:
            return ""
        return f"the daemon has written nothing to its database since {rfc3339(self.unrecorded_since)}"

    @property
    def _why_unrecorded(self) -> str:
        if self.unrecorded_reason:
            return self.unrecorded_reason
        return "it is locked, its disk is full or fails, or the daemon is stopped: see the daemon's log"

    @property
    def queue_problem(self) -> str:
        """The sentence about the work queue; empty where the daemon is connected."""
        if self.disconnected_since is None:
            return ""
        return (
            f"the daemon has been disconnected from the work queue since {rfc3339(self.disconnected_since)}"
        )

    @property
    def cloud_problem(self) -> str:
        """The sentence about the cloud; empty where it answers."""
        if self.cloud_silent_since is None:
            return ""
        return f"the cloud has not answered since {rfc3339(self.cloud_silent_since)}"

    @property
    def start_problem(self) -> str:
        """The sentence about jobs that cannot be started; empty where another one says why."""
        if self.no_start_since is None or self.cloud_silent_since is not None:
            return ""
        return f"no job has been started since {rfc3339(self.no_start_since)}"

    @property
    def boot_problem(self) -> str:
        """The sentence about servers that do not boot; empty where they do."""
        if self.no_boot_since is None:
            return ""
        return f"VMs have failed to boot since {rfc3339(self.no_boot_since)}; one job at a time is tried"

    @property
    def unknown_problem(self) -> str:
        """The sentence about what is unknown to the database; empty where nothing is."""
        servers = sum(server.ours for server in self.unknown.servers) + self.unknown.more
        if not servers:
            return ""
        floating_ips = self.unknown.floating_ips
        also = f" and {floating_ips:,} floating IP{'s' * (floating_ips > 1)}" if floating_ips else ""
        are = "are" if servers + floating_ips > 1 else "is"
        return f"{servers:,} VM{'s' * (servers > 1)}{also} of this deployment {are} unknown to this database"

    @property
    def _unknown_servers(self) -> str:
        ours = [server for server in self.unknown.servers if server.ours]
        named = [f"{each.name} ({_what_it_names(each)})" for each in ours[:SHOWN]]
        if len(ours) > SHOWN:
            named.append(f"and {len(ours) - SHOWN + self.unknown.more:,} more")
        return f"{', '.join(named)}; left alone: see `lando-fsm servers`"

    @property
    def staying_problem(self) -> str:
        """The sentence about what cannot be deleted; empty where nothing is."""
        if not self.staying:
            return ""
        since = rfc3339(min(each.since for each in self.staying))
        each_is = "orphan has" if len(self.staying) == 1 else "orphans have"
        return f"{len(self.staying):,} {each_is} not been deleted since {since}, and may cost money"

    @property
    def _what_stays(self) -> str:
        told = [f"{each.described}: {each.sentence}" for each in self.staying[:SHOWN]]
        if len(self.staying) > SHOWN:
            told.append(f"and {len(self.staying) - SHOWN:,} more: see `lando-fsm servers`")
        return "; ".join(told)


def _what_it_names(server: UnknownServer) -> str:
    attempt = "" if server.attempt is None else f", attempt {server.attempt}"
    return f"job {server.job_id}{attempt}"
