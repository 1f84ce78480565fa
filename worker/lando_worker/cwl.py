"""Runs cwltool in this process: loads it while git clones, reports steps, and quotes its errors."""

from __future__ import annotations

import errno
import gc
import io
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lando.message_limits import shorten
from lando_worker import inputs, outputs
from lando_worker.container_engine import ContainerEngine
from lando_worker.directories import Directories
from lando_worker.event_pipe import LONGEST
from lando_worker.result import Result, SystemFailure

ReportStep = Callable[[int, int, str], None]
"""Called with k, n and the step's name when step k of n begins."""

USAGE_STATUS = 2
"""cwltool's exit status for options that it does not take."""
CONSEQUENCE = "Exception on step"
"""cwltool logs this for every step that contains the one that failed."""


class Preload:
    """Loads cwltool, and the schemas that most documents need, in the background.

    Garbage collection is off meanwhile: there is no garbage, and looking for it takes a quarter of the time.
    """

    def __init__(self) -> None:
        gc.disable()
        self._go_on = True
        self._thread = threading.Thread(target=self._load, name="preload", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            import cwltool.main  # noqa: F401, PLC0415
            from cwltool.process import get_schema  # noqa: PLC0415

            for version in ("v1.0", "v1.2"):
                if self._go_on:
                    get_schema(version)
        except ImportError:
            pass  # run() raises it

    def finish(self) -> None:
        """Wait for what is being loaded; cwltool loads the rest when it needs it."""
        self._go_on = False
        self._thread.join()
        gc.freeze()
        gc.enable()


def run(
    arguments: Sequence[str],
    document: str,
    input_object: dict[str, Any],
    directories: Directories,
    engine: ContainerEngine,
    report: ReportStep,
) -> Result:
    """Run the document in the current directory.

    Args:
        arguments: the job's own options of cwltool.
        document: its absolute path, perhaps with a fragment.
        input_object: its parameters; what they refer to is relative to the current directory.
        directories: where outputs and the ids of containers go.
        engine: the machine's container engine.
        report: called when a step begins.

    Raises:
        SystemFailure: cwltool cannot be imported.
    """
    try:
        from cwltool.main import main  # noqa: PLC0415

        from lando_worker import cwl_options  # noqa: PLC0415
        from lando_worker.step_counter import StepCounter  # noqa: PLC0415
    except ImportError as error:
        raise SystemFailure(f"cwltool cannot be loaded: {error}; reinstall lando-fsm") from error

    try:
        args = cwl_options.parse(arguments)
    except cwl_options.Refused as refused:
        return Result("workflow_failed", str(refused), exit_code=USAGE_STATUS)
    is_chosen = cwl_options.chooses_engine(args)
    address, fetcher = inputs.served(input_object, Path.cwd())
    cwl_options.complete(args, _address(document), address, str(Path.cwd()), directories, engine)
    counter, errors = StepCounter(report), _FirstErrors()
    cwltool_log = logging.getLogger("cwltool")
    cwltool_log.addHandler(errors)
    printed = io.StringIO()
    try:
        status = main(
            [*arguments],  # for the log of --provenance only
            args,
            stdout=printed,
            loadingContext=cwl_options.loading_context(args, counter.make_tool, fetcher),
            runtimeContext=cwl_options.runtime_context(args, directories),
            logger_handler=logging.StreamHandler(sys.stderr),
            # Without it main() would load the schemas again.
            custom_schema_callback=None if args.enable_ext else lambda: None,
        )
    except SystemExit as exit_:  # cwltool's own, for some errors with containers
        status = exit_.code if isinstance(exit_.code, int) else 1
    except (
        Exception
    ) as error:  # cwltool's, for a file that an option names, or a record that cannot be written
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        traceback.print_exc()
        errors.add(f"{type(error).__name__}: {error}")
        status = 1
    finally:
        cwltool_log.removeHandler(errors)
    if status == 0:
        counter.run_succeeded()
        return outputs.succeeded(printed.getvalue(), directories.outputs)
    needs_container = not (is_chosen or engine.available) and "DockerRequirement" in str(errors)
    reason = _needs_container(errors, engine) if needs_container else _failed(status, errors)
    failure = Result("workflow_failed", reason, exit_code=status, quote_log=not str(errors))
    return outputs.with_partial(failure, printed.getvalue(), directories.outputs)


def _address(document: str) -> str:
    """As a ``file://`` address: in a path cwltool takes ``%20`` for a space, and ``#`` for a fragment."""
    if Path(document).is_file():
        return Path(document).as_uri()
    path, _, fragment = document.rpartition("#")
    return f"{Path(path).as_uri()}#{fragment}"


def _failed(status: int, errors: _FirstErrors) -> str:
    return f"cwltool exited with status {status}" + (f": {errors}" if str(errors) else "")


def _needs_container(errors: _FirstErrors, engine: ContainerEngine) -> str:
    return (
        "the workflow requires containers (a DockerRequirement under requirements), but this machine has no"
        f" container engine: {engine.reason}. Install docker (Debian, Ubuntu: apt install docker.io) or"
        " podman (apt install podman) where workflows run, or move DockerRequirement to hints if the"
        f" programs are installed there. cwltool reported: {errors}"
    )


class _FirstErrors(logging.Handler):
    """The first two errors that cwltool logs: the cause comes before its consequences."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._errors: list[str] = []

    def add(self, text: str) -> None:
        """Note an error that cwltool has not logged."""
        self._errors.append(" ".join(text.split()))

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._errors) < 2 and not record.getMessage().startswith(CONSEQUENCE) and _is_error(record):
            self._errors.append(" ".join(self._lines(record)))

    @staticmethod
    def _lines(record: logging.LogRecord) -> Iterator[str]:
        text = shorten(record.getMessage(), LONGEST).replace(
            ", try again with --debug for more information", ""
        )
        return (line.strip() for line in text.splitlines() if line.strip())

    def __str__(self) -> str:
        return "; ".join(self._errors)


def _is_error(record: logging.LogRecord) -> bool:
    """Whether a tool failed, which cwltool logs as a warning, or cwltool itself."""
    failures: tuple[Any, ...] = ("exited with status", "was terminated by signal", "exceeded time limit")
    return record.levelno >= logging.ERROR or any(failure in str(record.msg) for failure in failures)
