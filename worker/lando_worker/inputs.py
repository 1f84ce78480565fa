"""The job's input object: read as the start-up script wrote it, and written for the runner."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lando.beneath import read_file
from lando.yaml_json import read_json, yaml_safe_json

MOST = 16 * 1024 * 1024
"""Bytes of the CWL parameter file that are read; a start-up script has no room for as many."""


class InputError(Exception):
    """The CWL parameter file cannot be used. The text says why."""


def read(path: Path) -> dict[str, Any]:
    """The CWL parameter file, as the start-up script wrote it.

    Raises:
        InputError: it is missing, unreadable, or not a JSON object.
    """
    try:
        parameters = read_json(read_file(path, MOST).decode("utf-8"))
    except OSError as error:
        raise InputError(f"the CWL parameter file {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the CWL parameter file {path}: {error}") from error
    if not isinstance(parameters, dict):
        raise InputError(f"the CWL parameter file {path} contains no mapping")
    return parameters


def write(path: Path, parameters: dict[str, Any]) -> None:
    """Write an input object for the runner, readable by its owner only: it may contain credentials."""
    path.touch(mode=0o600)
    path.write_text(yaml_safe_json(parameters), encoding="utf-8")


def with_absolute_locations(value: Any, base: Path) -> Any:
    """``value`` with the relative locations of File and Directory objects made absolute.

    Args:
        value: an input object, or a part of one.
        base: the directory that locations are relative to.

    Source: https://www.commonwl.org/v1.2/CommandLineTool.html#File (location is an IRI, path is a path).
    """
    if isinstance(value, list):
        return [with_absolute_locations(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_absolute_locations(item, base) for key, item in value.items()}
    if value.get("class") in ("File", "Directory"):
        if _is_relative(inner.get("path")):
            inner["path"] = str(base / inner["path"])
        if _is_relative(inner.get("location")):
            inner["location"] = f"file://{quote(str(base))}/{inner['location']}"
    return inner


def _is_relative(reference: object) -> bool:
    return (
        isinstance(reference, str)
        and not reference.startswith(("/", "_:"))
        and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", reference) is None
    )
