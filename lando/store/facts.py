"""Facts: small JSON values about the whole deployment, by name. The names are stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from lando.engine.boot_failures import BootFailure, BootFailures
from lando.engine.holds import ACCOUNT, Hold, Holds
from lando.engine.reservation import Reservation
from lando.times import rfc3339

DEPLOYMENT_FACT = "deployment"
"""The deployment's name, where the configuration has none."""
DAEMON_FACT = "daemon"
"""The daemon that started last: its pid, its host, and when it started."""
QUEUE_FACT = "queue"
"""Since when the daemon is disconnected from the work queue, and why."""
CLOUD_FACT = "cloud"
"""Since when the cloud does not answer, and why."""
OBSTACLE_FACT = "room"
"""What the next job in the admission order waits for."""
NO_START_FACT = "no_start"
"""Since when no job could be started, whatever it asks for, and why."""
SWEPT_FACT = "swept"
"""How many leaked resources were deleted, by kind."""
HOLD_FACT = "hold"
"""Whom refused creates keep from being admitted, as ``holds_value`` has it."""
BOOT_FAILURES_FACT = "boot_failures"
"""The servers that did not boot since the last one that did, as ``boot_failures_value`` has it."""
RESERVATION_FACT = "reservation"
"""For which job the quota is kept free, as ``reservation_value`` has it."""
PROJECT_FACT = "project"
"""The id of the cloud's project that has the servers."""
SEEN_FACT = "seen_at"
"""When the daemon last recorded that it lives."""
BOOTS_FACT = "boots"
"""How many seconds the last boots took."""
UNKNOWN_FACT = "unknown"
"""What the daemon last saw in the cloud that the database does not know, as ``unknown_value`` has it."""
RETENTION_CLOCK_FACT = "retention_clock"
"""By which time what has ended is removed: the fields of a ``BelievedClock``."""
LOST_JOBS_FACT = "lost_jobs"
"""Which jobs reports have named that the database does not have, as ``lost_jobs_value`` has it."""
STAYING_FACT = "staying"
"""What the sweep has asked to be deleted several times, and still exists, as ``staying_value`` has it."""
COPY_FACT = "copy"
"""What this database says about its being copied, or a copy: ``lando.store.copying.mark``."""


@dataclass(frozen=True)
class Staying:
    """A server or a floating IP that belongs to no job, and cannot be deleted."""

    id: str
    described: str
    """For people."""
    since: float
    """Epoch seconds at which its deletion was requested first."""
    times: int
    """How often it was requested."""
    words: str
    """Why the last request failed; empty if it was accepted."""

    @property
    def sentence(self) -> str:
        """What was done, and what came of it."""
        tries = f"deletion requested {self.times:,} times since {rfc3339(self.since)}"
        return f"{tries}, and it still exists: {self.words or 'the last request was accepted'}"


def to_staying(value: Any) -> tuple[Staying, ...]:
    """What a fact says that stays."""
    return tuple(Staying(**each) for each in value or ())


def staying_value(staying: Iterable[Staying]) -> list[dict[str, Any]]:
    """What stays, as a fact."""
    return [asdict(each) for each in staying]


@dataclass(frozen=True)
class UnknownServer:
    """A server whose job, or whose attempt, the database does not know."""

    id: str
    name: str
    job_id: str
    attempt: int | None
    ours: bool
    """It carries this deployment's name."""
    is_job_known: bool = True
    """The database has the job, and does not know of this attempt."""


@dataclass(frozen=True)
class UnknownResources:
    """What is in the cloud and unknown to the database."""

    servers: tuple[UnknownServer, ...] = ()
    """Those of this deployment, and those of others that name a job of this database."""
    floating_ips: int = 0
    """How many belong to such servers of this deployment."""
    more: int = 0
    """How many servers of this deployment there are beside these."""
    orphans: tuple[UnknownServer, ...] = ()
    """Not unknown: those that the sweep deletes, and that name a queued job, which waits for that."""


def to_unknown(value: Any) -> UnknownResources:
    """What a fact says that is unknown."""
    if value is None:
        return UnknownResources()
    servers, orphans = (
        tuple(UnknownServer(**each) for each in value.get(name, ())) for name in ("servers", "orphans")
    )
    return UnknownResources(servers, value["floating_ips"], value.get("more", 0), orphans)


def unknown_value(unknown: UnknownResources) -> dict[str, Any]:
    """What is unknown, as a fact."""
    lists = {name: [asdict(each) for each in getattr(unknown, name)] for name in ("servers", "orphans")}
    return {**vars(unknown), **lists}


@dataclass(frozen=True)
class LostJob:
    """A job, or an attempt of one, that a report has named and the database does not have."""

    job_id: str
    attempt: int
    at: float
    """Epoch seconds of a report, of the last one within a minute."""
    outcome: str | None = None
    """Of the workflow, where it was reported."""
    is_job_known: bool = False
    """The database has the job, and does not know of this attempt."""


@dataclass(frozen=True)
class LostJobs:
    """What reports have named and the database does not have."""

    jobs: tuple[LostJob, ...] = ()
    more: bool = False
    """There are others."""


def to_lost_jobs(value: Any) -> LostJobs:
    """What a fact says of lost jobs."""
    if value is None:
        return LostJobs()
    return LostJobs(tuple(LostJob(**each) for each in value["jobs"]), value["more"])


def lost_jobs_value(lost: LostJobs) -> dict[str, Any]:
    """Lost jobs as a fact."""
    return asdict(lost) | {"jobs": [asdict(each) for each in lost.jobs]}


def to_holds(value: Any) -> Holds:
    """The holds that a fact has; version 0.1 knew one, for everybody."""
    if value is None:
        return Holds()
    if "kind" in value:
        return Holds(everybody=_to_hold(value))
    return Holds(
        everybody=None if value["everybody"] is None else _to_hold(value["everybody"]),
        refused=tuple((wishes, _to_hold(hold)) for wishes, hold in value["refused"]),
        accepted=tuple(value["accepted"]),
        turn=value["turn"],
        flavor_turn=value["flavor_turn"],
        probe=value["probe"],
    )


def holds_value(holds: Holds) -> dict[str, Any]:
    """Holds as a fact."""
    return {
        "everybody": None if holds.everybody is None else _hold_value(holds.everybody),
        "refused": [[wishes, _hold_value(hold)] for wishes, hold in holds.refused],
        "accepted": list(holds.accepted),
        "turn": holds.turn,
        "flavor_turn": holds.flavor_turn,
        "probe": holds.probe,
    }


def _to_hold(value: Any) -> Hold:
    return Hold(
        value["kind"],
        value["until"],
        value["words"],
        value["times"],
        value.get("own", False),
        value.get("account", value["kind"] in ACCOUNT),
        value.get("proofs", 0),
        value.get("proven", False),
    )


def _hold_value(hold: Hold) -> dict[str, Any]:
    return {
        "kind": hold.kind,
        "until": hold.until,
        "words": hold.reason,
        "times": hold.times,
        "own": hold.own,
        "account": hold.account,
        "proofs": hold.proofs,
        "proven": hold.proven,
    }


def to_boot_failures(value: Any) -> BootFailures:
    """The boot failures that a fact has."""
    if value is None:
        return BootFailures()
    jobs = tuple(BootFailure(*each) for each in value["jobs"])
    lists = {name: tuple(value[name]) for name in ("suspected", "booted")}
    return BootFailures(**{**value, **lists, "jobs": jobs})


def boot_failures_value(failures: BootFailures) -> dict[str, Any]:
    """Boot failures as a fact."""
    return {field.name: getattr(failures, field.name) for field in fields(failures)}


def to_reservation(value: Any) -> Reservation | None:
    """The reservation that a fact has."""
    if value is None:
        return None
    return Reservation(value["job"], value["since"], value["seconds"], value["kept"], value.get("owner", ""))


def reservation_value(reservation: Reservation | None) -> dict[str, Any] | None:
    """A reservation as a fact."""
    if reservation is None:
        return None
    return {
        "job": reservation.job_id,
        "since": reservation.since,
        "seconds": reservation.seconds,
        "kept": reservation.kept,
        "owner": reservation.owner,
    }
