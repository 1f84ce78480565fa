"""Clones the submodules of a clone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from lando_worker.git_command import Git, GitFailed

UPDATE = ("submodule", "--quiet", "update", "--init", "--recursive")


def update(git: Git) -> None:
    """Clone all submodules, those within submodules too; shallow where the server gives single commits.

    Raises:
        GitFailed: one cannot be cloned.
    """
    if not (git.destination / ".gitmodules").exists():
        return
    if git.source.is_path:
        _take(git, git.destination, Path(git.source.address, ".git", "modules"))
    try:
        git.run(*UPDATE, "--depth", "1")
    except GitFailed as error:
        if error.is_transient:
            raise
        # What is left of a shallow clone would not be deepened.
        git.run("submodule", "--quiet", "deinit", "--all", "--force")
        shutil.rmtree(git.destination / ".git" / "modules", ignore_errors=True)
        git.run(*UPDATE)


def _take(git: Git, tree: Path, modules: Path) -> None:
    """Clone from the submodules' own repositories within the source those whose commit is there: relative
    addresses start from where the source was cloned from, and not from the source."""
    for name, path in _submodules(git, tree):
        repository = modules / name
        if ".." in name or "=" in name or not repository.is_dir():
            continue
        address = ("-c", f"submodule.{name}.url={repository}")
        try:
            commit = git.run("rev-parse", "--verify", "--quiet", f":{path}", at=tree).strip()
            git.run(f"--git-dir={repository}", "cat-file", "-e", commit, at=tree)
            git.run(*address, "submodule", "--quiet", "update", "--init", "--", path, at=tree)
        except GitFailed:
            continue
        _take(git, tree / path, repository / "modules")


def _submodules(git: Git, tree: Path) -> Iterator[tuple[str, str]]:
    """Name and path of each that .gitmodules has."""
    if not (tree / ".gitmodules").is_file():
        return
    try:
        listed = git.run(
            *("config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$"), at=tree
        )
    except GitFailed:
        return
    for entry in listed.split("\0"):
        key, _, path = entry.partition("\n")
        if path:
            yield key.removeprefix("submodule.").removesuffix(".path"), path
