"""Admission: which queued jobs get a server now, and what refused creates mean for the next ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lando.engine.boot_failures import BootFailures
from lando.engine.engine import Engine
from lando.engine.holds import ACCOUNT, UNCLEAR, Holds, Refusal, flavor_of
from lando.engine.ledger import Ledger
from lando.engine.obstacles import WAITS_FOR_QUOTA
from lando.engine.operations import CreateRejected
from lando.engine.quota import QuotaHeadroom
from lando.engine.reservation import Reservation
from lando.message_limits import REASON, shorten
from lando.states.booting import why_refused
from lando.states.events import Admitted
from lando.states.job import ENDED_STATES, Job
from lando.states.records import replace


@dataclass(frozen=True)
class AdmissionResult:
    """The jobs that were admitted, and what the next one in the order waits for if the cloud lacks it."""

    jobs: tuple[Job, ...] = ()
    obstacle: str | None = None


class Admission:
    """Admits queued jobs, by priority and then in the order of arrival.

    Args:
        engine: fires the events.
        places: how many jobs may own a server at the same time.
    """

    def __init__(self, engine: Engine, places: int) -> None:
        self._engine = engine
        self._places = places

    def admit(
        self, ledger: Ledger, now: float, at_once: int, headroom: QuotaHeadroom | None = None
    ) -> AdmissionResult:
        """Admit jobs while there are places and quota.

        A job that waits for quota blocks the jobs behind it, or lets them pass, in turns. After a refusal
        that other jobs may meet, too, one job at a time is admitted until it is known whom that concerns; and
        while servers do not boot, until one does.

        Args:
            ledger: the caller's transaction.
            now: the daemon's clock.
            at_once: how many creates can be sent now; no job is admitted whose create would have to wait.
            headroom: what the project's quota leaves; None where the cloud has none.
        """
        holds = ledger.holds().at(now)
        failures = self._failures(ledger, now)
        live = ledger.live()
        if holds.everybody is not None and holds.everybody.until > now:
            return AdmissionResult()
        if holds.everybody is None and not holds.unclear and not failures.are_the_sites:
            return self._admit_in_order(ledger, now, at_once, live, holds, headroom)
        if at_once < 1 or sum(live.values()) >= self._places or _is_trying(ledger, holds.probe):
            return AdmissionResult()
        if failures.are_the_sites and (failures.until > now or self._is_probing(ledger, failures, now)):
            return AdmissionResult()
        return self._admit_probe(ledger, holds, failures, now, live, headroom)

    def _failures(self, ledger: Ledger, now: float) -> BootFailures:
        """The boot failures, without those of jobs that have ended since, once a job may be tried."""
        failures = ledger.boot_failures().at(now)
        if not failures.are_the_sites or failures.until > now:
            return failures
        jobs = {each.job_id: ledger.job(each.job_id) for each in failures.jobs}
        ended = {job_id for job_id, job in jobs.items() if job is None or job.state in ENDED_STATES}
        if ended:
            failures = failures.without(ended)
            ledger.set_boot_failures(failures)
        return failures

    def _is_probing(self, ledger: Ledger, failures: BootFailures, now: float) -> bool:
        """Whether the job that finds out may still boot, for as long as the site allows: its own boot timeout
        must not hold others."""
        job = None if failures.probe is None else ledger.job(failures.probe)
        if job is None or job.state != "booting":
            return False
        return now - job.entered_at < self._engine.policy.boot_timeout

    def _admit_in_order(
        self,
        ledger: Ledger,
        now: float,
        at_once: int,
        live: dict[str, int],
        holds: Holds,
        headroom: QuotaHeadroom | None,
    ) -> AdmissionResult:
        admitted: list[Job] = []
        obstacle: str | None = None
        before = reservation = ledger.reservation()
        short = holds.short(now)
        closed = {*holds.closed(now)} - short.keys()
        small: set[str | None] = set()
        """The flavors for which the quota leaves too little."""
        queued: Collection[str] | None = None
        finds_out = before is not None and _tries_in_doubt(ledger, holds, before.belongs_to)
        if finds_out and before is not None and before.kept:
            return AdmissionResult()  # others do not get what was kept free before its create is answered
        while len(admitted) < at_once and sum(live.values()) < self._places:
            job = ledger.next_queued(now, closed, small)
            if job is None:
                if obstacle is None and not finds_out:
                    reservation = None  # nobody waits for the quota
                break
            hold = short.get(job.wishes)
            shortage = hold.reason if hold is not None else _shortage(headroom, live, job)
            if shortage is None:
                admitted.append(self._admit(ledger, job, now))
                live[job.wishes] = live.get(job.wishes, 0) + 1
                continue
            if obstacle is None:
                obstacle = f"{WAITS_FOR_QUOTA}: {shortage}"
                draining_helps = hold is not None or _shortage(headroom, {}, job) is None
                reservation = self._turn(ledger, reservation, job, now, draining_helps)
                if reservation.kept:
                    break
            if hold is not None:
                closed.add(job.wishes)
            elif headroom is not None and headroom.has_volumes:
                queued = ledger.queued_wishes() if queued is None else queued
                closed |= {job.wishes, *headroom.short(live, queued)}  # together: there may be thousands
            else:
                small.add(job.flavor)
        if reservation != before:
            ledger.set_reservation(reservation)
        return AdmissionResult(tuple(admitted), obstacle)

    def _turn(
        self, ledger: Ledger, before: Reservation | None, job: Job, now: float, draining_helps: bool
    ) -> Reservation:
        """Whether the quota is kept free for this job now, which is the first, or the others may pass."""
        first = self._engine.pace.reservation
        if before is None or not _is_waiting(ledger, before.belongs_to):
            return Reservation(job.id, now, first)
        return before.before(job.id).at(now, first, draining_helps)

    def _admit_probe(
        self,
        ledger: Ledger,
        holds: Holds,
        failures: BootFailures,
        now: float,
        live: dict[str, int],
        headroom: QuotaHeadroom | None,
    ) -> AdmissionResult:
        """Admit one job, which shows whether others would be refused, or would not boot, too."""
        small: set[str | None] = set()
        short: set[str] = set()
        obstacle = None
        while True:
            job, holds = _next_probe(ledger, holds, failures, now, small, short)
            if job is None:
                return AdmissionResult(obstacle=obstacle)
            shortage = _shortage(headroom, live, job)
            if shortage is None:
                break
            obstacle = f"{WAITS_FOR_QUOTA}: {shortage}"
            if headroom is not None and headroom.has_volumes:
                short |= {job.wishes, *headroom.short(live, ledger.queued_wishes())}
            else:
                small.add(job.flavor)
        if holds.everybody is not None or holds.unclear:
            ledger.set_holds(replace(holds, probe=job.id))
        if failures.are_the_sites:
            ledger.set_boot_failures(replace(failures, probe=job.id))
        return AdmissionResult((self._admit(ledger, job, now),))

    def _admit(self, ledger: Ledger, job: Job, now: float) -> Job:
        event = Admitted(
            now,
            mark=self._engine.new_secret(),
            token=self._engine.new_secret(),
            server_name=server_name(job.id, job.attempt + 1),
        )
        return self._engine.fire(ledger, job, event).job


def server_name(job_id: str, attempt: int) -> str:
    """The name of an attempt's server: for people, and a valid host name. Servers are identified by their
    marks."""
    return f"lando-{job_id[:13]}-{attempt}"


def _shortage(headroom: QuotaHeadroom | None, live: Mapping[str, int], job: Job) -> str | None:
    return None if headroom is None else headroom.shortage(live, job.wishes)


def _is_waiting(ledger: Ledger, job_id: str) -> bool:
    job = ledger.job(job_id)
    return job is not None and job.state == "queued"


def _tries_in_doubt(ledger: Ledger, holds: Holds, job_id: str) -> bool:
    """Whether the job's create is in progress, and its wishes were refused alone for the quota before."""
    job = ledger.job(job_id)
    hold = None if job is None else holds.of(job.wishes)
    return hold is not None and hold.own and hold.kind == "quota" and _is_trying(ledger, job_id)


def _is_trying(ledger: Ledger, probe: str | None) -> bool:
    """Whether the job that finds out still waits for the answer to its create."""
    job = None if probe is None else ledger.job(probe)
    return job is not None and job.state == "booting" and job.server_id is None


def _next_probe(
    ledger: Ledger,
    holds: Holds,
    failures: BootFailures,
    now: float,
    small: Collection[str | None],
    short: Collection[str],
) -> tuple[Job | None, Holds]:
    """The job that finds out whether others would be refused, or would not boot, too, and the holds with its
    turn recorded.

    Args:
        small: flavors for which the quota leaves too little.
        short: wishes for which it does.
    """
    closed = holds.closed(now).union(short)
    if holds.everybody is not None:
        return _next_turn(ledger, holds, closed, now, small)
    if failures.are_the_sites and (job := _next_to_boot(ledger, holds, failures, closed, now, small)):
        return job, holds
    # Of wishes that worked before if possible: these tell most.
    job = _next_proven(ledger, holds, closed | holds.unclear, now, small)
    job = job or ledger.next_queued(now, closed | holds.unclear, small)
    return job or ledger.next_queued(now, closed, small), holds


def _next_to_boot(
    ledger: Ledger,
    holds: Holds,
    failures: BootFailures,
    closed: frozenset[str],
    now: float,
    small: Collection[str | None],
) -> Job | None:
    """The job that finds out whether servers boot: of those that failed least often, and wish for something
    else. Every second one is of wishes whose servers have booted before, or of the site's defaults."""
    proven = {*failures.booted, ""}
    for among in (proven, None) if failures.times % 2 else (None,):
        for skip in (closed | holds.unclear | failures.wishes, closed | holds.unclear, closed):
            job = ledger.least_doubtful(now, skip, small, among)
            if job is not None:
                return job
    return None


def _next_turn(
    ledger: Ledger, holds: Holds, closed: frozenset[str], now: float, small: Collection[str | None]
) -> tuple[Job | None, Holds]:
    """Every second try is for wishes that worked before; else flavors and wishes take turns, so that no job
    tries for ever while another would be accepted, however many wishes are refused."""
    times = 0 if holds.everybody is None else holds.everybody.times
    if times % 2 and (job := _next_proven(ledger, holds, closed, now, small)):
        return job, holds
    for skip in (closed | holds.own, closed):
        if times % 4 == 2:
            others = {*small, flavor_of(holds.flavor_turn)}
            job = _after(ledger, holds.flavor_turn, now, skip, others)
            if job is not None:
                return job, replace(holds, flavor_turn=job.wishes)
        job = _after(ledger, holds.turn, now, skip, small)
        if job is not None:
            return job, replace(holds, turn=job.wishes)
    return None, holds


def _next_proven(
    ledger: Ledger, holds: Holds, skip: frozenset[str], now: float, small: Collection[str | None]
) -> Job | None:
    worked = {*holds.proven} - skip - holds.own
    return ledger.next_queued(now, (), small, worked) if worked else None


def _after(
    ledger: Ledger, last: str, now: float, skip: Collection[str], small: Collection[str | None]
) -> Job | None:
    """The first job of the wishes that follow the last ones; after all of them, of the first again."""
    wishes = ledger.next_wishes(now, skip, small, last)
    if wishes is None:
        wishes = ledger.next_wishes(now, skip, small, None)
    return None if wishes is None else ledger.next_queued(now, skip, small, [wishes])


def refuse(ledger: Ledger, engine: Engine, job: Job, refusal: CreateRejected, now: float) -> CreateRejected:
    """The cloud refused a job's create: hold back those that would be refused, too.

    Args:
        ledger: the caller's transaction.
        engine: has the back-off's numbers.
        job: whose create it was.
        refusal: what the cloud said, or this installation, which may fail a job only with kind ``job``.
        now: the daemon's clock.

    Returns:
        The refusal as it concerns the job: of kind ``job`` where the cloud refuses what only such jobs ask
        for, and waiting cannot help.
    """
    before = ledger.holds()
    holds = before.at(now).answered(job.id)
    about_request = refusal.sent and not refusal.account_wide
    may_fail = refusal.kind == "site" and about_request and bool(job.wishes)
    fails = may_fail and holds.is_own(job.wishes, "site", now)
    if refusal.kind in (*ACCOUNT, *UNCLEAR):
        pace, policy = engine.pace, engine.policy
        longest = pace.site_longest if refusal.kind == "site" else pace.longest
        if refusal.kind == "unreachable" and refusal.sent:
            longest = policy.hold_longest  # each try is a create; ``services_answer`` may end it before
        wishes = "" if refusal.account_wide else job.wishes
        held = Refusal(
            refusal.kind,
            shorten(why_refused(refusal.kind, wishes, refusal.reason, refusal.sent), REASON),
            policy.hold,
            longest,
            policy.hold_longest,
            refusal.retry_after,
            refusal.account_wide,
        )
        holds = holds.after_refusal(job.wishes, held, now)
    _set_holds(ledger, before, holds)
    return replace(refusal, kind="job") if fails else refusal


def accept(ledger: Ledger, job: Job, now: float) -> None:
    """The cloud accepted a job's create."""
    before = ledger.holds()
    after = before.at(now).answered(job.id)
    _set_holds(ledger, before, after.after_acceptance(job.wishes, now, was_probe=before.probe == job.id))


def miss_answer(ledger: Ledger, job: Job) -> None:
    """A job's create was not answered: whatever became of it, it was not refused."""
    before = ledger.holds()
    _set_holds(ledger, before, before.answered(job.id).after_no_answer(job.wishes))


def quota_was_freed(ledger: Ledger, now: float) -> None:
    """A server of ours is gone: if the quota was used up, a job may try at once."""
    before = ledger.holds()
    _set_holds(ledger, before, before.due("quota", now))


def services_answer(ledger: Ledger, now: float) -> None:
    """The services that creates depend on did not all answer while everybody was held, and do now: the next
    job may try at once."""
    before = ledger.holds()
    _set_holds(ledger, before, before.after_services_answer(now))
    failures = ledger.boot_failures()
    if failures.are_the_sites:
        ledger.set_boot_failures(failures.due(now))


def _set_holds(ledger: Ledger, before: Holds, after: Holds) -> None:
    if after != before:
        ledger.set_holds(after)
