"""Running: the worker in the VM has reported; it clones the repository and runs the workflow."""

from __future__ import annotations

from lando.states import actions, create_requests
from lando.states.table import StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="running",
    means="The worker in the VM has reported; it clones the repository and runs the workflow.",
    waits_for="the workflow's result",
    deadline="worker silence, run_timeout",
)

# Rows that booting and running have in common are written in both: each state is read alone.
ROWS = (
    stays(
        "worker_started",
        action=actions.take_report,
        when=create_requests.is_valid_report,
        why="the worker is alive",
    ),
    ignored("worker_started", why=actions.STALE),
    stays(
        "worker_progress",
        action=actions.take_report,
        when=create_requests.is_valid_report,
        why="the worker is alive",
    ),
    ignored("worker_progress", why=actions.STALE),
    moves(
        "workflow_finished",
        "terminating",
        action=actions.finish,
        when=create_requests.is_valid_report,
        effects=("delete_server",),
        why="the workflow has ended",
    ),
    ignored("workflow_finished", why=actions.STALE),
    moves(
        "worker_lost",
        "terminating",
        action=actions.worker_lost,
        effects=actions.ENDING,
        why="the worker was silent for too long while the daemon was connected",
    ),
    moves(
        "server_lost",
        "terminating",
        action=actions.server_lost,
        when=actions.is_about_its_server,
        effects=actions.ENDING,
        why="the server is gone",
    ),
    ignored("server_lost", why="it is about another server"),
    moves(
        "boot_failed",
        "terminating",
        action=actions.boot_failed,
        when=actions.is_about_its_server,
        effects=actions.ENDING,
        why="the server went into ERROR",
    ),
    ignored("boot_failed", why="it is about another server"),
    moves(
        "run_timeout",
        "terminating",
        action=actions.run_timed_out,
        effects=actions.ENDING,
        why="the workflow ran longer than run_timeout",
    ),
    moves(
        "cancel",
        "terminating",
        action=actions.cancel,
        effects=("delete_server",),
        why="it was canceled",
    ),
    ignored(
        "create_sent", why="the worker reported before the create was answered: the server is looked for"
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_duplicates,
        effects=("delete_twins",),
        why="the request made several servers: one is kept, the others are deleted",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="the worker reported before the create was answered",
    ),
    refused("server_created", why="its request was resolved before; the sweep deletes such a server"),
    ignored("create_refused", why="the worker has reported, so the server exists whatever the answer says"),
    ignored("create_absent", why="the worker has reported, so the server exists: it is looked for again"),
    stays(
        "server_active",
        action=actions.record_address,
        when=actions.is_first_address,
        effects=("attach_floating_ip",),
        why="the server is up; its worker reported before that was seen",
    ),
    stays(
        "server_active",
        action=actions.record_address,
        when=actions.is_about_its_server,
        why="it has another address",
    ),
    ignored("server_active", why="it is about another server"),
    ignored("boot_timeout", why="the worker has reported"),
    refused("admitted", why="the job was admitted before"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is running"),
    refused("server_gone", why="no deletion was requested"),
    ignored("boot_failures_judged", why=actions.BOOTED),
)
