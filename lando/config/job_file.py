"""The job file, checked when the job is submitted, and again by the daemon."""

from __future__ import annotations

import os.path
import posixpath
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from lando.address import ambiguity
from lando.config import address_advice, input_object, yaml_document
from lando.config.section import Section, kind, or_default
from lando.config.yaml_document import MAX_DEPTH, Document
from lando.cwltool_options import mistakes
from lando.errors import UsageError
from lando.message_limits import COMMAND_BYTES, JOB_VALUES, NAME, excess
from lando.repository import clone_name
from lando.states.job import (
    DEFAULT_ATTEMPTS,
    MAX_ATTEMPTS,
    MAX_JOB_DURATION,
    MAX_PRIORITY,
    MAX_VOLUME_SIZE,
    JobSpec,
)
from lando.yaml_json import write_json

KEYS = tuple(field.name for field in fields(JobSpec))
SCHEMES = ("https", "http", "ssh", "git", "file")
ADDRESS, PATH, WORD = 4000, 2000, 255
"""Characters of ``git_clone``; of ``cd`` and ``run_cwl``; of ``git_ref``, ``flavor`` and ``image``."""
ARGUMENTS, ARGUMENTS_LENGTH = 500, 20_000
"""How many ``cwl_args`` there may be, and the characters of all of them."""
LABELS, LABEL_KEY, LABEL = 100, 200, 1000
"""How many labels there may be, and the characters of a key and a value."""
ENVELOPE_BYTES = 4096
"""Bytes of a message that are not the job's."""

_WHAT_GIT_CLONE_TAKES = f"{', '.join(SCHEMES)} and user@host:path addresses, and paths"


def read(path: Path) -> JobSpec:
    """Read a job file.

    Args:
        path: the file; a relative ``git_clone`` path in it starts from its directory, that of a pipe (as of
            ``<(…)``) or of ``/dev/stdin`` from the current one.

    Raises:
        UsageError: with every mistake of the file, one a line, as ``FILE:LINE: KEY: what is wrong``.
    """
    document = yaml_document.load(path)
    is_stream = path.parts[:2] in (("/", "dev"), ("/", "proc")) or not path.is_file()
    spec = _spec(document, Path() if is_stream else path.parent)
    _check_size(document, spec)
    return spec


def from_body(body: Mapping[str, Any]) -> JobSpec:
    """Check the body of a start_worker message, which is ``JobSpec.as_body()``, by the job file's rules.

    Whatever is in it, this takes a few milliseconds: the daemon does nothing else meanwhile.

    Raises:
        UsageError: as for ``read``; a relative ``git_clone`` path and ``input`` as text are mistakes here.
    """
    wrong = excess(body, JOB_VALUES)
    if wrong is not None:
        key = next((key for key in KEYS if excess(body.get(key), JOB_VALUES, MAX_DEPTH - 1)), None)
        raise UsageError(f"start_worker message: {f'{key}: ' if key else ''}{wrong}")
    return _spec(yaml_document.given(body, "start_worker message"), None)


def working_directory(git_clone: str, cd: str) -> str:
    """The directory that ``cd`` names, relative to the clone's root.

    A leading component that is the clone's own name means the clone itself: for a clone ``toyworkflow``, both
    ``toyworkflow`` and ``.`` are its root, and ``toyworkflow/toyworkflow`` is a directory in it.
    """
    first, _, rest = posixpath.normpath(cd).partition("/")
    return rest or "." if first == clone_name(git_clone) else posixpath.normpath(cd)


def run_cwl_path(run_cwl: str) -> str:
    """The file of a CWL document reference, without its ``#fragment``."""
    return run_cwl.partition("#")[0]


def _spec(document: Document, base: Path | None) -> JobSpec:
    job = Section(document, KEYS)
    git_clone = _git_clone(job, base)
    cd, run_cwl = _places(job, git_clone)
    spec = JobSpec(
        git_clone=git_clone,
        cd=cd,
        input=_input(job),
        run_cwl=run_cwl,
        name=job.text("name", NAME),
        git_ref=_git_ref(job),
        flavor=_name_in_cloud(job, "flavor"),
        image=_name_in_cloud(job, "image"),
        volume_size=job.integer("volume_size", 1, MAX_VOLUME_SIZE),
        attempts=or_default(job.integer("attempts", 1, MAX_ATTEMPTS), DEFAULT_ATTEMPTS),
        boot_timeout=job.duration("boot_timeout", MAX_JOB_DURATION),
        run_timeout=job.duration("run_timeout", MAX_JOB_DURATION),
        priority=or_default(job.integer("priority", -MAX_PRIORITY, MAX_PRIORITY), 0),
        cwl_args=_cwl_args(job),
        labels=job.lines("labels", LABELS, LABEL_KEY, LABEL),
    )
    document.check()
    return spec


def _name_in_cloud(job: Section, key: str) -> str | None:
    """Read a name that is also in an index of the database, which has room for so many bytes."""
    name = job.text(key, WORD)
    if name is not None and len(name.encode("utf-8", "surrogatepass")) > WORD:
        job.complain(key, f"must be at most {WORD} bytes in UTF-8")
    return name


def _git_clone(job: Section, base: Path | None) -> str:
    address = job.required_text("git_clone", "the address or path of the repository", ADDRESS)
    if not address:
        return ""
    wrong = _wrong_with_address(address)
    if wrong is None and base is not None:
        wrong = address_advice.advice(address, base)
    if wrong is None and _is_path(address):
        address, wrong = _absolute(address, base)
    if wrong is None and clone_name(address) in ("", ".", ".."):
        wrong = "names no repository"
    if wrong:
        job.complain("git_clone", wrong)
    return address


def _is_path(address: str) -> bool:
    """Whether git takes it for a path: no colon before the first slash (git-clone(1), "GIT URLS")."""
    return ":" not in address.partition("/")[0]


def _wrong_with_address(address: str) -> str | None:
    """Why this address is refused; without the address, which may hold credentials."""
    if address.startswith("-"):
        return "may not begin with -, which git would take for an option"
    ambiguous = ambiguity(address)
    if ambiguous:
        return ambiguous
    if "::" in re.sub(r"\[[0-9A-Fa-f:.]+\]", "", address):
        return f"holds ::, by which git runs a program; it takes {_WHAT_GIT_CLONE_TAKES}"
    scheme, is_url, rest = address.partition("://")
    if is_url:
        return _wrong_with_url(scheme, rest)
    host, _, path = address.partition(":")
    if not _is_path(address) and (path.startswith("-") or _is_option(host) or not path.strip("/")):
        return "expected user@host:path, no part of it beginning with -"
    return None


def _wrong_with_url(scheme: str, rest: str) -> str | None:
    if scheme not in SCHEMES:
        # Shown only if it looks like a scheme: it may be a part of a password.
        named = f"{scheme}:// " if re.fullmatch("[A-Za-z][A-Za-z0-9+.-]{0,20}", scheme) else "this "
        return f"{named}is not taken; it takes {_WHAT_GIT_CLONE_TAKES}"
    host, _, path = rest.partition("/")
    if scheme == "file":
        return "write file:///absolute/path" if host or not path else None
    if not host.rpartition("@")[2] or not path.strip("/"):
        return f"expected {scheme}://host/path"
    return "no part of it may begin with -" if _is_option(host) or path.startswith("-") else None


def _is_option(host: str) -> bool:
    """Whether ssh takes the host or the user for an option."""
    return any(part.startswith("-") for part in host.split("@"))


def _absolute(path: str, base: Path | None) -> tuple[str, str | None]:
    """The path made absolute from ``base``, and what is wrong with it, if anything."""
    if base is None:
        return path, None if os.path.isabs(path) else "a path must be absolute in a message"
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        return path, "names the home of an account that is not there"
    return os.path.normpath(base.resolve() / expanded), None


def _places(job: Section, git_clone: str) -> tuple[str, str]:
    """Read ``cd`` and ``run_cwl``, neither of which may lead out of the clone."""
    cd = job.required_text("cd", "the directory of the repository to work in; . is its root", PATH)
    run_cwl = job.required_text("run_cwl", "the CWL document to run, relative to cd", PATH)
    cd_is_right = bool(cd) and _complain_unless_inside(job, "cd", cd, posixpath.normpath(cd))
    if run_cwl:
        document = run_cwl_path(run_cwl)
        start = working_directory(git_clone, cd) if cd_is_right else "."
        reached = posixpath.normpath(posixpath.join(start, document))
        _complain_unless_inside(job, "run_cwl", document, reached)
    return cd, run_cwl


def _complain_unless_inside(job: Section, key: str, path: str, reached: str) -> bool:
    if path.startswith("/") or "://" in path:
        what = "may not be absolute; it is a path within the repository"
    elif path.startswith("-") or reached.startswith("-"):
        what = "may not begin with -"
    elif reached == ".." or reached.startswith("../"):
        what = "leads out of the repository"
    elif key == "run_cwl" and "." in (reached, posixpath.normpath(path)):
        what = "names no file; write the CWL document, then its #fragment if it has one"
    else:
        return True
    job.complain(key, what)
    return False


def _input(job: Section) -> Mapping[str, Any]:
    hint = "the workflow's parameters as keys and values (a mapping); {} if there are none"
    value = job.require("input", hint)
    if isinstance(value, str) and job.document.is_file:
        mistakes = len(job.document.problems)
        value = job.document.embedded(("input",), value)
        if len(job.document.problems) > mistakes:
            return {}
    elif value is None:
        return {}
    if isinstance(value, dict):
        input_object.check(job.document, ("input",), value)
        return value
    expected = hint if job.document.is_file else "an object"
    job.complain("input", f"expected {expected}, found {kind(value)}")
    return {}


def _git_ref(job: Section) -> str | None:
    """Read a name by git-check-ref-format(1), or a commit; not an expression such as ``HEAD~1``."""
    ref = job.text("git_ref", WORD)
    if ref and ref.startswith("-"):
        job.complain("git_ref", "may not begin with -, which git would take for an option")
    elif ref and re.search(r"[\s~^:?*\[\\]|\.\.|@\{|^\+", ref):
        job.complain("git_ref", "is no name of a branch, tag or commit")
    return ref


def _cwl_args(job: Section) -> tuple[str, ...]:
    """Read the CWL runner's options; those of cwltool are checked, since the runner is not known here."""
    arguments = job.texts("cwl_args", ARGUMENTS, ARGUMENTS_LENGTH)
    if arguments and all(isinstance(argument, str) for argument in arguments):
        wrong = mistakes(arguments)
        if wrong:
            job.complain("cwl_args", "; ".join(dict.fromkeys(wrong)))
    return arguments


def _check_size(document: Document, spec: JobSpec) -> None:
    """Refuse a job file whose message would be too large; a larger message never reaches ``from_body``."""
    wrong = excess(spec.as_body(), JOB_VALUES)
    if wrong:
        document.complain(("input",), wrong)
        document.check()
    size = len(write_json(spec.as_body()).encode())
    if size > COMMAND_BYTES - ENVELOPE_BYTES:
        most = COMMAND_BYTES - ENVELOPE_BYTES
        document.complain(("input",), f"makes a message of {size} bytes; the most is {most}")
        document.check()
