"""How reports reach the daemon: a publisher for every kind of work queue, imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lando.queue import Publisher


def open_publisher(queue: Mapping[str, Any]) -> Publisher:
    """Connect to the queue that the worker configuration file names.

    Raises:
        QueueUnavailable: it cannot be reached just now.
        ValueError: this version of the worker does not know this kind of queue.
    """
    if queue.get("kind") == "embedded":
        from lando.queue.embedded import EmbeddedPublisher  # noqa: PLC0415

        return EmbeddedPublisher(Path(queue["database"]), origin="worker", create=False)
    raise ValueError(f"this worker cannot report to a queue of kind {queue.get('kind')!r}: update the image")
