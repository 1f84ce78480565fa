"""Which container engine this machine has: docker, else podman, if it answers."""

from __future__ import annotations

import subprocess
import threading

ANSWER_TIMEOUT = 60.0
"""Seconds that an engine has to answer. The first call of podman takes 20 in a small VM."""


class ContainerEngine:
    """Calls the engines in the background, since that takes longer than a short clone."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._reasons: list[str] = []
        self._thread = threading.Thread(target=self._find, name="container engine", daemon=True)
        self._thread.start()

    def _find(self) -> None:
        for name in ("docker", "podman"):
            if self._answers(name):
                self._name = name
                return

    def _answers(self, name: str) -> bool:
        try:
            answer = subprocess.run(
                [name, "info"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ANSWER_TIMEOUT,
                check=False,
            )
        except FileNotFoundError:
            self._reasons.append(f"{name} is not installed")
        except (OSError, subprocess.TimeoutExpired) as error:
            self._reasons.append(f"{name} does not answer ({error})")
        else:
            if answer.returncode == 0:
                return True
            lines = answer.stderr.decode(errors="replace").strip().splitlines()
            self._reasons.append(f"{name} does not answer ({lines[-1] if lines else answer.returncode})")
        return False

    @property
    def available(self) -> bool:
        """Whether there is an engine; waits until the engines were called."""
        self._thread.join()
        return self._name is not None

    @property
    def reason(self) -> str:
        """Why there is none."""
        self._thread.join()
        return "; ".join(self._reasons)

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, which cwltool must be told."""
        self._thread.join()
        return self._name == "podman"
