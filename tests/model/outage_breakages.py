"""What must be caught where servers do not boot: the rules about that, each broken on purpose."""

from __future__ import annotations

from lando.states import terminating

from .breakages import Breakage, table
from .scenarios import OUTAGE

OUTAGE_BREAKAGES = (
    Breakage(
        "every failure to boot counts at once",
        "an outage fails no job",
        OUTAGE,
        table(
            "terminating",
            "server_gone",
            lambda rows: [row for row in rows if row.action is not terminating.wait_for_others],
        ),
    ),
)
