"""Where explorations begin. Faults and asks are shared by all sorts of them, so that any two meet.

Faults: the daemon dies, a message is delivered twice, an answer is lost, false or a refusal, a request is
carried out twice, a call fails, a server breaks or vanishes, a deadline passes too early, a look at the cloud
is applied late, a workflow fails. Asks: cancel, retry, terminate_worker, the same job submitted again.
"""

from __future__ import annotations

from dataclasses import replace

from .world import Scenario

FIRST_WORDS = ("worker_started", "worker_progress")

USUAL = (
    Scenario("one job, two faults", faults=2, asks=0),
    Scenario("one job, a fault and an ask", faults=1, asks=1, reports=FIRST_WORDS),
    Scenario("one job, two asks", faults=0, asks=2),
    Scenario("two jobs, one place, a fault", jobs=("A", "B"), faults=1, asks=0, attempts=1),
    Scenario("a job that cannot be run", faults=1, asks=2, runnable=False),
    Scenario("one job with a floating IP, a fault", faults=1, asks=0, floating_ips=True),
    Scenario("one job on an image that is too old, a fault", faults=1, asks=0, needs=("archive",)),
)
"""Seconds."""

WITHIN = 6
"""Units of time: two longest back-offs, the settle time of a create, and one more."""

TIMED = (
    Scenario("one job and time, a fault", faults=1, asks=0, within=WITHIN),
    Scenario("one job and time, a change of the clock", faults=0, asks=0, within=WITHIN, jumps=1),
    Scenario(
        "one job with a run timeout, a change of the clock",
        faults=0,
        asks=0,
        within=WITHIN,
        jumps=1,
        run_timeout=1.0,
    ),
    Scenario(
        "one job and time that is recorded in part, a change of the clock",
        faults=0,
        asks=0,
        within=WITHIN,
        jumps=1,
        recorded=False,
    ),
)
"""Seconds, too; time passes, and the shipped deadlines decide. Changes of the clock: it is set, the machine
sleeps, or the next daemon's differs."""

TIMED_DEEP = (
    Scenario("one job and time, two changes of the clock", faults=0, asks=0, within=WITHIN, jumps=2),
    Scenario("one job and time, a fault and a change of the clock", faults=1, asks=0, within=WITHIN, jumps=1),
    Scenario("one job and time, two faults", faults=2, asks=0, within=WITHIN),
    Scenario(
        "one job and time, an ask and two changes of the clock", faults=0, asks=1, within=WITHIN, jumps=2
    ),
)
"""Minutes."""

RESTORED = Scenario("one job and a restored database", faults=0, asks=0, restores=1)
RESTORED_ASK = Scenario("one job, a restored database and an ask", faults=0, asks=1, restores=1)
"""Seconds; a backup of the books is made at any moment, and restored at any later one."""
RESTORED_DEEP = Scenario("one job, a restored database and a fault", faults=1, asks=0, restores=1)
"""A minute."""

ONE_REFUSED = Scenario(
    "two jobs, one flavor is refused",
    jobs=("A", "B"),
    faults=0,
    asks=0,
    attempts=1,
    within=WITHIN,
    flavors=("gpu", None),
    refuses=(("gpu", "site"),),
    failed_within=1,
)
ONE_OF_THREE_REFUSED = replace(
    ONE_REFUSED,
    name="three jobs, one flavor is refused",
    jobs=("A", "B", "C"),
    flavors=("gpu", None, None),
    failed_within=2,
)
"""So that others are accepted twice, which it takes to fail a job, at most two units later: after its second
hold."""
DEFAULT_REFUSED = replace(
    ONE_REFUSED,
    name="two jobs, the site's default is refused",
    flavors=(None, "large"),
    refuses=((None, "site"),),
)
TWO_REFUSED = replace(
    ONE_REFUSED,
    name="three jobs, two flavors are refused",
    jobs=("A", "B", "C"),
    flavors=("gpu", "huge", "large"),
    refuses=(("gpu", "site"), ("huge", "quota")),
    within=12,
    accepted_within=7,
)
REFUSED = (
    ONE_REFUSED,
    replace(ONE_REFUSED, name="two jobs, two places, one flavor is refused", places=2),
    DEFAULT_REFUSED,
    TWO_REFUSED,
    replace(
        ONE_REFUSED,
        name="two jobs, one flavor has no quota",
        flavors=("gpu", "large"),
        refuses=(("gpu", "quota"),),
    ),
    replace(
        ONE_REFUSED, name="two jobs, all is refused", places=2, refuses=(("gpu", "site"), (None, "site"))
    ),
)
"""Seconds, too; the cloud always refuses what some jobs ask for. ``accepted_within`` and ``failed_within``
are bounds of every way that things can go, not of the best one. With one job that is refused, the other is
tried at once; with two, all have had their turn after four holds, which take one unit and then two each."""

OUTAGE = Scenario("two jobs, an outage", jobs=("A", "B"), faults=0, asks=0, within=2 * WITHIN, outage=True)
UNBOOTABLE = Scenario(
    "two jobs, the servers of one never boot",
    jobs=("A", "B"),
    faults=0,
    asks=0,
    within=2 * WITHIN,
    flavors=("gpu", None),
    unbootable=("gpu",),
    ended_within=3,
    accepted_within=1,
)
OUTAGES = (OUTAGE, UNBOOTABLE)
"""Seconds, too; servers do not boot."""

OUTAGES_DEEP = (
    replace(OUTAGE, name="two jobs, two places, an outage", places=2),
    replace(UNBOOTABLE, name="two jobs, two places, the servers of one never boot", places=2),
)
"""Minutes."""

REFUSED_DEEP = (
    ONE_OF_THREE_REFUSED,
    replace(
        TWO_REFUSED,
        name="three jobs, both flavors are the site's",
        refuses=(("gpu", "site"), ("huge", "site")),
    ),
)
"""Minutes."""

DEEP = (
    Scenario("one job, two faults and an ask", faults=2, asks=1, reports=FIRST_WORDS),
    Scenario("one job, a fault and three asks", faults=1, asks=3),
    Scenario("one job of three attempts, three faults", faults=3, asks=0, attempts=3),
    Scenario("two jobs, one place, a fault and an ask", jobs=("A", "B"), faults=1, asks=1),
    Scenario("one job with a floating IP, two faults and an ask", faults=2, asks=1, floating_ips=True),
    Scenario("two jobs, two places, an ask", jobs=("A", "B"), places=2, faults=0, asks=1),
)
"""Minutes."""
