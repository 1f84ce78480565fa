"""A cloud that has nothing: what the benchmarks' stub clouds have in common."""

from __future__ import annotations

from lando.cloud.interface import Quota, Server, Share, Size


class EmptyCloud:
    """Shows no server, ever; what ``create`` does is its subclasses'."""

    settle_time = 0.0
    has_quota = False
    floating_ips = None
    project = None

    def servers(self) -> list[Server]:
        """None, ever."""
        return []

    def get(self, server_id: str) -> Server | None:
        """None, ever."""
        return None

    def delete(self, server_id: str) -> bool:
        """Nothing to delete."""
        return True

    def console_log(self, server_id: str) -> str:
        """Nothing to read."""
        return ""

    def quota(self, volumes: bool = False) -> Quota:
        """No limits."""
        return Quota(Share(0, None), Share(0, None), Share(0, None))

    def check_services(self) -> None:
        """There are none."""

    def size(self, flavor: str | None) -> Size:
        """All alike."""
        return Size(servers=1)
