"""The worker's command line, as lando_worker.sh calls it.

``GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER`` runs a job. ``--failed REASON DIRECTORY WORKERCONFIG`` reports
that the start-up script failed, or that an earlier call was killed, and delivers the reports it left behind.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lando.message_limits import REASON, shorten
from lando.versions import VERSION, refusal
from lando_worker.event_pipe import EventSender
from lando_worker.outputs import without_secrets
from lando_worker.result import Result
from lando_worker.settings import ABILITIES, Settings, SettingsError, load
from lando_worker.supervisor import start_child, terminate_with, watch

if TYPE_CHECKING:
    from lando_worker.log_buffer import LogBuffer
    from lando_worker.reporter import Reporter

USAGE = """usage: lando_worker.sh GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER
       lando_worker.sh --failed REASON DIRECTORY WORKERCONFIG
The start-up script of a VM calls this; lando-fsm run JOB.yml runs a job by hand."""


def main(arguments: list[str]) -> int:
    """Run a job, or report that it could not be run. Returns 0 once every report is delivered."""
    try:
        if len(arguments) == 6:
            git, cd, run_cwl, params, config, server = arguments
            return run_job(git, cd, run_cwl, Path(params), load(Path(config)), server)
        if len(arguments) == 4 and arguments[0] == "--failed":
            _, reason, directory, config = arguments
            return report_failure(reason, Path(directory), load(Path(config)))
    except SettingsError as error:
        print(f"lando_worker: {error}", file=sys.stderr)
        return 2
    print(USAGE, file=sys.stderr)
    return 2


def run_job(git: str, cd: str, run_cwl: str, params: Path, settings: Settings, server: str) -> int:
    """Run a job in the current directory, the VM's own. Returns 0 once every report is delivered."""
    vm = Path.cwd()
    if settings.unknown:
        refused = Result("system_failed", refusal(VERSION, settings.unknown), final=True)
        return _report_end(refused, vm, params, settings)

    def work(events: EventSender) -> Result:
        from lando_worker.workflow import Assignment, run  # noqa: PLC0415

        return run(Assignment(git, cd, run_cwl, params, vm, settings), events)

    child = start_child(work)
    terminate_with(child)
    _print(f"{server}: job {settings.job}, attempt {settings.attempt}")
    reporter, log = _make_reporter(settings, vm, params)
    reporter.start("cloning", {"version": VERSION, "abilities": list(ABILITIES)})
    try:
        result = watch(child, reporter, log, settings.run_timeout)
    except Exception as error:
        print(log.masked(traceback.format_exc()), file=sys.stderr, end="")
        result = Result("system_failed", f"the worker failed: {type(error).__name__}: {error}")
    log.close()
    _finish(reporter, log, settings, result)
    return 0


def report_failure(reason: str, vm: Path, settings: Settings) -> int:
    """Report that a job could not be run, unless its end is reported already. Returns 0 once delivered."""
    return _report_end(Result("system_failed", reason), vm, vm / "parameters.yml", settings)


def _report_end(result: Result, vm: Path, params: Path, settings: Settings) -> int:
    reporter, log = _make_reporter(settings, vm, params)
    reporter.start()
    _finish(reporter, log, settings, result)
    return 0


def _make_reporter(settings: Settings, vm: Path, params: Path) -> tuple[Reporter, LogBuffer]:
    # Imported here, after the child was started, so that the child need not wait for it.
    from lando_worker.log_buffer import LogBuffer  # noqa: PLC0415
    from lando_worker.publishers import open_publisher  # noqa: PLC0415
    from lando_worker.reporter import Reporter  # noqa: PLC0415
    from lando_worker.spool import Spool  # noqa: PLC0415

    log = LogBuffer(_secrets(settings, params))
    reporter = Reporter(
        settings.job,
        settings.attempt,
        settings.token,
        spool=Spool(vm / "spool" / f"{settings.job}-{settings.attempt}"),
        log=log,
        connect=lambda: open_publisher(settings.queue),
        heartbeat=settings.heartbeat,
    )
    return reporter, log


def _secrets(settings: Settings, params: Path) -> list[str]:
    from lando.credentials import secret_values  # noqa: PLC0415
    from lando_worker.inputs import InputError, read  # noqa: PLC0415

    try:
        found = secret_values(read(params))
    except InputError:
        found = []  # the child reports the error
    return list(dict.fromkeys([*found, *secret_values(list(settings.cwl_args)), *settings.secrets]))


def _finish(reporter: Reporter, log: LogBuffer, settings: Settings, result: Result) -> None:
    tail = log.tail()
    # Masked before it is shortened, so that no secret is cut in two.
    reason = shorten(log.masked(result.reason), REASON)
    if result.quote_log and tail.strip():
        reason += f": {tail.strip().splitlines()[-1][:500]}"
    _print(result.outcome + (f": {reason}" if reason else ""))
    body: dict[str, Any] = {
        "outcome": result.outcome,
        "exit_code": result.exit_code,
        "outputs": without_secrets(result.outputs, log.masked),
        "log_tail": tail,
        "reason": reason,
        "version": VERSION,
        "final": result.final,
    }
    reporter.finish(body)


def _print(text: str) -> None:
    print(f"lando: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
