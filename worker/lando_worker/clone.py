"""Clones the job's repository, or copies a plain folder, at the commit given by ``git_ref``.

Every failure has git's own words. While the network or the git server is down, the clone is tried again.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lando.message_limits import FOR_PEOPLE, shorten
from lando_worker import git_errors, lfs, plain_folder, submodules
from lando_worker.git_command import Git, GitFailed
from lando_worker.git_refs import BRANCHES, TAGS, Refs
from lando_worker.result import SystemFailure, WorkflowFailure
from lando_worker.source import Source

if TYPE_CHECKING:
    from tenacity import RetryCallState

SHALLOW = ("--depth", "1")


@dataclass(frozen=True)
class Patience:
    """For how long a clone is tried again while the network or the git server is down."""

    longest: float = 600.0
    """Seconds after the first failure; no new try begins after them, but for the fewest."""
    fewest: int = 4
    """Tries: a transfer that breaks after a long time is repeated, too."""
    first_wait: float = 1.0
    """Seconds, at most, before the third try; doubled by each. The second follows at once."""
    longest_wait: float = 30.0
    """Seconds."""


def fetch(
    source: Source,
    parent: Path,
    tell: Callable[[str], None] = lambda phase: None,
    patience: Patience | None = None,
) -> tuple[Path, str | None]:
    """Clone ``source`` into a directory of its own name inside ``parent``; wait for a server that is down.

    Args:
        source: what to clone.
        parent: an existing directory.
        tell: called with what is done or waited for, in a few words, where that is not just cloning.
        patience: for how long to try.

    Returns:
        The clone, and its commit: None for a plain folder.

    Raises:
        WorkflowFailure: it cannot be cloned.
        SystemFailure: it cannot be cloned on this VM: the disk is full, or git is not installed.
    """
    destination = parent / source.name
    if source.is_plain_folder:
        plain_folder.copy(source, destination)
        return destination, None
    tries = 0

    def clone() -> str:
        nonlocal tries
        tries += 1
        return _clone(source, destination)

    try:
        return destination, _with_patience(clone, patience or Patience(), tell)
    except GitFailed as error:
        again = f" after {tries} tries" if tries > 1 else ""
        raise _failure(source, f"git clone {source.address} failed{again}", str(error)) from error


def _failure(source: Source, what: str, said: str) -> WorkflowFailure | SystemFailure:
    advice = source.advice or git_errors.what_to_do(said, has_credentials=source.has_credentials)
    kind = SystemFailure if "No space left on device" in said else WorkflowFailure
    return kind(f"{what}: {said}" + (f"; {advice}" if advice else ""))


def _with_patience(clone: Callable[[], str], patience: Patience, tell: Callable[[str], None]) -> str:
    """Call ``clone`` for as long as trying again can help. Returns what it returns."""
    try:
        return clone()
    except GitFailed as error:
        if not error.is_transient:
            raise
        why = git_errors.in_short(str(error))
    # Imported here only: most clones succeed at once, and the import takes longer than many of them.
    from tenacity import (  # noqa: PLC0415
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        stop_after_delay,
        wait_random_exponential,
    )

    def again() -> str:
        print("lando: trying git again", file=sys.stderr, flush=True)
        tell(_phase(f"cloning again after: {why}"))
        return clone()

    def waiting(state: RetryCallState) -> None:
        nonlocal why
        assert state.outcome is not None
        why = git_errors.in_short(str(state.outcome.exception()))
        tell(_phase(f"waiting for git server: {why}"))
        print(f"lando: waiting {state.upcoming_sleep:.0f} s for the git server", file=sys.stderr, flush=True)

    retrying = Retrying(
        stop=stop_after_delay(patience.longest) & stop_after_attempt(patience.fewest - 1),
        wait=wait_random_exponential(multiplier=patience.first_wait, max=patience.longest_wait),
        retry=retry_if_exception(lambda error: isinstance(error, GitFailed) and error.is_transient),
        before_sleep=waiting,
        reraise=True,
    )
    return retrying(again)


def _phase(text: str) -> str:
    return shorten(text, FOR_PEOPLE["phase"])


def _clone(source: Source, destination: Path) -> str:
    """One try, shallow if the server supports it. Returns the commit."""
    shutil.rmtree(destination, ignore_errors=True)
    git = Git(source, destination)
    wanted = _wanted(git)
    # git makes hard links to the objects of a local repository, which is faster. Only the whole history tells
    # what an abbreviated id means.
    shallow = not source.is_path and (wanted is None or not wanted.is_abbreviated)
    try:
        _clone_at(git, wanted, SHALLOW if shallow else ())
    except GitFailed as error:
        if error.is_transient or not shallow or not git_errors.SHALLOW_REFUSED.search(str(error)):
            raise
        shutil.rmtree(destination, ignore_errors=True)
        _clone_at(git, wanted, ())
    commit = _commit(git)
    submodules.update(git)
    lfs.fetch(git)
    return commit


@dataclass(frozen=True)
class _Wanted:
    """What to check out."""

    name: str
    """The whole name of a ref, or the id of a commit."""
    short: str | None = None
    """What ``git clone --branch`` takes for it; None if it has to be fetched by its name."""

    @property
    def is_ref(self) -> bool:
        return self.name.startswith("refs/")

    @property
    def is_abbreviated(self) -> bool:
        return not self.is_ref and len(self.name) not in (40, 64)


def _wanted(git: Git) -> _Wanted | None:
    """What the job's ``git_ref`` names; None for the default branch.

    Raises:
        WorkflowFailure: there is no such name, and it cannot be a commit.
    """
    source = git.source
    if source.ref is None or source.ref == "HEAD":
        return None
    if source.is_whole_commit:
        return _Wanted(source.ref.lower())
    refs = Refs.read(git)
    found = refs.find(source.ref)
    if found is None:
        if source.may_be_commit and refs.commits:
            return _Wanted(source.ref.lower())
        raise _no_such_ref(source, refs)
    if found == TAGS + source.ref:
        return _Wanted(found, source.ref)
    if found == BRANCHES + source.ref and TAGS + source.ref in refs.commits:
        note = f"a branch and a tag are named {source.ref}; this is the branch, {TAGS}{source.ref} the tag"
        print(f"lando: git_ref: {note}", file=sys.stderr, flush=True)
    return _Wanted(found, found.removeprefix(BRANCHES) if found.startswith(BRANCHES) else None)


def _no_such_ref(source: Source, refs: Refs) -> WorkflowFailure:
    kind = "branch, tag or commit" if source.may_be_commit else "branch or tag"
    listed = refs.described(source.ref)
    return WorkflowFailure(f"git_ref: {source.address} has no {kind} {source.ref}; {listed}")


def _clone_at(git: Git, wanted: _Wanted | None, depth: tuple[str, ...]) -> None:
    address, destination = git.source.address, str(git.destination)
    parent = git.destination.parent
    clone = ("clone", "--quiet", *depth)
    if wanted is None or wanted.short is not None:
        branch = () if wanted is None else (f"--branch={wanted.short}",)
        git.run(*clone, *branch, "--", address, destination, at=parent)
    elif wanted.is_ref or depth:
        object_format = "sha256" if len(wanted.name) == 64 and not wanted.is_ref else "sha1"
        git.run("init", "--quiet", f"--object-format={object_format}", "--", destination, at=parent)
        git.run("remote", "add", "origin", address)
        git.run("fetch", "--quiet", *depth, "--", "origin", wanted.name)
        git.run("checkout", "--quiet", "--detach", "FETCH_HEAD")
    else:
        git.run(*clone, "--no-checkout", "--", address, destination, at=parent)
        git.run("checkout", "--quiet", "--detach", _whole_commit(git, wanted.name), "--")


def _whole_commit(git: Git, wanted: str) -> str:
    """The id of a commit of the clone, which may be abbreviated."""
    try:
        return git.run("rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}").strip()
    except GitFailed as error:
        if "ambiguous" in str(error):
            raise WorkflowFailure(f"git_ref: {error}; write more of its digits") from error
        refs = Refs.read(git)
    raise _no_such_ref(git.source, refs)


def _commit(git: Git) -> str:
    """The commit that is checked out.

    Raises:
        WorkflowFailure: there is none: git clones a repository without one, and says that it is well.
    """
    try:
        return git.run("rev-parse", "--verify", "--quiet", "HEAD").strip()
    except GitFailed:
        refs = Refs.read(git)
    what = f"git clone {git.source.address} failed"
    if not refs.commits:
        raise WorkflowFailure(f"{what}: the repository is empty: commit the workflow, and push it")
    raise WorkflowFailure(
        f"{what}: its default branch is not there; name one with git_ref; {refs.described()}"
    )
