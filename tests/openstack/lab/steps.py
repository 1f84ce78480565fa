"""What is done once in the life of a lab's directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.openstack.lab.place import RUN


@contextmanager
def once(step: str) -> Iterator[bool]:
    """Whether it is still to be done; from its success on, it never is again."""
    mark = RUN / f"done-{step}"
    yield not mark.exists()
    mark.touch()
