"""Files that are stored with Git LFS: fetched in place of their pointers, or named where they are missing.

A workflow that reads a pointer for a file computes nonsense, and does not fail.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lando_worker.git_command import Git
from lando_worker.result import WorkflowFailure

LARGEST_POINTER = 1024
"""Bytes: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
FIRST_LINES = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
TRACKED = ":(attr:filter=lfs)"
FILTER = (
    # As `git lfs install` sets them, which the account may not have run.
    *("-c", "filter.lfs.clean=git-lfs clean -- %f", "-c", "filter.lfs.smudge=git-lfs smudge -- %f"),
    *("-c", "filter.lfs.process=git-lfs filter-process", "-c", "filter.lfs.required=true"),
)
EXCLUDES = ("lfs.fetchexclude", "lfs.fetchinclude")
SHOWN = 5
"""Files that a message names."""


def fetch(git: Git) -> None:
    """Fetch what the clone and its submodules store with Git LFS.

    GIT_LFS_SKIP_SMUDGE=1 in the worker's environment leaves the pointers, as it does for git-lfs.

    Raises:
        WorkflowFailure: a file is missing: git-lfs is not installed, or did not fetch it.
        GitFailed: git-lfs failed.
    """
    for tree in _work_trees(git):
        pointers = _pointers(git, tree)
        if not pointers:
            continue
        if os.environ.get("GIT_LFS_SKIP_SMUDGE", "0").lower() not in ("", "0", "false", "no", "off"):
            _warn(pointers, "GIT_LFS_SKIP_SMUDGE is set")
            continue
        if shutil.which("git-lfs") is None:
            raise WorkflowFailure(
                f"{_stored(git, pointers)}, and git-lfs is not installed where workflows run, so that they"
                " would read pointers in place of them: install git-lfs there (on OpenStack in the image)"
            )
        git.run(*FILTER, "lfs", "pull", at=tree)
        if left := _pointers(git, tree):
            excludes = next((key for key in EXCLUDES if _setting(git, key, tree)), None)
            if excludes is None:
                raise WorkflowFailure(f"{_stored(git, left)}, and `git lfs pull` did not fetch them")
            _warn(left, f"{excludes} leaves them out")


def _work_trees(git: Git) -> list[Path]:
    trees = [git.destination]
    if (git.destination / ".gitmodules").exists():
        paths = git.run("submodule", "--quiet", "foreach", "--recursive", r'printf "%s\0" "$PWD"')
        trees += [Path(path) for path in paths.split("\0") if path]
    return trees


def _pointers(git: Git, tree: Path) -> list[str]:
    """The files in whose place there is a pointer, by their path in the work tree."""
    tracked = git.run("ls-files", "-z", "--", TRACKED, at=tree).split("\0")
    return [name for name in tracked if name and _is_pointer(tree / name)]


def _is_pointer(path: Path) -> bool:
    """Whether the file holds a pointer, and not what is stored."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size >= LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(64).startswith(FIRST_LINES)


def _setting(git: Git, key: str, tree: Path) -> str | None:
    """As git-lfs reads it: from the repository's .lfsconfig, too."""
    configured = git.setting(key, tree)
    file = tree / ".lfsconfig"
    return configured or (git.setting(key, tree, file) if file.is_file() else None)


def _stored(git: Git, names: Sequence[str]) -> str:
    verb = "file is" if len(names) == 1 else "files are"
    return (
        f"git clone {git.source.address} failed: {len(names)} {verb} stored with Git LFS: {_listing(names)}"
    )


def _warn(names: Sequence[str], why: str) -> None:
    text = f"lando: warning: {_listing(names)}: pointers to Git LFS are in their place, since {why}"
    print(text, file=sys.stderr, flush=True)


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(os.fsencode(name).decode(errors="replace") for name in names[:SHOWN]) + more
