"""For commands that need a daemon and start their own where none is running."""

from __future__ import annotations

import contextlib
import threading
import time

from lando import state_dir
from lando.app.app import App
from lando.app.service import Service
from lando.errors import DatabaseUnusable, LandoError
from lando.state_dir import DaemonRunning


class FallbackDaemon:
    """Uses the daemon that is running; where none is, or it stops, starts one in a thread of this process.

    Args:
        app: what the daemon serves.

    Raises:
        LandoError: a daemon cannot be started here.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._service: Service | None = None
        self._thread: threading.Thread | None = None
        self._error: LandoError | None = None
        self._ready = threading.Event()
        self.ensure()

    def ensure(self) -> None:
        """Start a daemon here if none is running.

        Raises:
            LandoError: the daemon in this process has failed.
        """
        if self._thread is not None:
            if not self._thread.is_alive():
                raise self._error or LandoError(
                    "the daemon in this process failed; its jobs continue under the next `lando-fsm daemon`"
                )
        elif state_dir.running(self._app.daemon_lock) is None:
            with contextlib.suppress(DaemonRunning):  # another process has just started one
                self._service = Service(self._app)
                self._thread = threading.Thread(target=self._serve, name="daemon")
                self._thread.start()

    def wait_until_ready(self, timeout: float) -> None:
        """Wait for the daemon in this process, if any: at its first start on a broker it creates the queue.

        Args:
            timeout: seconds.

        Raises:
            LandoError: the daemon has failed.
        """
        deadline = time.monotonic() + timeout
        while self._thread is not None and not self._ready.wait(0.1) and time.monotonic() < deadline:
            self.ensure()

    def _serve(self) -> None:
        assert self._service is not None
        try:
            self._service.run(self._ready.set)
        except LandoError as error:
            self._error = error

    def close(self) -> None:
        """Stop the daemon in this process, if any.

        Raises:
            DatabaseUnusable: the database is damaged, or was removed or replaced; what became of it is said.
        """
        if self._service is not None and self._thread is not None:
            self._service.daemon.stop()
            self._thread.join()
            self._service.close()
            if isinstance(self._error, DatabaseUnusable):
                raise self._error  # says more than what the command itself has met
