"""The launcher of a local VM, without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest

from lando.cloud.local import launcher


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/bash", ["/bin/bash"]),
        ("#! /usr/bin/env  -S python3 -u ", ["/usr/bin/env", "-S python3 -u"]),
        ("echo no interpreter", ["/bin/sh"]),
        ("#!", ["/bin/sh"]),
    ],
)
def test_interpreter_is_split_as_the_kernel_does(tmp_path: Path, first: str, command: list[str]) -> None:
    script = tmp_path / "script"
    script.write_text(f"{first}\nexit\n")
    assert launcher.interpreter(str(script)) == [*command, str(script)]
