"""Done: the workflow succeeded, and nothing of the job is left in the cloud."""

from __future__ import annotations

from lando.states.ended import rows
from lando.states.table import StateText, refused

TEXT = StateText(
    name="done",
    means="The workflow succeeded, its result is recorded, and its VM is gone.",
    waits_for="nothing",
    deadline="none",
)

ROWS = rows(refused("retry", why="only a failed job can be retried; this one is done"))
