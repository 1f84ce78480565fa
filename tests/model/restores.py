"""A backup of the books is made at any moment, and restored at any later one: the cloud and the queue go on.

What is assumed of the world: a restore takes long enough for what the last daemon had asked for to be listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lando.cloud.snapshot import CloudSnapshot
from lando.engine import leaks
from lando.states.job import Outcome

from .ledger import Books
from .rules import OURS, server
from .world import Letter, Machine, World


class Backup(NamedTuple):
    """What a backup has, and what had happened until then."""

    books: Books
    processed: frozenset[Letter]
    taken: frozenset[Letter]
    promises: tuple[Outcome | None, ...]


def backed_up(world: World) -> World | None:
    """The world with a backup of its books; None where there is one, or a job would be lost."""
    if world.backup is not None or not world.restores or len(world.books.jobs) < len(world.promises):
        return None
    return world._replace(backup=Backup(world.books, world.processed, world.taken, world.promises))


def restored(world: World) -> World | None:
    """The world, in which no daemon runs, with the books of the backup; None where there is none."""
    backup = world.backup
    if backup is None:
        return None
    assert isinstance(backup, Backup)
    known = {request.mark for job in backup.books.jobs for request in job.requests}
    ids = {job.server_id for job in backup.books.jobs}
    return world._replace(
        books=backup.books,
        processed=backup.processed & world.queue,
        taken=backup.taken & world.queue,
        promises=backup.promises,
        machines=tuple(
            each._replace(believed=each.id in ids, listed=each.listed or each.mark not in known)
            for each in world.machines
        ),
        ghosts=frozenset(each if each.mark in known else each._replace(denied=True) for each in world.ghosts),
        backup=None,
        restores=world.restores - 1,
    )


def unknown(world: World) -> Iterator[Machine]:
    """What an operator has to delete."""
    servers = tuple(server(each) for each in world.machines if each.listed)
    ids = {each.id for each in leaks.unowned_servers(CloudSnapshot(servers), world.books.jobs).unknown}
    return (each for each in world.machines if each.id in ids)


def held_back(machines: tuple[Machine, ...], books: Books) -> frozenset[str]:
    """The jobs for which no server is requested after this look at the cloud."""
    servers = tuple(server(each) for each in machines)
    return leaks.held_back(leaks.unowned_servers(CloudSnapshot(servers), books.jobs), OURS)
