"""What to clone, as the job names it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lando.repository import clone_name, local_path

PAGE = re.compile(r"(https?://[^?#]+?)(?:/-)?/(?:tree|blob|src/branch)/([^/?#]+)/?([^?#]*).*")
"""The address of a directory or file on the pages of GitHub, GitLab or Gitea."""


@dataclass(frozen=True)
class Source:
    """A repository or a plain folder, and what of it."""

    address: str
    """Address or absolute path, without credentials."""
    ref: str | None = None
    """Branch, tag or commit; None for the default branch."""
    user: str | None = None
    password: str | None = None

    @property
    def name(self) -> str:
        """The name of the clone's directory, as git chooses it: ``toyworkflow`` for ``…/toyworkflow.git``."""
        name = clone_name(self.address)
        return name if name not in ("", ".", "..") else "clone"

    @property
    def has_credentials(self) -> bool:
        """Whether the job's address has a user or a password."""
        return self.user is not None or self.password is not None

    @property
    def advice(self) -> str:
        """What to write in place of the address of a page on a git server; "" if it is none."""
        page = PAGE.fullmatch(self.address)
        if page is None:
            return ""
        address, ref, path = page.groups()
        return (
            f"this is a page about the repository: write {address}, with git_ref: {ref} and cd: {path or '.'}"
        )

    @property
    def is_path(self) -> bool:
        """Whether it is a path of this machine."""
        return self.address.startswith("/")

    @property
    def is_plain_folder(self) -> bool:
        """Whether it is a folder without a repository of its own."""
        path = local_path(self.address)
        if path is None or not os.path.isdir(path):
            return False
        return not os.path.exists(path / ".git") and not (
            os.path.isfile(path / "HEAD") and os.path.isdir(path / "objects")
        )

    @property
    def is_whole_commit(self) -> bool:
        """Whether the ref is a whole commit id, of SHA-1 or SHA-256, which no name comes before."""
        return self.ref is not None and re.fullmatch(r"[0-9a-fA-F]{40}|[0-9a-fA-F]{64}", self.ref) is not None

    @property
    def may_be_commit(self) -> bool:
        """Whether the ref can be a commit id, perhaps abbreviated: git takes four digits or more."""
        return self.ref is not None and re.fullmatch(r"[0-9a-fA-F]{4,64}", self.ref) is not None
