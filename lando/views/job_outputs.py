"""The outputs of a job: what of the output object that its worker reported is here, below the job's outputs.

Whoever is in the VM can report any location, and put any link into the outputs. So a place counts only if it
resolves below the job's outputs (``lando.beneath``); no other path that was reported is even looked at.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from lando import state_dir
from lando.beneath import Beneath, refusal, require_file

NOT_HERE = "the outputs of this job are not on this machine"

_SCHEME = re.compile("([A-Za-z][A-Za-z0-9+.-]*):")
_PLACE = ("location", "path", "dirname")


@dataclass(frozen=True)
class Refused:
    """A File or Directory of which nothing is shown or copied."""

    name: str
    """Where it is said to be; any text."""
    why: str


def reachable(reported: Mapping[str, Any], base: Beneath | None) -> tuple[dict[str, Any], list[Refused]]:
    """The output object with locations on this machine.

    Args:
        reported: the output object, as the worker sent it.
        base: the job's outputs; None if they are not here.

    Returns:
        The object, and what of it is refused, whose ``location`` and ``path`` are None.
    """
    outputs: dict[str, Any] = json.loads(json.dumps(reported))
    refused = []
    for file in files(outputs):
        try:
            path = checked_path(file)
            if path is not None:
                set_place(file, _look_up(file, path, base))
        except OSError as error:
            refused.append(refuse(file, error))
    return outputs, refused


@contextmanager
def opened(directory: Path, job_id: str) -> Iterator[Beneath | None]:
    """The outputs of a job; None where there are none, as when its VM was elsewhere.

    A workflow could have replaced its own directories by symbolic links: these are not followed.

    Args:
        directory: the state directory.
        job_id: the job.
    """
    outputs = state_dir.outputs(directory, job_id)
    try:
        base = Beneath(outputs.parents[1], *outputs.parts[-2:])
    except OSError:
        yield None
        return
    try:
        yield base
    finally:
        base.close()


def files(value: Any) -> Iterator[dict[str, Any]]:
    """Every File and Directory of an output object, the outer before the inner ones."""
    if isinstance(value, dict):
        if value.get("class") in ("File", "Directory"):
            yield value
        for inner in value.values():
            yield from files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from files(inner)


def checked_path(file: dict[str, Any]) -> str | None:
    """The path that a File or Directory names, on whichever machine, perhaps relative to the outputs; None if
    it names none: a literal, or an address of the network.

    Raises:
        OSError: it names none, or has a name, that this machine could have.
    """
    if not _is_name(file.get("basename", "-")):
        raise refusal("its basename is not the name of a file")
    location = file.get("location")
    if not isinstance(location, str):
        path = file.get("path")
        return path if isinstance(path, str) else None
    scheme = _SCHEME.match(location)
    if scheme is not None and scheme[1].lower() == "file":
        return _path_of_file(location[scheme.end() :])
    if scheme is not None or location.startswith("_:"):
        for key in ("path", "dirname"):
            file.pop(key, None)
        return None
    return location


def _is_name(basename: object) -> bool:
    return isinstance(basename, str) and basename not in ("", ".", "..") and not re.search("[/\0]", basename)


def _path_of_file(rest: str) -> str:
    """The path of a ``file:`` address (RFC 8089), which may be of any bytes."""
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise refusal("it names another machine")
        rest = slash + rest
    try:
        path = os.fsdecode(unquote_to_bytes(rest))
    except UnicodeEncodeError:
        path = ""
    if not path.startswith("/"):
        raise refusal("it cannot be the path of a file")
    return path


def _look_up(file: Mapping[str, Any], path: str, base: Beneath | None) -> Path:
    if base is None:
        raise refusal(NOT_HERE)
    with base.find(base.parts(os.path.join(base.path, path))) as found:
        require_class(file, found.status)
        return base.path.joinpath(*found.parts)


def require_class(file: Mapping[str, Any], status: os.stat_result) -> None:
    """Refuse what is not what it is said to be.

    Raises:
        OSError: with what it is.
    """
    if file["class"] == "File":
        require_file(status)
    elif not stat.S_ISDIR(status.st_mode):
        raise refusal("it is not a directory")


def set_place(file: dict[str, Any], path: Path) -> None:
    """Say where a File or Directory is. JSON has no form for a path that is not UTF-8: it is None then."""
    file.pop("dirname", None)
    file["location"] = path.as_uri()
    file["path"] = str(path) if _is_text(str(path)) else None


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def refuse(file: dict[str, Any], error: OSError) -> Refused:
    """Remove the place that a File or Directory was said to have; what is told of it."""
    name = next((file[key] for key in ("location", "path", "basename") if file.get(key)), "")
    for key in _PLACE:
        if key in file:
            file[key] = None
    if not _is_name(file.get("basename", "-")):
        file["basename"] = None
    return Refused(str(name), error.strerror or str(error))
