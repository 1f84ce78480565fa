"""Counts and times what is asked of the cloud: a driver around the driver; and requests to OpenStack."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from lando.cloud.interface import (
    Ambiguous,
    Cloud,
    CloudError,
    FloatingIp,
    FloatingIpPool,
    NoCapacity,
    Quota,
    QuotaExceeded,
    RateLimited,
    Refused,
    Server,
    ServerRequest,
    Size,
    Unreachable,
)
from lando.metrics.bounded_labels import OTHER, call_label
from lando.metrics.instruments import Instruments

T = TypeVar("T")

OUTCOMES: dict[type[CloudError], str] = {
    QuotaExceeded: "quota",
    RateLimited: "rate_limit",
    NoCapacity: "capacity",
    Unreachable: "unreachable",
    Refused: "refused",
    Ambiguous: "ambiguous",
}
"""Of operations that fail."""


class MeasuredCloud:
    """A ``Cloud`` that does what another one does, and counts it.

    Args:
        cloud: the driver.
        instruments: where it is counted.
    """

    def __init__(self, cloud: Cloud, instruments: Instruments) -> None:
        self._cloud = cloud
        self._instruments = instruments
        self.settle_time = cloud.settle_time
        self.has_quota = cloud.has_quota

    def create(self, request: ServerRequest) -> Server:
        """See ``Cloud.create``."""
        return _call(self._instruments, "create", partial(self._cloud.create, request))

    def get(self, server_id: str) -> Server | None:
        """See ``Cloud.get``."""
        return _call(self._instruments, "get", partial(self._cloud.get, server_id))

    def delete(self, server_id: str) -> bool:
        """See ``Cloud.delete``."""
        return _call(self._instruments, "delete", partial(self._cloud.delete, server_id))

    def servers(self) -> list[Server]:
        """See ``Cloud.servers``."""
        return _call(self._instruments, "list", self._cloud.servers)

    def console_log(self, server_id: str) -> str:
        """See ``Cloud.console_log``."""
        return _call(self._instruments, "console_log", partial(self._cloud.console_log, server_id))

    def quota(self, volumes: bool = False) -> Quota:
        """See ``Cloud.quota``."""
        return _call(self._instruments, "quota", partial(self._cloud.quota, volumes))

    def size(self, flavor: str | None) -> Size:
        """See ``Cloud.size``."""
        return _call(self._instruments, "size", partial(self._cloud.size, flavor))

    def check_services(self) -> None:
        """See ``Cloud.check_services``."""
        _call(self._instruments, "check_services", self._cloud.check_services)

    @property
    def floating_ips(self) -> FloatingIpPool | None:
        """See ``Cloud.floating_ips``."""
        pool = self._cloud.floating_ips
        return None if pool is None else MeasuredFloatingIps(pool, self._instruments)

    @property
    def project(self) -> str | None:
        """See ``Cloud.project``."""
        return self._cloud.project


class MeasuredFloatingIps:
    """A ``FloatingIpPool`` that does what another one does, and counts it."""

    def __init__(self, pool: FloatingIpPool, instruments: Instruments) -> None:
        self._pool = pool
        self._instruments = instruments
        self.allocates = pool.allocates

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        """See ``FloatingIpPool.attach``."""
        attach = partial(self._pool.attach, server_id, mark, deployment)
        return _call(self._instruments, "attach_floating_ip", attach)

    def release(self, mark: str) -> None:
        """See ``FloatingIpPool.release``."""
        _call(self._instruments, "release_floating_ip", partial(self._pool.release, mark))

    def delete(self, floating_ip_id: str) -> None:
        """See ``FloatingIpPool.delete``."""
        _call(self._instruments, "delete_floating_ip", partial(self._pool.delete, floating_ip_id))

    def all(self) -> list[FloatingIp]:
        """See ``FloatingIpPool.all``."""
        return _call(self._instruments, "list_floating_ips", self._pool.all)


def _call(instruments: Instruments, operation: str, call: Callable[[], T]) -> T:
    begun, outcome = time.monotonic(), "ok"
    try:
        return call()
    except Exception as error:
        outcome = next((name for kind, name in OUTCOMES.items() if isinstance(error, kind)), OTHER)
        raise
    finally:
        instruments.cloud_operations.labels(operation, outcome).inc()
        instruments.cloud_operation_seconds.labels(operation).observe(time.monotonic() - begun)


def count_request(instruments: Instruments, name: str, status: int | None) -> None:
    """Count an HTTP request to OpenStack.

    Args:
        instruments: where it is counted.
        name: method and path, with ``ID`` in place of ids.
        status: of the answer; None: there was none.
    """
    answer = "none" if status is None else f"{status // 100}xx"
    if instruments.cloud_requests is not None:
        instruments.cloud_requests.labels(call_label(name), answer).inc()
