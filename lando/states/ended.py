"""The rows that done and failed share: events that arrive late change nothing."""

from __future__ import annotations

from lando.states.table import Row, ignored, refused

NO_SERVER = "an ended job owns no server: its create was resolved before it ended"

LATE = (
    ignored("cancel", why="the job has ended already"),
    ignored("worker_started", why="a report of an attempt that has ended; its token is void"),
    ignored("worker_progress", why="a report of an attempt that has ended; its token is void"),
    ignored("workflow_finished", why="a report of an attempt that has ended; its token is void"),
    ignored("server_active", why="it is about the ended attempt's server"),
    ignored("boot_failed", why="it is about the ended attempt's server"),
    ignored("server_lost", why="it is about the ended attempt's server"),
    ignored("boot_timeout", why="the attempt of this deadline has ended"),
    ignored("run_timeout", why="the attempt of this deadline has ended"),
    ignored("worker_lost", why="the attempt of this deadline has ended"),
    ignored("boot_failures_judged", why="the job has ended"),
    refused("admitted", why="the job has ended"),
    refused("rejected", why="the job has ended"),
    refused("create_sent", why=NO_SERVER),
    refused("server_created", why=NO_SERVER),
    refused("create_refused", why=NO_SERVER),
    refused("create_absent", why=NO_SERVER),
    refused("server_gone", why=NO_SERVER),
)


def rows(*own: Row) -> tuple[Row, ...]:
    """The rows of an ended state: its own, and those for late events."""
    return (*own, *LATE)
