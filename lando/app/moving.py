"""The database of an installation that is stopped is copied to PostgreSQL, or used again after that."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lando.app.app import App
from lando.errors import LandoError, UsageError
from lando.postgres.address import DRIVER, mistake
from lando.sqlite.opening import BUSY_TIMEOUT
from lando.state_dir import DaemonLock
from lando.store.copying.mark import DOCS
from lando.store.database import errors, refuse_damage
from lando.store.facts import DAEMON_FACT
from lando.store.store import Store
from lando.workqueue import embedded, local_commands
from lando.workqueue.closed import close_queue, open_queue
from lando.workqueue.embedded_dead_letters import EmbeddedDeadLetters

if TYPE_CHECKING:
    from lando.store.copying.copy import Copied, Progress
    from lando.store.copying.target import Target


def refuse_left_database(store: Store, database: str) -> None:
    """Refuse a database that was copied elsewhere, and a copy that is incomplete.

    Args:
        store: the database.
        database: how it is named to people.

    Raises:
        UsageError: it is one.
    """
    with store.reading() as queries:
        mark = queries.copy_mark()
    words = None if mark is None else mark.refusal(database)
    if words is not None:
        raise UsageError(words)


def move(app: App, url: str, progress: Progress) -> Copied:
    """Copy the configured SQLite database to PostgreSQL.

    Args:
        app: of the configuration that is left.
        url: of the new database.
        progress: is told how far it is.

    Raises:
        UsageError: there is nothing to copy, a daemon runs, messages or reports would be lost, or the target
            holds something else.
        LandoError: a database cannot be read or written.
    """
    from lando.store.copying.copy import copy_database  # noqa: PLC0415 - with the driver of PostgreSQL
    from lando.store.copying.original import Original  # noqa: PLC0415

    path = _file(app)
    refuse_target(url)
    with _stopped(app), contextlib.ExitStack() as opened:
        refuse_damage(path)
        store = Store(app.config.database_url)  # migrates it
        opened.callback(store.close)
        _refuse_what_would_be_lost(app, store)
        target = opened.enter_context(_target(url))
        with errors(path):
            original = opened.enter_context(contextlib.closing(Original(path, BUSY_TIMEOUT)))
            close = partial(_close, app, original.connection, target.shown)
            return copy_database(path, original, target, progress, close)


def reopen(app: App, url: str | None) -> None:
    """Use the configured SQLite database again, although it was copied.

    Args:
        app: of its configuration.
        url: of the copy, which no daemon uses from now on; None: it is gone.

    Raises:
        UsageError: it was not copied, or a daemon runs, or has used the copy.
        LandoError: a database cannot be read or written.
    """
    from lando.store.copying.original import Original  # noqa: PLC0415

    path = _file(app)
    if url is not None:
        refuse_target(url)
    with _stopped(app), contextlib.ExitStack() as opened:
        store = Store(app.config.database_url)
        opened.callback(store.close)
        with store.reading() as queries:
            mark, last_daemon = queries.copy_mark(), queries.fact(DAEMON_FACT)
        if mark is None or mark.role != "original" or not mark.is_complete:
            raise UsageError(f"{path}: was not copied, or is in use again already; nothing was changed")
        if url is not None:
            target = opened.enter_context(_target(url))
            copy = target.mark()
            if copy is None or copy.id != mark.id:
                raise UsageError(f"{target.shown}: is not the copy of {path}, which is {mark.other}")
            if target.last_daemon() != last_daemon:
                raise UsageError(
                    f"{target.shown}: a daemon has used it: what its jobs did since is not in {path}, and "
                    f'their VMs would be unknown; read {DOCS}, "Go back"'
                )
            target.reopen(replace(copy, is_complete=False))
        with errors(path), contextlib.closing(Original(path, BUSY_TIMEOUT)) as original:
            original.begin()
            original.lock()
            if app.embedded_queue is not None:
                open_queue(original.connection)
            original.set_mark(replace(mark, is_complete=False))
            original.commit()


def refuse_target(url: str) -> None:
    """Refuse what is no address of a PostgreSQL database.

    Raises:
        UsageError: it is not.
    """
    scheme = url.partition("://")[0]
    words = mistake(url) if scheme.startswith("postgres") else f"expected {DRIVER}://…"
    if words is not None:
        raise UsageError(f"the address of the copy: {words}")


def what_remains(app: App) -> list[str]:
    """What is not in the database, and so was not copied; sentences."""
    here = app.config.state_dir
    found = [f"{here} stays the state directory (state_dir): local VMs, outputs of jobs and logs are in it"]
    queue = app.embedded_queue or app.config.database_path
    letters = 0 if queue is None else len(EmbeddedDeadLetters(queue).all())
    if letters:
        found.append(f"{letters} dead letters of the embedded queue stay in {queue}")
    left = local_commands.file_in(here)
    if app.embedded_queue is None and left.exists() and (waiting := len(embedded.waiting(left))):
        found.append(f"{waiting} commands wait in {left}, for the next daemon with this state directory")
    if app.embedded_queue is None and queue is not None and (waiting := len(embedded.waiting(queue))):
        found.append(f"{waiting} messages of an embedded queue that is no longer configured stay in {queue}")
    return found


def _file(app: App) -> Path:
    path = app.config.database_path
    if path is None:
        raise UsageError(f"{app.config.database}: is no SQLite database; only one of SQLite can be copied")
    app.require_own_state_dir()
    if not path.exists():
        raise UsageError(f"{path}: does not exist: there is nothing to copy; a new database needs no copy")
    return path


@contextlib.contextmanager
def _stopped(app: App) -> Iterator[None]:
    """No daemon of the original runs, and none is started meanwhile."""
    with contextlib.ExitStack() as held:
        for path in sorted({app.daemon_lock, app.config.state_dir / "daemon.lock"}):
            held.callback(DaemonLock(path).release)
        yield


@contextlib.contextmanager
def _target(url: str) -> Iterator[Target]:
    from lando.store.copying.target import Target  # noqa: PLC0415 - with the driver of PostgreSQL

    with contextlib.closing(Target(url)) as target:
        target.hold()
        yield target


def _refuse_what_would_be_lost(app: App, store: Store) -> None:
    """The embedded queue is in the file that is left, and workers on this machine put their reports there."""
    if app.embedded_queue is None:
        return
    embedded.connect(app.embedded_queue).close()  # so that it can be closed in the end
    advice = "start `lando-fsm daemon` once more, let it"
    messages = len(embedded.waiting(app.embedded_queue))
    if messages:
        raise UsageError(
            f"{app.embedded_queue}: {messages} messages wait in the embedded queue, which is not copied; "
            f"{advice} take them, stop it, and copy then"
        )
    with store.reading() as queries:
        live = queries.count_live()
    if live:
        have = "job has a VM" if live == 1 else "jobs have VMs"
        raise UsageError(
            f"{app.embedded_queue}: {live:,} {have}, whose workers report to the embedded queue, which "
            f"is not copied; {advice} finish them, stop it, and copy then. Or cancel them, and retry them "
            "afterwards"
        )


def _close(app: App, connection: sqlite3.Connection, target: str) -> None:
    if app.embedded_queue is None:
        return
    words = f"this queue is closed: its database was copied to {target}; use the new configuration"
    if close_queue(connection, words):
        raise LandoError(
            f"{app.embedded_queue}: a message came in while it was copied; run this again once it was taken"
        )
