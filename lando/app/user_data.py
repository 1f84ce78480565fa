"""The start-up script (user data): writes the worker's two files and starts lando_worker.sh.

No shell interprets anything of the job: every value is base64 or quoted, and the body below is the same for
every job. The script is ASCII, whatever the job contains.

The script contains secrets, in base64, which protects nothing:

- the token of the attempt, with which the worker's reports are accepted;
- the workers' password on the broker, if the queue is on one;
- the user and password of the job's ``git_clone``;
- whatever the job's ``input`` and ``cwl_args`` contain.

On OpenStack, root in the VM and the other users of the project can read the script; so can the workflow where
``worker.protect`` does not hold (``lando_worker.protection``). On the local cloud, it is a file (0600) in the
VM's directory.

Neither the script nor the worker puts the token, a password or ``input`` on a command line; git gets its
password in its environment. In whatever it prints or reports, the worker masks the token, the passwords, and
what ``lando.credentials`` finds in ``input`` and ``cwl_args``. A site's own runner gets ``cwl_args`` on its
command line.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lando.address import strip_url
from lando.cloud.interface import MAX_USER_DATA
from lando.config.site_config import Timeouts
from lando.config.worker import WorkerConfig
from lando.errors import LandoError, UsageError
from lando.states.job import JobSpec
from lando.versions import OPTIONAL
from lando.yaml_json import yaml_safe_json

TRAPS = r"""
set -euo pipefail
umask 077
unset CDPATH
directory=${LANDO_VM_DIR:-/var/lib/lando}
step='start' output=''

report() {
    trap - EXIT
    # 143 (SIGTERM): the VM is being deleted.
    if [ "$1" -eq 0 ] || [ "$1" -eq 143 ]; then exit "$1"; fi
    reason="The VM could not $step (exit status $1): $output"
    echo "lando: $reason" >&2
    printf '%s' "$config" | base64 -d | "$worker" --failed "$reason" "$directory" /dev/stdin || unreported
    exit "$1"
}

unreported() {
    echo "lando: this could not be reported. Is $worker there, and does it run?" >&2
    [ -n "$source" ] || return 0
    # The daemon sees at once that a VM is off, and saves its console log.
    sleep 5
    poweroff
}
trap 'report $?' EXIT
trap 'trap - EXIT; exit 143' TERM
"""

BOOTSTRAP = Path(__file__).with_name("bootstrap.sh")
"""Installs the worker on a stock Debian or Ubuntu, before it runs the job."""

STEPS = r"""
step="make the directory $directory"
output=$(mkdir -p -- "$directory" 2>&1)
step="enter the directory $directory"
cd -- "$directory"
step='remove the files of an earlier start'
output=$(rm -f worker.json parameters.yml 2>&1)
step='write the worker configuration file'
output=$(printf '%s' "$config" | base64 -d 2>&1 >worker.json)
step='write the CWL parameter file'
output=$(printf '%s' "$parameters" | base64 -d 2>&1 >parameters.yml)
step="run $worker to its end"
output='the worker ended before it had reported everything'
"$worker" "$git" "$cd" "$run_cwl" "$PWD/parameters.yml" "$PWD/worker.json" "$server"
"""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told beside its job."""

    worker: WorkerConfig
    """The configuration's section, as it holds for this VM: ``command`` is given, and where workflows run as
    the account that runs the start-up script, ``user`` is None and ``protect`` false."""
    queue: Mapping[str, Any]
    """How to publish: ``{"kind": "embedded", "database": "/abs/path/lando.db"}``, or ``{"kind": "rabbitmq",
    "host": …}`` with everything that ``lando_worker.publishers`` needs."""
    heartbeat: float = Timeouts.heartbeat
    """Seconds between two reports."""
    run_timeout: float | None = None
    """Seconds that a workflow may run, unless its job says otherwise; None: without a limit."""
    outputs: str | None = None
    """Directory for final outputs; None: inside the VM."""


def installed_command() -> str:
    """Path of the lando_worker.sh that is installed with lando.

    Raises:
        LandoError: it is not installed.
    """
    package = find_spec("lando_worker")
    if package is None or package.origin is None:
        raise LandoError("lando_worker is not installed beside lando: reinstall lando-fsm, it holds both")
    return str(Path(package.origin).with_name("lando_worker.sh"))


def render(
    spec: JobSpec, *, job_id: str, attempt: int, token: str, server_name: str, settings: WorkerSettings
) -> bytes:
    """The start-up script of one create request.

    Args:
        spec: the job.
        job_id: its id; the worker's reports carry it, ``attempt`` and ``token``.
        server_name: for the log.
        settings: what else the worker is told.

    Raises:
        UsageError: the script would be larger than a cloud takes.
    """
    url, _, _ = strip_url(spec.git_clone)
    worker = settings.worker
    assert worker.command is not None
    config = {"job": job_id, "attempt": attempt, "token": token, **worker_configuration(spec, settings)}
    values = {
        "worker": worker.command,
        "source": worker.bootstrap_source or "" if worker.bootstrap else "",
        "account": worker.user or "",
        "git": url,
        "cd": spec.cd,
        "run_cwl": spec.run_cwl,
        "server": server_name,
        "config": _base64(json.dumps(config)),
        "parameters": _base64(yaml_safe_json(spec.input)),
    }
    assignments = "".join(f"{name}={_quoted(value)}\n" for name, value in values.items())
    head = f"#!/bin/bash\n# The start-up script of a lando-fsm job.\n{assignments}"
    script = (head + _body(worker)).encode("ascii")
    _check_size(script, spec)
    return script


def worker_configuration(spec: JobSpec, settings: WorkerSettings) -> dict[str, Any]:
    """What the worker configuration file says beside the create request.

    The worker reads it into a record of its own, ``lando_worker.settings``, and not into WorkerSettings: the
    image may have another version of lando-fsm. A worker refuses a job with a setting that it does not know,
    unless it stands under ``optional``: see ``lando.versions``.
    """
    _, user, password = strip_url(spec.git_clone)
    return {
        "queue": dict(settings.queue),
        "heartbeat": settings.heartbeat,
        "user": settings.worker.user,
        "protect": protects(settings.worker),
        "git": {"ref": spec.git_ref, "user": user, "password": password},
        "cwl_base_command": settings.worker.cwl_base_command,
        "cwl_args": spec.cwl_args,
        "outputs": settings.outputs,
        # The daemon ends what runs too long, too.
        OPTIONAL: {"run_timeout": settings.run_timeout if spec.run_timeout is None else spec.run_timeout},
    }


def _body(worker: WorkerConfig) -> str:
    bootstrap = BOOTSTRAP.read_text(encoding="ascii") if worker.bootstrap else ""
    return TRAPS + bootstrap + STEPS


def protects(worker: WorkerConfig) -> bool:
    """Whether the worker has to keep its rights from workflows: from root it cannot."""
    return worker.protect and worker.user not in (None, "root")


def unprotected(worker: WorkerConfig) -> str | None:
    """A warning, if workflows on VMs can read the worker's rights, and ``worker.protect`` accepts it not."""
    if worker.protect and not protects(worker):
        return (
            f"worker.user is {worker.user}: workflows on a VM can read the user data and the worker's files, "
            "with the workers' password on the broker; name another account, or accept it with "
            "worker.protect: false"
        )
    return None


def settings_size(settings: WorkerSettings) -> int:
    """Characters of a start-up script that are the same for every job."""
    return len(_body(settings.worker)) + len(json.dumps(asdict(settings)))


def check_input(spec: JobSpec) -> None:
    """Refuse an input object for which no start-up script has room; found without the cost of rendering it.

    Raises:
        UsageError: it is too large.
    """
    size = len(yaml_safe_json(spec.input))
    if size > MAX_USER_DATA:
        raise _too_large(size, f"at least {4 * size // 3:,}")


def is_surely_small(spec: JobSpec, settings_size: int) -> bool:
    """Whether the script is small enough for certain; found without the cost of rendering it.

    Args:
        settings_size: characters, by the function of this name.
    """
    # A character takes up to 6 bytes in JSON, and 4 in bash; the configuration is base64 within base64.
    texts = (spec.git_clone, spec.git_ref or "", spec.cd, spec.run_cwl, *spec.cwl_args)
    characters = 6 * sum(len(text) for text in texts)
    nested = characters + len(yaml_safe_json(spec.input).encode()) + settings_size
    return 4 * (characters + 4 * nested // 3) // 3 < MAX_USER_DATA - 4096


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _quoted(value: str) -> str:
    """``value`` as one word of bash, in ASCII."""
    if value.isascii() and value.isprintable():
        return shlex.quote(value)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in value.encode()) + "'"


def _check_size(script: bytes, spec: JobSpec) -> None:
    size = 4 * -(-len(script) // 3)
    if size > MAX_USER_DATA:
        raise _too_large(len(yaml_safe_json(spec.input).encode()), f"{size:,}")


def _too_large(input_size: int, size: str) -> UsageError:
    return UsageError(
        f"input: {input_size:,} bytes of JSON make a start-up script of {size} base64 characters, and a"
        f" cloud takes at most {MAX_USER_DATA:,}; put large values into a file of the repository, or where it"
        " can be downloaded, and name that file in input"
    )
