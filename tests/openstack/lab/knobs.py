"""What goes wrong with servers of the driver ``process``; ``plugins/process_driver.py`` has the list."""

from __future__ import annotations

import json
from typing import Any

from tests.openstack.lab.place import KNOBS, LabError


def read() -> dict[str, Any]:
    """Those that are set."""
    knobs: dict[str, Any] = json.loads(KNOBS.read_text())
    return knobs


def write(knobs: dict[str, Any]) -> None:
    """Set these, and no others."""
    new = KNOBS.with_suffix(".new")
    new.write_text(f"{json.dumps(knobs, indent=1)}\n")
    new.rename(KNOBS)


def change(settings: list[str]) -> None:
    """``NAME=VALUE``, in JSON; no value removes it."""
    knobs = read()
    for setting in settings:
        name, _, value = setting.partition("=")
        knobs.pop(name, None)
        try:
            if value:
                knobs[name] = json.loads(value)
        except ValueError:
            raise LabError(f"{setting}: the value is not JSON") from None
    write(knobs)
