"""A cloud that has nothing: what the benchmarks' stub clouds have in common."""

from __future__ import annotations

from lando.cloud import Limits, Server


class EmptyCloud:
    """Shows no server, ever; what ``create`` does is its subclasses'."""

    settle_time = 0.0

    def servers(self) -> list[Server]:
        """None, ever."""
        return []

    def get(self, server_id: str) -> Server | None:
        """None, ever."""
        return None

    def delete(self, server_id: str) -> None:
        """Nothing to delete."""

    def console_log(self, server_id: str) -> str:
        """Nothing to read."""
        return ""

    def limits(self) -> Limits:
        """No limits."""
        return Limits()
