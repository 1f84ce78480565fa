"""The engine's ledger in SQL: one transaction, committed by the store."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from lando.engine.ledger import Effect, StateChange
from lando.message_limits import NAME, shorten
from lando.messages import Origin
from lando.states.job import LIVE_STATES, Job, State
from lando.states.table import EffectKind
from lando.store import admission_order, effect_rows, message_rows
from lando.store.database import errors
from lando.store.job_rows import to_job
from lando.store.live_jobs import LiveJobs, without_results
from lando.store.pending import JOB_COLUMNS, Pending
from lando.store.retention import Removals
from lando.store.shown import display_name, label_rows
from lando.store.stored_facts import WrittenFacts
from lando.store.tables import CONSOLES, EARLY_CANCELS, FACTS, JOBS, PROCESSED
from lando.yaml_json import read_json, write_json


@dataclass
class Prefetched:
    """What was read in advance for a batch of messages. Valid until the first write."""

    jobs: dict[str, Job | None] = field(default_factory=dict)
    early_cancels: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    processed: set[str] = field(default_factory=set)


# Built once: building a statement costs more than executing it.
_JOB = sa.select(*JOB_COLUMNS).where(JOBS.c.id == sa.bindparam("id"))
_BODY = sa.select(JOBS.c.body).where(JOBS.c.id == sa.bindparam("id"))
_JOBS = sa.select(*JOB_COLUMNS).where(JOBS.c.id.in_(sa.bindparam("ids", expanding=True)))
_JOBS_IN = (
    sa.select(*JOB_COLUMNS)
    .where(JOBS.c.state.in_(sa.bindparam("states", expanding=True)))
    .order_by(JOBS.c.number)
)
_EARLY = sa.select(EARLY_CANCELS.c.job_id).where(
    EARLY_CANCELS.c.job_id.in_(sa.bindparam("ids", expanding=True))
)
_PROCESSED = sa.select(PROCESSED.c.id).where(PROCESSED.c.id.in_(sa.bindparam("ids", expanding=True)))
_FACT = sa.select(FACTS.c.value).where(FACTS.c.name == sa.bindparam("name"))


class Transaction(WrittenFacts, Removals):
    """See ``lando.engine.ledger.Ledger``; and what the daemon itself reads and writes."""

    def __init__(self, connection: Connection, live_jobs: LiveJobs | None = None) -> None:
        super().__init__(connection)
        self._live_jobs = LiveJobs() if live_jobs is None else live_jobs
        self._promoted_until = -math.inf
        """By then every back-off that has ended was noticed."""
        self._pending = Pending()
        self._prefetched = Prefetched()
        self._facts: dict[str, str | None] = {}
        """Those that were read or set, as JSON: several rules ask for the same ones. None is ever pending, so
        that to ask for one neither writes what is gathered nor forgets what was prefetched."""
        self._made_room_for_early_cancels = False
        self.held_back: frozenset[str] = frozenset()
        """See ``Ledger.held_back``."""
        self.is_cloud_known = True
        """See ``Ledger.is_cloud_known``."""
        self.changes: list[StateChange] = []
        """The changes of state in this transaction, for the log."""

    @property
    def _connection(self) -> Connection:
        """For a statement that must see all that this transaction has done."""
        self.flush()
        return self._open

    def flush(self) -> None:
        """Write what is gathered; the store does so before it commits.

        Raises:
            StaleRecord: a record was changed by somebody else.
        """
        pending, self._pending = self._pending, Pending()
        pending.write(self._open)
        self._prefetched = Prefetched()

    def prefetch(self, message_ids: Sequence[str], job_ids: Sequence[str]) -> None:
        """See ``Ledger.prefetch``: four queries for a whole batch."""
        ask = self._connection.execute
        jobs = {row.id: self._refreshed(row) for row in ask(_JOBS, {"ids": job_ids})}
        self._prefetched = Prefetched(
            {job_id: jobs.get(job_id) for job_id in job_ids},
            {*ask(_EARLY, {"ids": job_ids}).scalars()},
            {*message_ids},
            {*ask(_PROCESSED, {"ids": message_ids}).scalars()},
        )
        self.prefetch_forgotten(job_ids if message_ids else set(job_ids).difference(jobs))

    # jobs

    def job(self, job_id: str) -> Job | None:
        """See ``Ledger.job``."""
        found = self._pending.job(job_id)
        if found is not None:
            return found
        if job_id in self._prefetched.jobs:
            return self._prefetched.jobs[job_id]
        return self._one_job(_JOB, {"id": job_id})

    def job_of_server(self, name: str) -> Job | None:
        """See ``Ledger.job_of_server``."""
        query = sa.select(*JOB_COLUMNS).where(JOBS.c.server_name == name, JOBS.c.state.in_(LIVE_STATES))
        return self._one_job(query, {})

    def body(self, job_id: str) -> dict[str, Any]:
        """The start_worker body of a job."""
        connection = self._connection if self._pending.is_new(job_id) else self._open
        text = connection.execute(_BODY, {"id": job_id}).scalar_one()
        body: dict[str, Any] = read_json(text)
        return body

    def insert_job(self, job: Job, body: Mapping[str, Any], submitted_by: str | None) -> None:
        """See ``Ledger.insert_job``."""
        self._note(job)
        if job.state == "queued":
            self._live_jobs.queue(job, 1)
        text = write_json(body)
        who = None if submitted_by is None else shorten(submitted_by, NAME)
        more = {"name": display_name(body), "body": text, "submitted_by": who}
        self._pending.insert(job, more, label_rows(body))

    def save_job(self, job: Job) -> Job:
        """See ``Ledger.save_job``.

        Raises:
            StaleRecord: the stored record has another version; perhaps only when it is written.
        """
        saved = self._pending.save(job)
        self._note(saved)
        return saved

    def _note(self, job: Job) -> None:
        self._live_jobs.put(job)
        if job.state == "queued" and job.not_before > 0:
            self._promoted_until = -math.inf

    def hear(self, job: Job) -> Job:
        """See ``Ledger.hear``."""
        if self._pending.job(job.id) is not None:
            return self.save_job(job)
        self._live_jobs.hear(job)
        if job.id in self._prefetched.jobs:
            self._prefetched.jobs[job.id] = job
        return job

    def jobs_in(self, states: Sequence[State]) -> list[Job]:
        """See ``Ledger.jobs_in``."""
        return [self._refreshed(row) for row in self._connection.execute(_JOBS_IN, {"states": states})]

    def jobs_with(self, job_ids: Collection[str]) -> list[Job]:
        """Those of these jobs that the database has, without their results, or had: for those that were
        removed see ``Forgotten.as_job``. Not to be saved."""
        found = without_results(self._connection, job_ids) if job_ids else []
        others = {*job_ids}.difference(job.id for job in found)
        return found + [each.as_job() for each in self.forgotten(others)] if others else found

    @property
    def _known(self) -> LiveJobs:
        """What is in memory, up to date."""
        if not self._live_jobs.is_read:
            self._live_jobs.read(self._connection)
        return self._live_jobs

    def owners(self, states: Sequence[State] = LIVE_STATES) -> list[Job]:
        """See ``Ledger.owners``."""
        return self._known.owners(states)

    def live(self) -> dict[str, int]:
        """See ``Ledger.live``."""
        return self._known.servers()

    def is_any_queued(self) -> bool:
        """See ``Ledger.is_any_queued``."""
        return bool(self._known.queued())

    def queued_wishes(self) -> set[str]:
        """See ``Ledger.queued_wishes``."""
        return {wishes for wishes, _ in self._known.queued()}

    def wishes(self) -> tuple[bool, frozenset[str]]:
        """Whether a job is queued, and the wishes of those that are, or may own a server."""
        return self.is_any_queued(), self._known.wishes()

    def next_queued(
        self,
        now: float,
        skip: Collection[str] = (),
        small: Collection[str | None] = (),
        among: Collection[str] | None = None,
    ) -> Job | None:
        """See ``Ledger.next_queued``."""
        every = self.queued_wishes()
        chosen = self._chosen(skip, small, among)
        if not chosen:
            return None
        query = admission_order.next_queued(now, None if chosen == every else chosen, self.held_back)
        return self._one_job(*query, now)

    def least_doubtful(
        self,
        now: float,
        skip: Collection[str],
        small: Collection[str | None],
        among: Collection[str] | None = None,
    ) -> Job | None:
        """See ``Ledger.least_doubtful``."""
        chosen = self._chosen(skip, small, among)
        if not chosen:
            return None
        return self._one_job(*admission_order.least_doubtful(now, chosen, self.held_back), now)

    def next_wishes(
        self, now: float, skip: Collection[str], small: Collection[str | None], after: str | None
    ) -> str | None:
        """See ``Ledger.next_wishes``."""
        chosen = {each for each in self._chosen(skip, small, None) if after is None or each > after}
        if not chosen:
            return None
        query, values = admission_order.ready_wishes(now, chosen, self.held_back)
        return min(self._promoted(now).execute(query, values).scalars(), default=None)

    def _chosen(
        self, skip: Collection[str], small: Collection[str | None], among: Collection[str] | None
    ) -> set[str]:
        """Those wishes of queued jobs from which a job is to be chosen."""
        skip, small = {*skip}, {*small}
        found = {wishes for wishes, flavor in self._known.queued() if flavor not in small} - skip
        return found if among is None else found.intersection(among)

    def _promoted(self, now: float) -> Connection:
        """A connection that shows whose back-off has ended."""
        connection = self._connection
        if now > self._promoted_until:
            connection.execute(admission_order.PROMOTE, {"now": now})
            self._promoted_until = now
        return connection

    def _one_job(
        self, query: sa.Select[Any], values: Mapping[str, Any], now: float | None = None
    ) -> Job | None:
        connection = self._connection if now is None else self._promoted(now)
        row = connection.execute(query, values).first()
        return None if row is None else self._refreshed(row)

    def _refreshed(self, row: Row[Any]) -> Job:
        return self._live_jobs.refreshed(to_job(row))

    def append_change(self, change: StateChange) -> None:
        """See ``Ledger.append_change``."""
        self._pending.add_change(change)
        self.changes.append(change)
        if change.source is not None and "queued" in (change.source, change.target):
            job = self.job(change.job_id)
            assert job is not None
            self._live_jobs.queue(job, (change.target == "queued") - (change.source == "queued"))

    # the outbox

    def add_effect(self, job_id: str, kind: EffectKind, servers: tuple[str, ...], due_at: float) -> None:
        """See ``Ledger.add_effect``."""
        job = self.job(job_id) or Job(job_id)  # of no job: the database refuses it
        self._pending.add_effect(effect_rows.values(job, kind, servers, due_at))

    def remove_effect(self, effect: Effect) -> None:
        """See ``Ledger.remove_effect``."""
        effect_rows.remove(self._connection, effect)

    def postpone_effect(self, effect: Effect, due_at: float, tries: int, reason: str) -> None:
        """See ``Ledger.postpone_effect``."""
        effect_rows.postpone(self._connection, effect, due_at, tries, reason)

    def next_effects(self, limit: int = effect_rows.ALL) -> list[Effect]:
        """The next effect of each job, due or not, the longest overdue first.

        Args:
            limit: no more than so many creates, deletions, and others.
        """
        return effect_rows.following(self._connection, limit)

    def effects(self, kinds: Sequence[EffectKind], job_ids: Collection[str]) -> list[Effect]:
        """See ``Ledger.effects``."""
        return effect_rows.of_jobs(self._connection, kinds, job_ids)

    def hasten_deletions(self, job_ids: Collection[str], now: float) -> None:
        """See ``Ledger.hasten_deletions``."""
        effect_rows.hasten_deletions(self._connection, job_ids, now)

    def hasten_failed_deletions(self, now: float, latest: float) -> None:
        """See ``Ledger.hasten_failed_deletions``."""
        effect_rows.hasten_failed_deletions(self._connection, now, latest)

    def waiting_twins(self, now: float) -> list[Effect]:
        """See ``Ledger.waiting_twins``."""
        return effect_rows.waiting_twins(self._connection, now)

    def limit_due_times(self, effects: float, jobs: float) -> None:
        """See ``Ledger.limit_due_times``."""
        effect_rows.limit_due_times(self._connection, effects)
        self._connection.execute(admission_order.RECONSIDER)
        self._connection.execute(admission_order.LIMIT_WAITS, {"latest": jobs})
        self._promoted_until = -math.inf

    # messages

    def is_processed(self, message_id: str) -> bool:
        """See ``Ledger.is_processed``."""
        if self._pending.is_processed(message_id):
            return True
        if message_id in self._prefetched.messages:
            return message_id in self._prefetched.processed
        query = sa.select(PROCESSED.c.id).where(PROCESSED.c.id == message_id)
        return self._connection.execute(query).first() is not None

    def mark_processed(self, message_id: str, at: float) -> None:
        """See ``Ledger.mark_processed``."""
        self._pending.mark_processed(message_id, at)

    def forget_processed(self, origin: Origin, before: float, limit: int) -> int:
        """See ``message_rows.forget_processed``."""
        return message_rows.forget_processed(self._connection, origin, before, limit)

    def shift_message_times(self, step: float, now: float) -> None:
        """See ``Ledger.shift_message_times``."""
        message_rows.shift_times(self._connection, step, now)

    def remember_cancel(self, job_id: str, at: float) -> None:
        """See ``Ledger.remember_cancel``."""
        if not self.was_canceled(job_id):
            if not self._made_room_for_early_cancels:
                self._made_room_for_early_cancels = True  # once a transaction, for all of its cancels
                message_rows.drop_oldest_early_cancels(self._connection)
            self._connection.execute(sa.insert(EARLY_CANCELS).values(job_id=job_id, at=at))
            self._prefetched.early_cancels.add(job_id)

    def was_canceled(self, job_id: str) -> bool:
        """See ``Ledger.was_canceled``."""
        if job_id in self._prefetched.jobs:
            return job_id in self._prefetched.early_cancels
        query = sa.select(EARLY_CANCELS.c.job_id).where(EARLY_CANCELS.c.job_id == job_id)
        return self._connection.execute(query).first() is not None

    # logs

    def unseen_log(self, job_id: str, attempt: int, seqs: Sequence[int]) -> list[int]:
        """See ``Ledger.unseen_log``."""
        return self._pending.logs.unseen(self._open, job_id, attempt, seqs)

    def append_log(self, job_id: str, attempt: int, seqs: Sequence[int], text: str) -> None:
        """See ``Ledger.append_log``."""
        self._pending.logs.append(self._open, job_id, attempt, seqs, text)

    def save_console(self, job_id: str, attempt: int, text: str) -> None:
        """See ``Ledger.save_console``."""
        key = (CONSOLES.c.job_id == job_id, CONSOLES.c.attempt == attempt)
        self._connection.execute(sa.delete(CONSOLES).where(*key))
        self._connection.execute(sa.insert(CONSOLES).values(job_id=job_id, attempt=attempt, text=text))

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """A part of the transaction that is rolled back alone if it raises."""
        before = len(self.changes)
        try:
            with errors(self._open.engine.url), self._connection.begin_nested():
                yield
                self.flush()
        except BaseException:
            del self.changes[before:]
            self._pending = Pending()
            self._facts = {}
            self._prefetched_forgotten = {}
            self._live_jobs.forget()
            self._promoted_until = -math.inf
            raise

    # facts

    def fact(self, name: str) -> Any:
        """The value of a fact, or None."""
        if name not in self._facts:
            self._facts[name] = self._open.execute(_FACT, {"name": name}).scalar()
        text = self._facts[name]
        return None if text is None else json.loads(text)

    def set_fact(self, name: str, value: Any) -> None:
        """Set a fact to a JSON value."""
        text = self._facts[name] = json.dumps(value)
        self._open.execute(sa.delete(FACTS).where(FACTS.c.name == name))
        self._open.execute(sa.insert(FACTS).values(name=name, value=text))
