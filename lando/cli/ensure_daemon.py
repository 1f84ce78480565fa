"""For commands that need a daemon and are content with one of their own."""

from __future__ import annotations

import contextlib
import threading
import time

from lando import state_dir
from lando.app.app import App
from lando.app.service import Service
from lando.errors import LandoError
from lando.state_dir import DaemonRunning


class FallbackDaemon:
    """The daemon that serves the site already, else one in this process; also when the other one ends."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._service: Service | None = None
        self._thread: threading.Thread | None = None
        self._error: LandoError | None = None
        self._ready = threading.Event()
        self.ensure()

    def ensure(self) -> None:
        """See to it that there is a daemon.

        Raises:
            LandoError: the one of this process has failed.
        """
        if self._thread is not None:
            if not self._thread.is_alive():
                raise self._error or LandoError(
                    "this process's daemon failed; `lando-fsm daemon` takes up what it leaves"
                )
        elif state_dir.running(self._app.daemon_lock) is None:
            with contextlib.suppress(DaemonRunning):  # somebody was faster
                self._service = Service(self._app)
                self._thread = threading.Thread(target=self._serve, name="daemon")
                self._thread.start()

    def wait_until_ready(self, patience: float) -> None:
        """Wait a while for the one of this process: the first on a broker makes the queue.

        Raises:
            LandoError: it has failed.
        """
        deadline = time.monotonic() + patience
        while self._thread is not None and not self._ready.wait(0.1) and time.monotonic() < deadline:
            self.ensure()

    def _serve(self) -> None:
        assert self._service is not None
        try:
            self._service.run(self._ready.set)
        except LandoError as error:
            self._error = error

    def close(self) -> None:
        """End the one of this process."""
        if self._service is not None and self._thread is not None:
            self._service.daemon.stop()
            self._thread.join()
            self._service.close()
