"""``lando-fsm check``: is everything there that a job needs?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import click

from lando import state_dir
from lando.app import user_data
from lando.app.app import App
from lando.cli.common import load_app
from lando.cloud.check_result import CheckResult
from lando.errors import LandoError
from lando.state_dir import refuse_network_filesystem
from lando.store.database import HEAD, schema_version
from lando.views.jobs import exists
from lando.workqueue.embedded import waiting

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ENGINE_TIMEOUT = 10.0
"""Seconds that docker or podman may take to answer."""


@click.command("check")
@click.option("--boot", is_flag=True, help="Then boot one VM, wait for its worker to report, and delete it.")
@click.pass_context
def command(ctx: click.Context, boot: bool) -> int:
    """Look whether everything is there that a job needs; a line each. Creates nothing, unless asked to.

    --boot tries a VM with the real image, and the real queue: it needs no daemon, says how long each phase
    takes, and confirms that nothing is left. It is not tried while something else is wrong. Exit code 1 if
    something is wrong; warnings do not count.
    """
    app = load_app(ctx)
    worst = _print(_check_results(app))
    if boot and not worst:
        from lando.cli import check_boot  # noqa: PLC0415 - loads the daemon

        return _print(check_boot.results(app))
    if boot:
        _print([CheckResult("boot", "warning", "not tried: something else is wrong")])
    return worst


def _print(results: Iterable[CheckResult]) -> int:
    """A line each; the exit code."""
    colors = {"ok": "green", "warning": "yellow", "wrong": "red"}
    plain = False if "NO_COLOR" in os.environ else None
    worst = 0
    for result in results:
        worst = max(worst, 1 if result.verdict == "wrong" else 0)
        verdict = click.style(f"{result.verdict:<8}", fg=colors[result.verdict])
        click.echo(f"{result.what:<16} {verdict} {result.message}", color=plain)
    return worst


def _check_results(app: App) -> Iterator[CheckResult]:
    yield CheckResult("configuration", "ok", app.config.source)
    for what, look in (
        ("state directory", _state_directory),
        ("database", _database),
        ("queue", _queue),
        ("worker account", _worker_account),
        ("daemon", _daemon),
        ("cloud", _cloud),
    ):
        yield _check_result(app, what, look)
    if app.config.cloud == "openstack":
        yield from _openstack(app)
        return
    for what, look in (("worker", _worker), ("git", _git), ("containers", _containers)):
        yield _check_result(app, what, look)


def _openstack(app: App) -> Iterator[CheckResult]:
    from lando.cloud.nova import checks  # noqa: PLC0415 - half a second, only where there is one

    try:
        cloud = app.openstack
    except LandoError as error:
        yield CheckResult("authentication", "wrong", str(error))
        return
    yield from checks.results(cloud)
    queue = app.config.work_queue
    if queue is not None and queue.worker_host in LOOPBACK:
        yield CheckResult(
            "worker_host",
            "warning",
            f"VMs would look for the broker at {queue.worker_host}, which is themselves; set "
            "work_queue.worker_host to the address by which they reach it",
        )
    yield CheckResult(
        "worker",
        "ok",
        f"{app.config.worker.command} in the image, workflows run as {app.config.worker.user}, with the "
        "image's git and containers; `lando-fsm check --boot` tries them",
    )


def _check_result(
    app: App, what: str, look: Callable[[App], tuple[Literal["ok", "warning"], str]]
) -> CheckResult:
    try:
        verdict, words = look(app)
    except LandoError as error:
        return CheckResult(what, "wrong", str(error))
    return CheckResult(what, verdict, words)


def _state_directory(app: App) -> tuple[Literal["ok", "warning"], str]:
    directory = app.config.state_dir
    existing = next(path for path in (directory, *directory.parents) if exists(path))
    refuse_network_filesystem(existing)
    if not existing.is_dir():
        raise LandoError(f"{existing} is no directory; name another one by LANDO_STATE_DIR")
    if not os.access(existing, os.W_OK):
        raise LandoError(f"{existing} is not writable; name another directory by LANDO_STATE_DIR")
    free = shutil.disk_usage(existing).free
    words = f"{directory}, {free / 2**30:.1f} GiB free"
    if existing != directory:
        words = f"{words}; not there yet, made when first needed"
    return ("warning", f"{words}: little") if free < 2**30 else ("ok", words)


def _database(app: App) -> tuple[Literal["ok", "warning"], str]:
    path = app.config.database_path
    if path is not None and not exists(path):
        return "ok", f"{path}: not there yet, made when first needed"
    version = schema_version(app.config.database_url)
    where = path or "reachable"
    if version is not None and version > HEAD:
        raise LandoError(f"{where}: its schema ({version}) is newer than this lando-fsm knows ({HEAD})")
    if version != HEAD:
        return "ok", f"{where}, schema {version or 'none'}; brought to {HEAD} when next used"
    return "ok", f"{where}, schema {HEAD}"


def _queue(app: App) -> tuple[Literal["ok", "warning"], str]:
    if app.embedded_queue is None:
        return _rabbitmq(app)
    letters = len(app.dead_letters().all())
    words = f"embedded, {len(waiting(app.embedded_queue))} messages not taken yet, {letters} dead letters"
    return ("warning", f"{words}; see `lando-fsm dead-letters`") if letters else ("ok", words)


def _rabbitmq(app: App) -> tuple[Literal["ok", "warning"], str]:
    from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - only where there is a broker

    found = inspect_queue(app.broker, app.names.queue)
    where = f"RabbitMQ at {app.broker}, queue {app.names.queue!r}"
    if found is None:
        return "warning", f"{where}: not there yet, made by the first daemon"
    words = f"{where} (version {found.version}), {found.waiting} not taken yet"
    letters = inspect_queue(app.broker, app.names.dead_letters)
    if letters is not None and letters.waiting:
        return "warning", f"{words}, {letters.waiting} dead letters; see `lando-fsm dead-letters`"
    return "ok", f"{words}, no dead letters"


def _worker_account(app: App) -> tuple[Literal["ok", "warning"], str]:
    if app.embedded_queue is not None:
        return "ok", "embedded: none is needed"
    from lando.workqueue.rabbitmq.inspection import probe_permissions  # noqa: PLC0415

    who = f"{app.worker_broker.username!r}"
    found = probe_permissions(app.worker_broker, app.names)
    if found is None:
        return "ok", f"{who} can log in; what else it may do shows when the queue is there"
    if found.missing:
        return "warning", f"{who}: {found.missing}; `lando-fsm rabbitmq-setup` prints what mends it"
    if found.excessive:
        return "warning", (
            f"{who} may {' and '.join(found.excessive)}, and every workflow on a VM has its password; "
            "`lando-fsm rabbitmq-setup` prints what mends it"
        )
    return "ok", f"{who} may report, and nothing else"


def _daemon(app: App) -> tuple[Literal["ok", "warning"], str]:
    pid = state_dir.running(app.daemon_lock)
    if pid is None:
        return "warning", "none is running; `lando-fsm daemon` starts one (`lando-fsm run` needs none)"
    return "ok", f"running, pid {pid}"


def _cloud(app: App) -> tuple[Literal["ok", "warning"], str]:
    places = app.config.max_workers
    if app.config.cloud == "openstack":
        limit = "as many VMs as the quota allows" if places is None else f"at most {places} VMs at a time"
        return "ok", f"OpenStack: {limit}"
    return "ok", f"local: VMs are processes of this machine, at most {places} at a time"


def _worker(app: App) -> tuple[Literal["ok", "warning"], str]:
    command = app.config.worker.command or user_data.installed_command()
    if not os.access(command, os.X_OK):
        raise LandoError(f"{command} is not there or not executable; see worker.command")
    return "ok", command


def _git(app: App) -> tuple[Literal["ok", "warning"], str]:
    git = shutil.which("git")
    if git is None:
        return "warning", "git is not installed: only plain folders can be cloned (apt-get install git)"
    version = subprocess.run([git, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return "ok", f"{version}, {git}"


def _containers(app: App) -> tuple[Literal["ok", "warning"], str]:
    for engine in ("docker", "podman"):
        path = shutil.which(engine)
        if path is not None and _answers(path):
            return "ok", f"{engine}, {path}"
    return (
        "warning",
        "neither docker nor podman answers: tools run without containers, and one that requires a container "
        "fails (apt-get install podman)",
    )


def _answers(engine: str | Path) -> bool:
    try:
        found = subprocess.run([engine, "info"], capture_output=True, timeout=ENGINE_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0
