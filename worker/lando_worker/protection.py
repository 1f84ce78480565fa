"""Keeps what the worker may do from the workflow's account: on VMs of OpenStack, before anything of the job.

The VM's user data holds the token of the attempt and the workers' password on the broker. So do the worker's
files and those of cloud-init. All of it is closed to everyone but root, and then tried as that account.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from lando_worker import metadata_service, root_only, ways_to_root
from lando_worker.directories import Directories
from lando_worker.result import SystemFailure, Unsuitable
from lando_worker.workflow_account import WorkflowAccount

ADVICE = (
    "rebuild the image (docs/worker-image.md), or accept that workflows can read the worker's rights with "
    "worker.protect: false in landoconfig.yml"
)


def protect(account: WorkflowAccount | None, directories: Directories, root: Path = Path("/")) -> None:
    """Protect the worker's rights, and print how.

    Args:
        account: which the workflow will run as; None if that is root, from whom nothing can be kept.
        directories: made already.
        root: holds the system's files; another directory for tests.

    Raises:
        Unsuitable: this image cannot do it.
        SystemFailure: it could not be done.
    """
    if os.geteuid() != 0:
        raise Unsuitable(f"the worker runs as uid {os.geteuid()}; only root can protect its rights: {ADVICE}")
    if account is None:
        _warn("the workflow runs as root (worker.user)")
        return
    own_files = [path for path in directories.vm.iterdir() if path not in directories.of_workflow]
    closed = root_only.close(own_files, root)
    try:
        by = metadata_service.refuse(lambda: as_account(account, metadata_service.reached_addresses))
    except Unsuitable as failure:
        raise Unsuitable(f"{failure}: {ADVICE}") from None
    readable = as_account(account, lambda: root_only.readable(closed))
    if readable:
        raise Unsuitable(f"the account {account.name!r} can read {', '.join(readable[:5])}: {ADVICE}")
    _print(f"only root can reach the metadata service ({by}), the config drive and the worker's files")
    sockets = as_account(account, ways_to_root.open_sockets)
    for way in (*ways_to_root.groups(account), *sockets, *ways_to_root.sudo(account)):
        _warn(f"the account {account.name!r} can become root through {way}")


def as_account(account: WorkflowAccount, what: Callable[[], list[str]]) -> list[str]:
    """What a function returns in a process of that account. No other thread may exist yet.

    Raises:
        SystemFailure: it does not return.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            account.become()
            os.write(writing, json.dumps(what()).encode())
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    if not answer:
        raise SystemFailure(f"the account {account.name!r} could not be tried (the log says why)")
    found: list[str] = json.loads(answer)
    return found


def _warn(text: str) -> None:
    _print(f"warning: {text}: workflows can read the worker's rights")


def _print(text: str) -> None:
    sys.stderr.write(f"lando: protection: {text}\n")
    sys.stderr.flush()
