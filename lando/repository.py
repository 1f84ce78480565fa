"""A job's repository as git sees it: its name, its path on this machine, and what git takes from the
environment."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

ENVIRONMENT = frozenset(
    (
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"),
        "GIT_OBJECT_DIRECTORY",
        *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_SHALLOW_FILE"),
        *("GIT_GRAFT_FILE", "GIT_REPLACE_REF_BASE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_DEFAULT_HASH"),
    )
)
"""Variables that would make git work in another repository than the one that is meant: as those of
``git rev-parse --local-env-vars``."""


def clone_name(address: str) -> str:
    """The directory that ``git clone`` makes: ``toyworkflow`` for ``https://…/toyworkflow.git``.

    Args:
        address: a URL, ``user@host:path`` or a path.

    Returns:
        "" or "." or ".." where the address names no repository.

    Source: git-clone(1), "The 'humanish' part of the source repository".
    """
    path = address.rstrip("/").removesuffix("/.git").rstrip("/")
    return re.split("[/:]", path)[-1].removesuffix(".git")


def local_path(address: str) -> Path | None:
    """The path that an address names on this machine, by itself or as a ``file`` address; None for an address
    of the network."""
    if address.startswith("/"):
        return Path(address)
    if address[:8].lower() == "file:///":
        return Path(unquote(address[7:]))
    return None
