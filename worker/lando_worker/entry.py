"""Which directory of the clone to run in, and which CWL document to run."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from lando_worker.result import WorkflowFailure


def directory(clone: Path, cd: str) -> Path:
    """The directory given by ``cd``.

    Args:
        clone: the clone.
        cd: a path relative to it; may begin with the clone's own name.

    Raises:
        WorkflowFailure: it does not exist, or is outside the clone, also through a symbolic link.
    """
    parts = PurePosixPath(cd).parts
    inner = parts[1:] if parts and parts[0] == clone.name else parts
    path = clone.joinpath(*inner)
    if not _is_inside(clone, path):
        raise WorkflowFailure(f"cd: {cd} is outside the clone")
    if not os.path.isdir(path):
        folders = [entry.name for entry in clone.iterdir() if entry.is_dir() and entry.name != ".git"]
        raise WorkflowFailure(f"cd: the clone has no directory {cd}; {_listing(folders, 'directories')}")
    return path


def document(clone: Path, where: Path, run_cwl: str) -> str:
    """The CWL document given by ``run_cwl``, as an absolute path, with its ``#fragment`` if it has one.

    Args:
        clone: the clone.
        where: the directory given by ``cd``.
        run_cwl: a path relative to it.

    Raises:
        WorkflowFailure: it does not exist, or is outside the clone, also through a symbolic link.
    """
    name, hash_sign, fragment = run_cwl.partition("#")
    path = where / name
    if not _is_inside(clone, path):
        raise WorkflowFailure(f"run_cwl: {run_cwl} is outside the clone")
    if not os.path.isfile(path):
        documents = [entry.name for entry in where.glob("*.cwl")]
        raise WorkflowFailure(
            f"run_cwl: there is no file {name} in the directory given by cd;"
            f" {_listing(documents, 'CWL documents')}"
        )
    return f"{path}{hash_sign}{fragment}"


def _is_inside(clone: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(clone.resolve())


def _listing(names: list[str], kind: str) -> str:
    if not names:
        return f"there are no {kind} in it"
    more = "…" if len(names) > 10 else ""
    return f"the {kind} in it: {', '.join(sorted(names)[:10])}{more}"
