"""Which container engine this machine has: docker, then podman, if it answers."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

CHOICES = (
    "--no-container",
    "--podman",
    "--singularity",
    "--udocker",
    "--user-space-docker-cmd",
)
"""Options of cwltool by which a job chooses for itself."""
PATIENCE = 60.0
"""Seconds that an engine has to answer. Podman's first one takes 20 in a small VM."""


class Engine:
    """Asks the engines in the background: asking takes longer than a short clone."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._words: list[str] = []
        self._thread = threading.Thread(target=self._ask, name="container engine", daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        for name in ("docker", "podman"):
            if self._answers(name):
                self._name = name
                return

    def _answers(self, name: str) -> bool:
        try:
            answer = subprocess.run(
                [name, "info"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
            )
        except FileNotFoundError:
            self._words.append(f"{name} is not installed")
        except (OSError, subprocess.TimeoutExpired) as error:
            self._words.append(f"{name} does not answer ({error})")
        else:
            if answer.returncode == 0:
                return True
            lines = answer.stderr.decode(errors="replace").strip().splitlines()
            self._words.append(f"{name} does not answer ({lines[-1] if lines else answer.returncode})")
        return False

    @property
    def available(self) -> bool:
        """Whether there is one; waits for the answer."""
        self._thread.join()
        return self._name is not None

    @property
    def explanation(self) -> str:
        """Why there is none."""
        self._thread.join()
        return "; ".join(self._words)

    def options(self, cidfiles: Path) -> list[str]:
        """What cwltool must be told; ``cidfiles`` is where it leaves the ids of containers."""
        if not self.available:
            return ["--no-container"]
        podman = ["--podman"] if self._name == "podman" else []
        return [*podman, "--record-container-id", "--cidfile-dir", str(cidfiles)]
