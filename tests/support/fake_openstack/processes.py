"""Servers that run their user data as processes of this machine."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

from lando.cloud.interface import ServerRequest
from lando.cloud.local.driver import LocalCloud
from tests.support.fake_openstack.cloud import Server


class Processes:
    """Runs user data on a local cloud: each boot of a server is a local VM.

    Args:
        root: the directory of the local cloud.
    """

    def __init__(self, root: Path) -> None:
        self._local = LocalCloud(root, term_grace=2.0, gone_check=5.0)
        self._boots: dict[str, str] = {}
        """The mark of the latest local VM of each server, by the server's id."""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def run(self, server: Server) -> None:
        """See ``Machines.run``."""
        self.end(server)
        with self._lock:
            self._boots.pop(server.id, None)
        mark = f"{server.id}-{next(self._numbers)}"
        self._local.create(
            ServerRequest(
                name=server.name,
                mark=mark,
                deployment="fake-openstack",
                job_id=server.id,
                attempt=1,
                user_data=server.user_data or b"",
            )
        )
        with self._lock:
            self._boots[server.id] = mark
        if server.task_state == "deleting" or server.vm_state != "active":  # meanwhile
            self.end(server)

    def end(self, server: Server) -> None:
        """See ``Machines.end``."""
        with self._lock:
            mark = self._boots.get(server.id)
        while mark is not None and self._local.get(mark) is not None:
            self._local.delete(mark)

    def runs(self, server: Server) -> bool:
        """See ``Machines.runs``."""
        mark = self._boots.get(server.id)
        if mark is None:
            return True  # it is being started
        found = self._local.get(mark)
        return found is not None and found.status in ("BUILD", "ACTIVE")

    def console(self, server: Server) -> str:
        """See ``Machines.console``."""
        mark = self._boots.get(server.id)
        return self._local.console_log(mark) if mark is not None else ""
