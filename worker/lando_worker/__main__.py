"""The worker's command line, as lando_worker.sh calls it.

``GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER`` runs a job. ``--failed REASON DIRECTORY WORKERCONFIG`` reports
that the start-up script could not, or that an earlier call died; it delivers what that one left, too.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lando_worker.event_pipe import Sender
from lando_worker.result import Result
from lando_worker.settings import Settings, SettingsError, load
from lando_worker.supervisor import end_with, start_child, watch

if TYPE_CHECKING:
    from lando_worker.log_buffer import Logbook
    from lando_worker.reporter import Reporter

USAGE = """usage: lando_worker.sh GIT CD RUN_CWL PARAMS WORKERCONFIG SERVER
       lando_worker.sh --failed REASON DIRECTORY WORKERCONFIG
The start-up script of a VM calls this; lando-fsm run JOB.yml runs a job by hand."""


def main(arguments: list[str]) -> int:
    """Run a job, or report that it could not be run; 0 once everything is delivered."""
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
    """Run a job in the current directory, the VM's own; 0 once everything is delivered."""
    vm = Path.cwd()

    def work(parent: Sender) -> Result:
        from lando_worker.workflow import Assignment, carry_out  # noqa: PLC0415

        return carry_out(Assignment(git, cd, run_cwl, params, vm, settings), parent)

    child = start_child(work)
    end_with(child)
    _say(f"{server}: job {settings.job}, attempt {settings.attempt}")
    reporter, logbook = _reporting(settings, vm, params)
    reporter.start("cloning")
    try:
        result = watch(child, reporter, logbook)
    except Exception as error:
        traceback.print_exc()
        result = Result("system_failed", f"the worker failed: {type(error).__name__}: {error}")
    logbook.close()
    _finish(reporter, logbook, settings, result)
    return 0


def report_failure(reason: str, vm: Path, settings: Settings) -> int:
    """Report that a job could not be run, unless its end was reported already; 0 once that is delivered."""
    reporter, logbook = _reporting(settings, vm, vm / "parameters.yml")
    reporter.start()
    _finish(reporter, logbook, settings, Result("system_failed", reason))
    return 0


def _reporting(settings: Settings, vm: Path, params: Path) -> tuple[Reporter, Logbook]:
    # Imported only now: the child must not wait for this.
    from lando_worker.log_buffer import Logbook  # noqa: PLC0415
    from lando_worker.publishers import open_publisher  # noqa: PLC0415
    from lando_worker.reporter import Reporter  # noqa: PLC0415
    from lando_worker.spool import Spool  # noqa: PLC0415

    logbook = Logbook(_secrets(settings, params))
    reporter = Reporter(
        settings.job,
        settings.attempt,
        settings.token,
        spool=Spool(vm / "spool" / f"{settings.job}-{settings.attempt}"),
        logbook=logbook,
        connect=lambda: open_publisher(settings.queue),
        heartbeat=settings.heartbeat,
    )
    return reporter, logbook


def _secrets(settings: Settings, params: Path) -> list[str]:
    from lando.redaction import secret_values  # noqa: PLC0415
    from lando_worker.inputs import InputError, read  # noqa: PLC0415

    try:
        found = secret_values(read(params))
    except InputError:
        found = []  # the child says so
    return [*found, *settings.secrets]


def _finish(reporter: Reporter, logbook: Logbook, settings: Settings, result: Result) -> None:
    tail = logbook.tail()
    reason = logbook.masked(result.reason)
    if result.quote_log and tail.strip():
        reason += f": {tail.strip().splitlines()[-1][:500]}"
    _say(result.outcome + (f": {reason}" if reason else ""))
    body: dict[str, Any] = {
        "outcome": result.outcome,
        "exit_code": result.exit_code,
        "outputs": result.outputs,
        "log_tail": tail,
        "reason": reason,
    }
    reporter.finish(body)


def _say(text: str) -> None:
    print(f"lando: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
