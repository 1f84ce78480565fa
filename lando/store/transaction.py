"""The engine's ledger in SQL: one transaction, committed by the store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from lando.address import ambiguity
from lando.credentials import job_secrets, scrub
from lando.engine.ledger import Effect, StateChange, rank
from lando.message_limits import NAME, REASON, shorten
from lando.messages import Origin
from lando.redaction import mask
from lando.repository import clone_name
from lando.states.job import LIVE_STATES, CreateRequest, Job, State
from lando.states.table import EffectKind
from lando.store import admission_order
from lando.store.database import errors
from lando.store.pending import JOB_COLUMNS, JOB_FIELDS, Pending
from lando.store.stored_facts import WrittenFacts
from lando.store.tables import CONSOLES, EARLY_CANCELS, EFFECTS, FACTS, JOBS, PROCESSED
from lando.yaml_json import read_json, write_json

MAX_PROCESSED = 100_000
"""Messages that are remembered as processed."""
MAX_EARLY_CANCELS = 10_000
"""Rows that are left when a transaction adds more: the newest."""


def to_job(row: Row[Any]) -> Job:
    """The record of a row that has ``JOB_COLUMNS``."""
    values = dict(row._mapping)
    values["requests"] = tuple(CreateRequest(**request) for request in json.loads(values["requests"]))
    return Job(**{name: values[name] for name in JOB_FIELDS})


def _effect(row: Row[Any]) -> Effect:
    return Effect(
        row.id, row.job_id, row.kind, tuple(json.loads(row.servers)), row.due_at, row.tries, row.words
    )


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
_LIVE = (
    sa.select(JOBS.c.wishes, sa.func.count().label("servers"))
    .where(JOBS.c.state.in_(sa.bindparam("states", expanding=True)))
    .group_by(JOBS.c.wishes)
)
_WISHES = (
    sa.select(JOBS.c.state, JOBS.c.wishes)
    .where(JOBS.c.state.in_(sa.bindparam("states", expanding=True)))
    .distinct()
)
_EARLY = sa.select(EARLY_CANCELS.c.job_id).where(
    EARLY_CANCELS.c.job_id.in_(sa.bindparam("ids", expanding=True))
)
_PROCESSED = sa.select(PROCESSED.c.id).where(PROCESSED.c.id.in_(sa.bindparam("ids", expanding=True)))
_FACT = sa.select(FACTS.c.value).where(FACTS.c.name == sa.bindparam("name"))


def _next_effects() -> sa.Select[Any]:
    earlier = EFFECTS.alias("earlier")
    in_the_way = sa.exists().where(
        earlier.c.job_id == EFFECTS.c.job_id,
        sa.or_(
            earlier.c.rank < EFFECTS.c.rank,
            sa.and_(earlier.c.rank == EFFECTS.c.rank, earlier.c.id < EFFECTS.c.id),
        ),
    )
    return sa.select(EFFECTS).where(~in_the_way).order_by(EFFECTS.c.due_at, EFFECTS.c.id)


_NEXT_EFFECTS = _next_effects()


class Transaction(WrittenFacts):
    """See ``lando.engine.ledger.Ledger``; and what the daemon itself reads and writes."""

    def __init__(self, connection: Connection) -> None:
        self._open = connection
        self._pending = Pending()
        self._prefetched = Prefetched()
        self._facts: dict[str, str | None] = {}
        """Those that were read or set, as JSON: several rules ask for the same ones. None is ever pending, so
        that to ask for one neither writes what is gathered nor forgets what was prefetched."""
        self._made_room_for_early_cancels = False
        self.held_back: frozenset[str] = frozenset()
        """See ``Ledger.held_back``."""
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
        """See ``Ledger.prefetch``: three queries for a whole batch."""
        ask = self._connection.execute
        jobs = {row.id: to_job(row) for row in ask(_JOBS, {"ids": job_ids})}
        self._prefetched = Prefetched(
            {job_id: jobs.get(job_id) for job_id in job_ids},
            {*ask(_EARLY, {"ids": job_ids}).scalars()},
            {*message_ids},
            {*ask(_PROCESSED, {"ids": message_ids}).scalars()},
        )

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
        text = write_json(body)
        who = None if submitted_by is None else shorten(submitted_by, NAME)
        self._pending.insert(job, {"name": display_name(body), "body": text, "submitted_by": who})

    def save_job(self, job: Job) -> Job:
        """See ``Ledger.save_job``.

        Raises:
            StaleRecord: the stored record has another version; perhaps only when it is written.
        """
        return self._pending.save(job)

    def jobs_in(self, states: Sequence[State]) -> list[Job]:
        """See ``Ledger.jobs_in``."""
        return [to_job(row) for row in self._connection.execute(_JOBS_IN, {"states": states})]

    def jobs_with(self, job_ids: Collection[str]) -> list[Job]:
        """Those of these jobs that the database has."""
        return [to_job(row) for row in self._connection.execute(_JOBS, {"ids": [*job_ids]})]

    def live(self) -> dict[str, int]:
        """See ``Ledger.live``."""
        return {row.wishes: row.servers for row in self._connection.execute(_LIVE, {"states": LIVE_STATES})}

    def wishes(self) -> tuple[bool, frozenset[str]]:
        """Whether a job is queued, and the wishes of those that are, or may own a server."""
        rows = self._connection.execute(_WISHES, {"states": ("queued", *LIVE_STATES)}).all()
        return any(row.state == "queued" for row in rows), frozenset(row.wishes for row in rows)

    def next_queued(
        self,
        now: float,
        skip: Collection[str] = (),
        small: Collection[str | None] = (),
        among: Collection[str] | None = None,
    ) -> Job | None:
        """See ``Ledger.next_queued``."""
        return self._one_job(*admission_order.next_queued(now, skip, small, among, self.held_back))

    def least_doubtful(
        self,
        now: float,
        skip: Collection[str],
        small: Collection[str | None],
        among: Collection[str] | None = None,
    ) -> Job | None:
        """See ``Ledger.least_doubtful``."""
        return self._one_job(*admission_order.least_doubtful(now, skip, small, among, self.held_back))

    def next_wishes(
        self, now: float, skip: Collection[str], small: Collection[str | None], after: str | None
    ) -> str | None:
        """See ``Ledger.next_wishes``."""
        query, values = admission_order.next_wishes(now, skip, small, after, self.held_back)
        found: str | None = self._connection.execute(query, values).scalar()
        return found

    def waiting_wishes(self, now: float) -> list[str]:
        """See ``Ledger.waiting_wishes``."""
        return [*self._connection.execute(admission_order.WAITING_WISHES, {"now": now}).scalars()]

    def _one_job(self, query: sa.Select[Any], values: Mapping[str, Any]) -> Job | None:
        row = self._connection.execute(query, values).first()
        return None if row is None else to_job(row)

    def append_change(self, change: StateChange) -> None:
        """See ``Ledger.append_change``."""
        self._pending.add_change(change)
        self.changes.append(change)

    # the outbox

    def add_effect(self, job_id: str, kind: EffectKind, servers: tuple[str, ...], due_at: float) -> None:
        """See ``Ledger.add_effect``."""
        self._pending.add_effect(
            {
                "job_id": job_id,
                "kind": kind,
                "rank": rank(kind),
                "servers": json.dumps(servers),
                "due_at": due_at,
                "tries": 0,
                "words": "",
            }
        )

    def remove_effect(self, effect: Effect) -> None:
        """See ``Ledger.remove_effect``."""
        self._connection.execute(sa.delete(EFFECTS).where(EFFECTS.c.id == effect.id))

    def postpone_effect(self, effect: Effect, due_at: float, tries: int, reason: str) -> None:
        """See ``Ledger.postpone_effect``."""
        self._connection.execute(
            sa.update(EFFECTS)
            .where(EFFECTS.c.id == effect.id)
            .values(due_at=due_at, tries=tries, words=shorten(reason, REASON))
        )

    def next_effects(self) -> list[Effect]:
        """The next effect of each job, due or not, the longest overdue first."""
        return [_effect(row) for row in self._connection.execute(_NEXT_EFFECTS)]

    def effects(self, kinds: Sequence[EffectKind], job_id: str | None = None) -> list[Effect]:
        """See ``Ledger.effects``."""
        query = sa.select(EFFECTS).where(EFFECTS.c.kind.in_(kinds))
        if job_id is not None:
            query = query.where(EFFECTS.c.job_id == job_id)
        return [_effect(row) for row in self._connection.execute(query.order_by(EFFECTS.c.id))]

    def limit_due_times(self, effects: float, jobs: float) -> None:
        """See ``Ledger.limit_due_times``."""
        self._connection.execute(sa.update(EFFECTS).where(EFFECTS.c.due_at > effects).values(due_at=effects))
        self._connection.execute(
            sa.update(JOBS).where(JOBS.c.state == "queued", JOBS.c.not_before > jobs).values(not_before=jobs)
        )

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
        """Forget up to ``limit`` messages processed before this time (epoch seconds), or before the newest
        MAX_PROCESSED, and early cancels as old.

        Returns:
            How many messages were forgotten.
        """
        # Of any origin, which the index alone answers: workers' are few, left by lando-fsm 0.1.
        newest = sa.select(PROCESSED.c.at).order_by(PROCESSED.c.at.desc()).offset(MAX_PROCESSED - 1).limit(1)
        oldest_kept = max(before, self._connection.execute(newest).scalar() or before)
        old = sa.select(PROCESSED.c.id).where(
            PROCESSED.c.at < oldest_kept, PROCESSED.c.id.startswith(f"{origin}:")
        )
        forgotten = self._connection.execute(sa.delete(PROCESSED).where(PROCESSED.c.id.in_(old.limit(limit))))
        if origin == "client":
            self._connection.execute(sa.delete(EARLY_CANCELS).where(EARLY_CANCELS.c.at < before))
        return forgotten.rowcount

    def shift_message_times(self, step: float, now: float) -> None:
        """See ``Ledger.shift_message_times``."""
        for table in (PROCESSED, EARLY_CANCELS):
            shifted = sa.case((table.c.at + step < now, table.c.at + step), else_=now)
            self._connection.execute(sa.update(table).values(at=shifted))

    def remember_cancel(self, job_id: str, at: float) -> None:
        """See ``Ledger.remember_cancel``."""
        if not self.was_canceled(job_id):
            if not self._made_room_for_early_cancels:
                self._made_room_for_early_cancels = True  # once a transaction, for all of its cancels
                self._drop_oldest_early_cancels()
            self._connection.execute(sa.insert(EARLY_CANCELS).values(job_id=job_id, at=at))
            self._prefetched.early_cancels.add(job_id)

    def _drop_oldest_early_cancels(self) -> None:
        count = sa.select(sa.func.count()).select_from(EARLY_CANCELS)
        too_many = self._connection.execute(count).scalar_one() - MAX_EARLY_CANCELS
        if too_many > 0:
            oldest = sa.select(EARLY_CANCELS.c.job_id).order_by(EARLY_CANCELS.c.at).limit(too_many)
            self._connection.execute(sa.delete(EARLY_CANCELS).where(EARLY_CANCELS.c.job_id.in_(oldest)))

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


def display_name(body: Mapping[str, Any]) -> str:
    """A job's name, else its document, as in ``toyworkflow/count``, without the job's secrets.

    The body need not be valid.
    """
    name = body.get("name")
    shown = name if isinstance(name, str) and name else _name_of_document(body)
    return shorten(mask(scrub(shown), job_secrets(body)), NAME)


def _name_of_document(body: Mapping[str, Any]) -> str:
    address = _text(body, "git_clone")
    # The end of an address that can be misread may be the end of a password.
    clone = "?" if ambiguity(address) else clone_name(address)
    document = _text(body, "run_cwl").rsplit("/", 1)[-1].split("#")[0].removesuffix(".cwl")
    return f"{clone}/{document}"


def _text(body: Mapping[str, Any], key: str) -> str:
    value = body.get(key, "?")
    return value if isinstance(value, str) else "?"
