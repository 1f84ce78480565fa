"""``lando-fsm check``: whether jobs can run."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import click

from lando import state_dir
from lando.app import user_data
from lando.app.app import App
from lando.app.lost_database import remains, warning
from lando.cli import check_retention
from lando.cli.common import load_app
from lando.cli.output import result as print_result
from lando.cli.output import result_styled
from lando.cli.text import count
from lando.cloud.check_result import CheckResult
from lando.errors import LandoError
from lando.sqlite.checkpoint import LARGE_LOG, log_path, log_size, readers
from lando.state_dir import read_only_note, refuse_network_filesystem
from lando.store.database import refuse_damage, stored_schema
from lando.store.schema import described
from lando.views.jobs import exists
from lando.workqueue.embedded_peek import count_waiting

Answer = tuple[Literal["ok", "warning"], str]
"""The verdict and the message of a check; a check that fails raises a LandoError."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ENGINE_TIMEOUT = 10.0
"""Seconds that docker or podman may take to answer."""


@click.command("check")
@click.option("--boot", is_flag=True, help="Also boot one VM, wait for its worker's report, and delete it.")
@click.pass_context
def command(ctx: click.Context, boot: bool) -> int:
    """Check that jobs can run; one line per check. Creates nothing, except with --boot.

    --boot creates one VM from the configured image, and waits for its report through the configured queue. It
    prints how long each phase takes, and confirms that nothing is left. It needs no daemon, and is skipped if
    another check failed. Exit code 1 if a check failed; warnings do not count.
    """
    app = load_app(ctx)
    exit_code = _print(_results(app))
    if boot and not exit_code:
        from lando.cli import check_boot  # noqa: PLC0415 - loads the daemon

        return _print(check_boot.results(app))
    if boot:
        _print([CheckResult("boot", "warning", "skipped, because another check failed")])
    return exit_code


def _print(results: Iterable[CheckResult]) -> int:
    """Print each result when it is ready; return the exit code."""
    colors = {"ok": "green", "warning": "yellow", "wrong": "red"}
    exit_code = 0
    for result in results:
        exit_code = max(exit_code, 1 if result.verdict == "wrong" else 0)
        verdict = f"{result.verdict:<8}", colors[result.verdict]
        message, *more = result.message.split("\n")
        result_styled((f"{result.what:<16} ", ""), verdict, (f" {message}", ""))
        print_result(*(f"    {line}" for line in more))
    return exit_code


def _results(app: App) -> Iterator[CheckResult]:
    yield CheckResult("configuration", "ok", app.config.source)
    for what, check in (
        ("state directory", _state_directory),
        ("database", _database),
        ("retention", check_retention.check),
        ("queue", _queue),
        *((("queue policies", _policies),) if app.embedded_queue is None else ()),
        ("worker account", _worker_account),
        ("daemon", _daemon),
        *((("metrics", _metrics),) if app.config.metrics is not None else ()),
        ("cloud", _cloud),
    ):
        yield _result(app, what, check)
    if app.config.cloud == "openstack":
        answers = True
        for result in _openstack(app):
            answers &= result.what != "authentication" or result.verdict != "wrong"
            yield result
        if answers:
            yield _unknown(app)
        return
    yield _unknown(app)
    for what, check in (("worker", _worker), ("git", _git), ("containers", _containers)):
        yield _result(app, what, check)


def _result(app: App, what: str, check: Callable[[App], Answer]) -> CheckResult:
    try:
        verdict, message = check(app)
    except LandoError as error:
        return CheckResult(what, "wrong", str(error))
    return CheckResult(what, verdict, message)


def _unknown(app: App) -> CheckResult:
    from lando.cli import check_unknown  # noqa: PLC0415 - loads the database's library

    try:
        return check_unknown.result(app)
    except LandoError as error:
        return CheckResult(check_unknown.WHAT, "wrong", str(error))


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
            f"each VM would look for the broker at {queue.worker_host}, which is the VM itself; set "
            "work_queue.worker_host to the broker's address as VMs reach it",
        )
    worker = app.config.worker
    unprotected = user_data.unprotected(worker)
    if unprotected:
        yield CheckResult("worker", "warning", unprotected)
        return
    keeps = "keeps the worker's rights from them" if worker.protect else "lets them read the worker's rights"
    yield CheckResult(
        "worker",
        "ok",
        f"{worker.command} in the image runs workflows as {worker.user}, with the image's git and "
        f"containers, and {keeps} (worker.protect); `lando-fsm check --boot` tests it",
    )


def _state_directory(app: App) -> Answer:
    app.require_own_state_dir()
    directory = app.config.state_dir
    existing = next(path for path in (directory, *directory.parents) if exists(path))
    refuse_network_filesystem(existing)
    if not existing.is_dir():
        raise LandoError(f"{existing} is not a directory; set LANDO_STATE_DIR to another one")
    if not os.access(existing, os.W_OK):
        note = read_only_note(existing)
        raise LandoError(f"{existing} is not writable; set LANDO_STATE_DIR to another directory{note}")
    free = shutil.disk_usage(existing).free
    little = free < 2**30
    detail = f"{directory}, {'only ' if little else ''}{free / 2**30:.1f} GiB free"
    if existing != directory:
        detail = f"{detail}; does not exist yet, created when first needed"
    return "warning" if little else "ok", detail


def _database(app: App) -> Answer:
    path = app.config.database_path
    if path is None:
        from lando.cli import check_postgres  # noqa: PLC0415 - only where there is one

        return check_postgres.answer(app.config.database_url)
    left = remains(app.config)
    if not exists(path):
        if left is not None:
            return "warning", warning(app.config, left)
        return "ok", f"{path}: does not exist yet, created when first needed"
    schema = stored_schema(app.config.database_url)
    schema.refuse_unusable(str(path))
    detail = f"{path}, {described(schema)}"
    if not schema.is_pending:
        _refuse_left(app)
    answer = _database_file(path, detail)
    if left is not None and (schema.version is None or app.views().is_new()):
        return "warning", warning(app.config, left)
    return answer


def _refuse_left(app: App) -> None:
    with app.views().reading() as queries:
        mark = None if queries is None else queries.copy_mark()
    words = None if mark is None else mark.refusal(app.config.database)
    if words is not None:
        raise LandoError(words)


def _database_file(path: Path, detail: str) -> Answer:
    if not refuse_damage(path):
        detail = (
            f'{detail}; too large to look at all of it for damage here: sqlite3 {path} "PRAGMA quick_check"'
        )
    log = log_size(path)
    if log <= LARGE_LOG:
        return "ok", detail
    found = ", ".join(map(str, readers(path))) or "fuser shows which"
    return "warning", (
        f"{detail}; {log_path(path).name} has {log / 2**20:.0f} MiB, since a process that reads from the "
        f"database does not end ({found})"
    )


def _queue(app: App) -> Answer:
    if app.embedded_queue is None:
        return _rabbitmq(app)
    dead_letters = len(app.dead_letters().all())
    detail = f"embedded, {count(count_waiting(app.embedded_queue), 'message')} not taken yet"
    return _with_dead_letters(detail, dead_letters)


def _rabbitmq(app: App) -> Answer:
    from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - only where there is a broker

    names = app.names
    commands, reports, letters, report_letters = (
        inspect_queue(app.broker, queue)
        for queue in (names.queue, names.reports, names.dead_letters, names.report_letters)
    )
    where = f"RabbitMQ at {app.broker}, queue {names.queue!r}"
    if commands is None:
        return "warning", f"{where}: does not exist yet, created by the first daemon"
    waiting = commands.waiting + (0 if reports is None else reports.waiting)
    detail = f"{where} (version {commands.version}), {count(waiting, 'message')} not taken yet"
    if reports is not None and report_letters is None:
        return "warning", (
            f"{detail}; the daemon's account may not declare {names.report_letters!r}, for messages of "
            "workers that cannot be understood: run the script that `lando-fsm rabbitmq-setup` prints, and "
            "restart the daemon"
        )
    return _with_dead_letters(detail, sum(each.waiting for each in (letters, report_letters) if each))


def _policies(app: App) -> Answer:
    from lando.workqueue.rabbitmq.policies import PoliciesUnseen, harmful_policies  # noqa: PLC0415

    virtual_host = shlex.quote(app.broker.virtual_host)
    try:
        harmful = harmful_policies(app.broker, app.names)
    except PoliciesUnseen as error:
        return "ok", (
            f"cannot be seen from here, since {error}; on the broker's machine: `rabbitmqctl list_queues -p "
            f"{virtual_host} name policy operator_policy effective_policy_definition`"
        )
    if harmful:
        return "warning", (
            f"{'; '.join(map(str, harmful))}: this can delete jobs, results or dead letters; exclude these "
            "queues from the policy's pattern"
        )
    return "ok", "no policy of the broker can delete messages of these queues"


def _with_dead_letters(detail: str, dead_letters: int) -> Answer:
    if not dead_letters:
        return "ok", f"{detail}, no dead letters"
    return "warning", f"{detail}, {count(dead_letters, 'dead letter')}; see `lando-fsm dead-letters`"


def _worker_account(app: App) -> Answer:
    if app.embedded_queue is not None:
        return "ok", "not needed by the embedded queue"
    from lando.workqueue.rabbitmq.inspection import probe_permissions  # noqa: PLC0415

    account = f"{app.worker_broker.username!r}"
    found = probe_permissions(app.worker_broker, app.names)
    correction = "run the script that `lando-fsm rabbitmq-setup` prints"
    if found is None:
        return "ok", f"{account} can log in; its permissions can be checked once the queue exists"
    if found.missing:
        return "warning", f"{account}: {found.missing}; {correction}"
    if found.excessive:
        return "warning", (
            f"{account} may {' and '.join(found.excessive)}, and every workflow on a VM has its password; "
            f"{correction}"
        )
    return "ok", f"{account} may send reports, and nothing else"


def _daemon(app: App) -> Answer:
    pid = state_dir.running(app.daemon_lock)
    if pid is None:
        return "warning", "none is running; `lando-fsm daemon` starts one (`lando-fsm run` needs none)"
    return "ok", f"running, pid {pid}"


def _metrics(app: App) -> Answer:
    from lando.cli import check_metrics  # noqa: PLC0415 - only where there are some

    assert app.config.metrics is not None
    return check_metrics.answer(app.config.metrics, state_dir.running(app.daemon_lock) is not None)


def _cloud(app: App) -> Answer:
    max_workers = app.config.max_workers
    limit = (
        "as many VMs as the quota allows" if max_workers is None else f"at most {count(max_workers, 'VM')}"
    )
    if app.config.cloud == "openstack":
        return "ok", f"OpenStack: {limit} at a time"
    if app.unused_cloud is not None:
        return "warning", app.unused_cloud
    return "ok", f"local: VMs are processes on this machine; {limit} at a time"


def _worker(app: App) -> Answer:
    command = app.config.worker.command or user_data.installed_command()
    if not os.access(command, os.X_OK):
        raise LandoError(f"{command} does not exist or is not executable; correct worker.command")
    return "ok", command


def _git(app: App) -> Answer:
    git = shutil.which("git")
    if git is None:
        return "warning", "git is not installed: only plain folders can be cloned (apt-get install git)"
    version = subprocess.run([git, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return "ok", f"{version}, {git}"


def _containers(app: App) -> Answer:
    for engine in ("docker", "podman"):
        path = shutil.which(engine)
        if path is not None and _answers(path):
            return "ok", f"{engine}, {path}"
    return (
        "warning",
        "neither docker nor podman answers: tools run without containers, and those that require one fail "
        "(apt-get install podman)",
    )


def _answers(engine: str | Path) -> bool:
    try:
        found = subprocess.run([engine, "info"], capture_output=True, timeout=ENGINE_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return found.returncode == 0
