"""The branches and tags of a repository, and which of them a ``git_ref`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from lando_worker.git_command import Git

SHOWN = 10
"""Names that an error lists of each kind."""
COMPARED = 5000
"""Names that are compared with the one that is not there."""
BRANCHES, TAGS = "refs/heads/", "refs/tags/"
PLACES = (BRANCHES, TAGS, "", "refs/", "refs/remotes/")
"""Where a name is looked for, in this order: a branch comes first, as for ``git clone --branch``."""


@dataclass(frozen=True)
class Refs:
    """What ``git ls-remote`` lists."""

    commits: Mapping[str, str]
    """The id of each, by the whole name."""

    @classmethod
    def read(cls, git: Git) -> Refs:
        """Ask the repository.

        Raises:
            GitFailed: it cannot be asked.
        """
        listed = git.run("ls-remote", "--quiet", "--", git.source.address, at=git.destination.parent)
        pairs = (line.split("\t", 1) for line in listed.splitlines())
        # NAME^{} is the commit of an annotated tag.
        return cls({pair[1]: pair[0] for pair in pairs if len(pair) == 2 and not pair[1].endswith("^{}")})

    def find(self, name: str) -> str | None:
        """The whole name of a branch, tag or other ref; None if it is not there."""
        return next((place + name for place in PLACES if place + name in self.commits), None)

    def described(self, wanted: str | None = None) -> str:
        """The branches and tags, for a sentence; those nearest to ``wanted`` by their names first."""
        if not self.commits:
            return "the repository is empty"
        parts = [_listing("branches", self._named(BRANCHES, wanted))]
        if tags := self._named(TAGS, wanted):
            parts.append(_listing("tags", tags))
        return "; ".join(parts)

    def _named(self, place: str, wanted: str | None) -> list[str]:
        names = [name.removeprefix(place) for name in self.commits if name.startswith(place)]
        return names if wanted is None else nearest(names, wanted)


def nearest(names: Sequence[str], wanted: str) -> list[str]:
    """``names``, the most similar to ``wanted`` first; of very many only some are compared."""
    matcher = SequenceMatcher(None, "", wanted.lower())

    def likeness(name: str) -> float:
        matcher.set_seq1(name.lower())
        # A part of what was written, or the other way round, is near, whatever the lengths: origin/main.
        within = name.lower() in wanted.lower() or wanted.lower() in name.lower()
        return matcher.ratio() + within

    return sorted(names[:COMPARED], key=likeness, reverse=True) + list(names[COMPARED:])


def _listing(kind: str, names: Sequence[str]) -> str:
    if not names:
        return f"it has no {kind}"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"its {kind}: {', '.join(names[:SHOWN])}{more}"
