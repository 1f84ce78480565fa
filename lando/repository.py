"""The name of a job's repository, as git chooses it."""

from __future__ import annotations

import re


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
