"""``LANDO_CRASH_AT`` kills the process at a failpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

CRASH = (
    "import sys; from lando.failpoints import reach\n"
    "for name in ('a', 'b', 'a'): print(name, flush=True); reach(name)\n"
)


@pytest.mark.parametrize(
    ("at", "seen", "status"),
    [
        (None, "a b a", 0),
        ("", "a b a", 0),
        ("c", "a b a", 0),
        ("b", "a b", -signal.SIGKILL),
        ("a:2", "a b a", -signal.SIGKILL),
        ("a", "a", -signal.SIGKILL),
    ],
)
def test_crash_points(at: str | None, seen: str, status: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LANDO_CRASH_AT"}
    if at is not None:
        environment["LANDO_CRASH_AT"] = at
    done = subprocess.run(
        [sys.executable, "-c", CRASH], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.stdout.split() == seen.split()
    assert done.returncode == status
