"""The line of ``lando-fsm check`` about metrics: whether the daemon answers, or could."""

from __future__ import annotations

import http.client
import socket
from typing import Literal

from lando.config.metrics import MetricsConfig

TIMEOUT = 3.0
"""Seconds for the answer."""
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what these stand for on this machine
"""Where to ask for what listens at all addresses."""


def answer(metrics: MetricsConfig, is_daemon_here: bool) -> tuple[Literal["ok", "warning"], str]:
    """The verdict, and a message.

    Args:
        metrics: where the daemon is to listen.
        is_daemon_here: whether one runs on this machine.
    """
    host, port = metrics.host, metrics.port
    where = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        status, server, body = _ask(ANY.get(host, host), port)
    except (OSError, http.client.HTTPException) as error:
        if is_daemon_here:
            return "warning", (
                f"the daemon does not answer at {where} ({_reason(error)}): was it started before `metrics` "
                "was configured? Its log says what keeps it from that"
            )
        problem = _cannot_listen(host, port)
        if problem is not None:
            corrections = "correct metrics.host or metrics.port"
            return "warning", f"the daemon cannot listen at {where} ({problem}); {corrections}"
        return "ok", f"at {where} once a daemon runs"
    if server != "lando-fsm":
        return "warning", f"another program listens at {where} already; end it, or set another metrics.port"
    if not is_daemon_here:
        return (
            "warning",
            f"the daemon of another state directory answers at {where}; set another metrics.port",
        )
    if status != http.client.OK:
        return "warning", f"the daemon answers at {where} and is not ready, {'; '.join(body.splitlines())}"
    return "ok", f"the daemon answers at {where}/metrics and is ready"


def _ask(host: str, port: int) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/health/ready")
        found = connection.getresponse()
        return found.status, found.headers.get("Server", ""), found.read(64 * 1024).decode(errors="replace")
    finally:
        connection.close()


def _cannot_listen(host: str, port: int) -> str | None:
    """Why not; nothing stays open."""
    try:
        family, type_, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, type_, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
