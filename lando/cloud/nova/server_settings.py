"""What servers are made of: a record that the configuration fills, without OpenStack's libraries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerSettings:
    """What servers are made of where a job file does not say otherwise; each name may also be an id."""

    image: str
    flavor: str
    key_name: str | None = None
    networks: Sequence[str] = ()
    """In the order of the server's interfaces; none: Nova takes the project's only network."""
    security_groups: Sequence[str] = ()
    """None: the project's default group."""
    availability_zone: str | None = None
    """None: the cloud's choice."""
    config_drive: bool = False
    volume_size: int | None = None
    """GB of a volume to boot from; None: from the flavor's own disk."""
    floating_ip_pool: str | None = None
    """None: servers get no floating IP."""
