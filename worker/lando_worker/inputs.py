"""The job's input object: read as the start-up script wrote it, and given to the runner with its references.

References are relative to the directory given by ``cd``, as if the input object were a file in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from lando.beneath import read_file
from lando.yaml_json import read_json, yaml_safe_json

MOST = 16 * 1024 * 1024
"""Bytes of the CWL parameter file that are read; a start-up script has no room for as many."""
NAME = ".lando-input.yml"
"""The name under which cwltool knows the input object, in the directory given by ``cd``. Nothing is written
there: the directory may itself be an input."""
NAMED = 3
"""How many missing files are told."""


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


def served(parameters: dict[str, Any], base: Path) -> tuple[str, Callable[[Any, Any], Any]]:
    """The input object for cwltool, which resolves all that it refers to from ``base``.

    Args:
        parameters: the input object.
        base: the directory that references are relative to.

    Returns:
        Its address, and the ``fetcher_constructor`` of a LoadingContext with which the address can be read.
    """
    from schema_salad.fetcher import DefaultFetcher  # noqa: PLC0415

    address, text = f"{_address(base)}{NAME}", yaml_safe_json(parameters)

    def make_fetcher(cache: Any, session: Any) -> DefaultFetcher:
        cache[address] = text
        return DefaultFetcher(cache, session)

    return address, make_fetcher


def write(path: Path, parameters: dict[str, Any], base: Path) -> None:
    """Write an input object for a site's own runner, with its references made absolute.

    The file is readable by its owner only: it may contain credentials.

    Args:
        path: the file.
        parameters: the input object.
        base: the directory that references are relative to.
    """
    path.touch(mode=0o600)
    path.write_text(yaml_safe_json(with_absolute_references(parameters, base)), encoding="utf-8")


def with_absolute_references(value: Any, base: Path) -> Any:
    """``value`` with the relative references of File and Directory objects and directives made absolute.

    Args:
        value: an input object, or a part of one.
        base: the directory that references are relative to.

    Source: https://www.commonwl.org/v1.2/CommandLineTool.html#File (location is an IRI, path is a path) and
    https://www.commonwl.org/v1.2/SchemaSalad.html#Document_preprocessing ($import, $include, $schemas).
    """
    if isinstance(value, list):
        return [with_absolute_references(item, base) for item in value]
    if not isinstance(value, dict):
        return value
    inner = {key: with_absolute_references(item, base) for key, item in value.items()}
    if _is_file(value) and _is_relative(inner.get("path")):
        inner["path"] = str(base / inner["path"])
    for key in ("$import", "$include", "$schemas", *(["location"] if _is_file(value) else [])):
        inner = {**inner, key: _absolute(inner[key], base)} if key in inner else inner
    return inner


def missing(parameters: dict[str, Any], base: Path) -> str:
    """Which files and directories of the input object are not there, and where they were looked for.

    Args:
        parameters: the input object.
        base: the directory that references are relative to.

    Returns:
        A sentence; empty if all are there, or at an address of another machine.
    """
    absent = [
        f"{name} at {place}"
        for name, place in _local_files(parameters, base, "")
        if not os.path.exists(place)  # Path.exists raises for some that cannot be looked for
    ]
    if not absent:
        return ""
    more = f" and {len(absent) - NAMED} more" if len(absent) > NAMED else ""
    return (
        f"these inputs are not there: {', '.join(absent[:NAMED])}{more}. A relative location starts from the"
        " directory given by cd, in the clone; an absolute one is on the machine where the workflow runs"
    )


def _local_files(value: Any, base: Path, name: str) -> Iterator[tuple[str, str]]:
    """The place in the input object, and the absolute path, of each file and directory of this machine."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _local_files(item, base, f"{name}[{index}]")
    if not isinstance(value, dict):
        return
    reference = value.get("location", value.get("path"))
    if _is_file(value) and isinstance(reference, str) and not reference.startswith("_:"):
        try:
            scheme, _, path, _, _ = urlsplit(urljoin(_address(base), reference))
        except ValueError:
            return
        path = unquote(path)
        if scheme == "file" and "\0" not in path:
            yield name, path
    for key, item in value.items():
        yield from _local_files(item, base, f"{name}.{key}" if name else key)


def _is_file(value: dict[str, Any]) -> bool:
    return value.get("class") in ("File", "Directory")


def _absolute(reference: Any, base: Path) -> Any:
    if isinstance(reference, list):
        return [_absolute(each, base) for each in reference]
    return urljoin(_address(base), reference) if _is_relative(reference) else reference


def _address(base: Path) -> str:
    """The address of a directory, from which others are resolved."""
    return f"file://{quote(str(base))}/"


def _is_relative(reference: object) -> bool:
    return (
        isinstance(reference, str)
        and not reference.startswith(("/", "_:"))
        and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:", reference) is None
    )
