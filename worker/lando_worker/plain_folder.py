"""Copies a plain folder in place of a clone."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from lando.repository import local_path
from lando_worker.result import WorkflowFailure
from lando_worker.source import Source


def copy(source: Source, destination: Path) -> None:
    """Copy the folder, without its special files.

    Args:
        source: a plain folder.
        destination: is made.

    Raises:
        WorkflowFailure: it cannot be copied, or the job names a ``git_ref``.
    """
    if source.ref is not None:
        raise WorkflowFailure(
            f"git_ref: {source.address} is a plain folder, not a repository, so it has no {source.ref!r}"
        )
    folder, target = local_path(source.address), destination.resolve()
    assert folder is not None

    def not_copied(inner: str, names: list[str]) -> Iterable[str]:
        """Special files, and the directory of the copy itself: the folder may contain this VM's directory."""
        paths = {name: Path(inner, name) for name in names}
        return [
            name
            for name, path in paths.items()
            if not (path.is_symlink() or path.is_file() or path.is_dir())
            or (path.is_dir() and not path.is_symlink() and path.resolve() in target.parents)
        ]

    try:
        shutil.copytree(folder, destination, symlinks=True, ignore=not_copied)
    except shutil.Error as error:
        failures = "; ".join(f"{path}: {why}" for path, _, why in error.args[0][:5])
        raise WorkflowFailure(f"git_clone: the folder {folder} cannot be copied: {failures}") from error
