"""The configuration's times, as the state machine and the engine take them."""

from __future__ import annotations

from lando.cloud.interface import Cloud
from lando.config.site_config import Config
from lando.engine.pace import Pace
from lando.states.table import Policy

LIST_FAILS = 30.0
"""Seconds after which a server that is being deleted is queried by id, even if every list still shows it."""


def timing(config: Config, cloud: Cloud, boot_timeout: float) -> tuple[Policy, Pace]:
    """Make both records.

    Args:
        config: its section ``timeouts`` holds most of it.
        cloud: its settle time, and whether it attaches floating IPs.
        boot_timeout: seconds; as configured, or as learned from the last boots.
    """
    times = config.timeouts
    # Nova's list shows when to ask for a server that is being deleted; the local cloud is cheap to ask.
    poll = times.observe if config.cloud == "local" else max(LIST_FAILS, 3 * times.observe)
    policy = Policy(
        boot_timeout=boot_timeout,
        run_timeout=times.run,
        retry_first=times.retry_first,
        retry_longest=times.retry_longest,
        hold=times.hold,
        floating_ip=cloud.floating_ips is not None and cloud.floating_ips.allocates,
    )
    pace = Pace(
        poll=poll,
        settle=cloud.settle_time,
        silence=times.silence,
        heartbeat=times.heartbeat,
        reservation=config.admission.reservation,
    )
    return policy, pace
