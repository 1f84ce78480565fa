"""Running: the worker in the VM has spoken; the workflow is being cloned or run."""

from __future__ import annotations

from lando.states import actions, create_requests
from lando.states.table import EffectKind, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="running",
    means="The worker in the VM has spoken; it clones the repository and runs the workflow.",
    waits_for="the workflow's result",
    deadline="worker silence, run_timeout",
)

STALE = "the report of another attempt, or of a server that was given up"
ENDING: tuple[EffectKind, ...] = ("save_console_log", "delete_server")


ROWS = (
    stays("worker_started", action=actions.heard, when=create_requests.speaks, why="the worker lives"),
    ignored("worker_started", why=STALE),
    stays("worker_progress", action=actions.heard, when=create_requests.speaks, why="the worker lives"),
    ignored("worker_progress", why=STALE),
    moves(
        "workflow_finished",
        "terminating",
        action=actions.finish,
        when=create_requests.speaks,
        effects=("delete_server",),
        why="the workflow has ended",
    ),
    ignored("workflow_finished", why=STALE),
    moves(
        "worker_lost",
        "terminating",
        action=actions.worker_lost,
        effects=ENDING,
        why="silent too long, while we listened",
    ),
    moves(
        "server_lost",
        "terminating",
        action=actions.server_lost,
        when=actions.of_its_server,
        effects=ENDING,
        why="the server went away",
    ),
    ignored("server_lost", why="an observation of another server"),
    moves(
        "boot_failed",
        "terminating",
        action=actions.boot_failed,
        when=actions.of_its_server,
        effects=ENDING,
        why="the cloud gave the server up after all",
    ),
    ignored("boot_failed", why="an observation of another server"),
    moves(
        "run_timeout",
        "terminating",
        action=actions.give_up_running,
        effects=ENDING,
        why="the workflow ran longer than it may",
    ),
    moves(
        "cancel",
        "terminating",
        action=actions.cancel,
        effects=("delete_server",),
        why="somebody asked for it",
    ),
    ignored("create_sent", why="the worker spoke before the create was answered: it is looked for, not sent"),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_twins,
        effects=("delete_twins",),
        why="one of several servers of the request is kept, the others deleted",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="the worker was faster than the answer to the create",
    ),
    refused("server_created", why="its request was resolved before; the sweeper deletes what surfaces"),
    ignored("create_refused", why="the worker has spoken, so the server exists whatever the answer says"),
    ignored("create_absent", why="the worker has spoken, so the server exists: look again"),
    stays(
        "server_active",
        action=actions.note_address,
        when=actions.is_first_address,
        effects=("attach_floating_ip",),
        why="the worker was faster",
    ),
    stays(
        "server_active", action=actions.note_address, when=actions.of_its_server, why="it has another address"
    ),
    ignored("server_active", why="an observation of another server"),
    ignored("boot_timeout", why="the worker has reported"),
    refused("admitted", why="the job was admitted before"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is running"),
    refused("server_gone", why="nothing was ordered to be deleted"),
)
