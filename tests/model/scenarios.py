"""Where explorations begin. Faults and asks are shared by all sorts of them, so that any two meet.

Faults: the daemon dies, a message is delivered twice, an answer is lost, false or a refusal, a request is
carried out twice, a call fails, a server breaks or vanishes, a deadline passes too early, a look at the cloud
is applied late, a workflow fails. Asks: cancel, retry, terminate_worker, the same job submitted again.
"""

from __future__ import annotations

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

DEEP = (
    Scenario("one job, two faults and an ask", faults=2, asks=1, reports=FIRST_WORDS),
    Scenario("one job, a fault and three asks", faults=1, asks=3),
    Scenario("one job of three attempts, three faults", faults=3, asks=0, attempts=3),
    Scenario("two jobs, one place, a fault and an ask", jobs=("A", "B"), faults=1, asks=1),
    Scenario("one job with a floating IP, two faults and an ask", faults=2, asks=1, floating_ips=True),
    Scenario("two jobs, two places, an ask", jobs=("A", "B"), places=2, faults=0, asks=1),
)
"""Minutes."""
