"""Readiness, as systemd is told of it."""

from __future__ import annotations

import contextlib
import os
import socket


def notify_ready() -> None:
    """Tell systemd that the daemon is ready, if systemd asked for it.

    Source: sd_notify(3), https://www.freedesktop.org/software/systemd/man/sd_notify.html
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.sendto(b"READY=1", address.replace("@", "\0", 1) if address[0] == "@" else address)
