"""Clones the submodules of a clone."""

from __future__ import annotations

import shutil

from lando_worker.git_command import Git, GitFailed

UPDATE = ("submodule", "--quiet", "update", "--init", "--recursive")


def update(git: Git) -> None:
    """Clone all submodules, those within submodules too; shallow where the server gives single commits.

    Raises:
        GitFailed: one cannot be cloned.
    """
    if not (git.destination / ".gitmodules").exists():
        return
    try:
        git.run(*UPDATE, "--depth", "1")
    except GitFailed as error:
        if error.is_transient:
            raise
        # What is left of a shallow clone would not be deepened.
        git.run("submodule", "--quiet", "deinit", "--all", "--force")
        shutil.rmtree(git.destination / ".git" / "modules", ignore_errors=True)
        git.run(*UPDATE)
