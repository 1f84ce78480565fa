"""The end of a daemon whose database cannot be used any more."""

from __future__ import annotations

from lando.errors import DatabaseUnusable
from lando.store.database import StoreReplaced
from lando.store.store import Store


def abandon(store: Store, error: DatabaseUnusable) -> DatabaseUnusable:
    """Touch the file no more, and save what was in it if it was removed or replaced.

    Args:
        store: the daemon's.
        error: what was met.

    Returns:
        The error with which the process has to end, with what became of the data.
    """
    store.leave()
    guard = store.guard
    difference = None if guard is None else guard.difference()
    if guard is not None and (difference is not None or isinstance(error, StoreReplaced)):
        error = StoreReplaced(
            f"{difference or error}. {guard.save()}. Nothing was done in the cloud from then on, and VMs run "
            'on. What to do before the next start: docs/operations.md, "A database that was replaced"'
        )
    error.is_left = True
    return error
