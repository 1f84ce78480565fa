"""How much a project of OpenStack had at most, as seen by somebody who looks all the time."""

from __future__ import annotations

import threading

from lando.cloud.interface import Size
from tests.support.openstack_project import Facility, connect_to


class Watch:
    """Counts, again and again, what the project has. Ends with its ``with`` block.

    Args:
        facility: whose project.
        pause: seconds between two looks.
    """

    def __init__(self, facility: Facility, pause: float) -> None:
        self.most = Size()
        """The most at any time, of everybody's."""
        self.looks = 0
        self._cloud = connect_to(facility)
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._pause):
            seen = sum((server.size for server in self._cloud.servers()), Size())
            self.most = Size(
                max(self.most.servers, seen.servers),
                max(self.most.cores, seen.cores),
                max(self.most.ram, seen.ram),
            )
            self.looks += 1
