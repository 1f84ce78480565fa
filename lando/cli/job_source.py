"""A job's ``git_clone`` on this machine: whether VMs can reach it, and what of it is not committed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from lando.address import strip_url
from lando.config.site_config import CloudKind
from lando.errors import UsageError
from lando.repository import ENVIRONMENT, local_path
from lando.states.job import JobSpec

GIT_TIMEOUT = 10.0
"""Seconds that a warning is worth."""
SHOWN = 5
"""Files that a warning names."""


def check(spec: JobSpec, cloud: CloudKind) -> None:
    """Refuse a path of this machine for a VM elsewhere. One that is not here may be in the VM's image, and a
    ``file`` address says that VMs have it, too.

    Raises:
        UsageError: VMs cannot reach it.
    """
    path = Path(spec.git_clone)
    if cloud != "openstack" or not path.is_absolute() or not os.path.exists(path):
        return
    origin = _git(path, "config", "--get", "remote.origin.url") if os.path.exists(path / ".git") else None
    address, _, _ = strip_url(origin.strip()) if origin else ("", None, None)
    is_remote = ":" in address.partition("/")[0] and not address.startswith("file:")
    there = f", such as that of its origin, {address}" if is_remote else ""
    raise UsageError(
        f"git_clone: {path} is on this machine, and jobs run on VMs of OpenStack, which cannot read it: push"
        f" it to a git server, and write an address that VMs can reach{there}. If VMs have the same path"
        f" (in their image, or of a shared file system), write {path.as_uri()}"
    )


def uncommitted(spec: JobSpec, job_file: Path) -> str | None:
    """What to say of changes that are not committed, and so do not run; None if there are none.

    Args:
        spec: the job.
        job_file: is not part of the workflow, and not named.
    """
    path = local_path(spec.git_clone)
    if path is None or not os.path.exists(path / ".git"):
        return None
    head = _git(path, "rev-parse", "--verify", "--quiet", "HEAD")
    if head is None:
        return None
    if spec.git_ref is not None:
        named = _git(
            path, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{spec.git_ref}^{{commit}}"
        )
        if named != head:
            return None
    top = Path(os.path.realpath(path))
    changed = [name for name in _changed(path) if top / name != Path(os.path.realpath(job_file))]
    if not changed:
        return None
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    files = ", ".join(changed[:SHOWN])
    return (
        f"git_clone: {path} runs as it is committed, without the changes in {files}{more}: commit them if"
        " they are part of the workflow"
    )


def _changed(path: Path) -> list[str]:
    """The files that are not as they are committed: changed ones first, then those that git does not know."""
    status = _git(path, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=normal")
    entries = [entry for entry in (status or "").split("\0") if len(entry) > 3]
    entries.sort(key=lambda entry: entry.startswith("??"))
    return [entry[3:] for entry in entries]


def _git(path: Path, *arguments: str) -> str | None:
    """What git prints of a repository of this machine, changing nothing; None if it cannot say."""
    environment = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=path,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
