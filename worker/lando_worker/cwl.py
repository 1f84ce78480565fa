"""cwltool in this process: loaded while git clones; tells step k of n, and its own words when it fails."""

from __future__ import annotations

import gc
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lando_worker import outputs
from lando_worker.container_engine import CHOICES, Engine
from lando_worker.directories import Directories
from lando_worker.result import Result, SystemTrouble

TellStep = Callable[[int, int, str], None]
"""Called with k, n, and the step's name."""

MAX_WORDS = 2000
SYMPTOM = "Exception on step"
"""cwltool says so of every step around the one that failed."""


class Preload:
    """Loads cwltool in the background, and the schemas that every document needs.

    Garbage is not collected meanwhile: nothing becomes garbage, and looking costs a quarter of the time.
    """

    def __init__(self) -> None:
        gc.disable()
        self._wanted = True
        self._thread = threading.Thread(target=self._load, name="preload", daemon=True)
        self._thread.start()

    def _load(self) -> None:
        try:
            import cwltool.main  # noqa: F401, PLC0415
            from cwltool.process import get_schema  # noqa: PLC0415

            for version in ("v1.0", "v1.2"):
                if self._wanted:
                    get_schema(version)
        except ImportError:
            pass  # said by run(), which needs it

    def finish(self) -> None:
        """Wait for what is being loaded; what is not, cwltool loads when it needs it."""
        self._wanted = False
        self._thread.join()
        gc.freeze()
        gc.enable()


def run(
    arguments: Sequence[str], document: str, directories: Directories, engine: Engine, tell: TellStep
) -> Result:
    """Run the document in the current directory.

    Args:
        arguments: the job's own options of cwltool.
        document: its absolute path, maybe with a fragment.
        directories: where the input object is, and where outputs and the ids of containers go.
        engine: tells whether there are containers.
        tell: called when a step begins.

    Raises:
        SystemTrouble: cwltool is not there.
    """
    try:
        from cwltool.context import LoadingContext  # noqa: PLC0415
        from cwltool.main import main  # noqa: PLC0415

        from lando_worker.step_counter import Steps  # noqa: PLC0415
    except ImportError as error:
        raise SystemTrouble(f"cwltool cannot be loaded: {error}; install lando-fsm again") from error

    chosen = any(argument.split("=")[0] in CHOICES for argument in arguments)
    options = [] if chosen else engine.options(directories.containers)
    command = [
        *("--outdir", str(directories.outputs), "--basedir", str(Path.cwd()), "--disable-color"),
        *options,
        *arguments,
        document,
        str(directories.inputs),
    ]
    sys.argv = ["cwltool"]  # which it shows in its log, and to servers
    steps = Steps(tell)
    loading = LoadingContext({"construct_tool_object": steps.make_tool})
    words = _Words()
    cwltool_log = logging.getLogger("cwltool")
    cwltool_log.addHandler(words)
    printed = io.StringIO()
    try:
        status = main(
            command,
            stdout=printed,
            loadingContext=loading,
            logger_handler=logging.StreamHandler(sys.stderr),
            # Else main() would forget the schemas that are loaded already.
            custom_schema_callback=None if "--enable-ext" in arguments else lambda: None,
        )
    except SystemExit as exit_:  # how argparse refuses an option
        status = exit_.code if isinstance(exit_.code, int) else 1
    finally:
        cwltool_log.removeHandler(words)
    if status == 0:
        steps.all_done()
        return outputs.succeeded(printed.getvalue(), directories.outputs)
    needs_container = "--no-container" in options and "DockerRequirement" in str(words)
    reason = _needs_container(words, engine) if needs_container else _failed(status, words)
    return Result("workflow_failed", reason, exit_code=status, quote_log=not str(words))


def _failed(status: int, words: _Words) -> str:
    return f"cwltool exited with status {status}" + (f": {words}" if str(words) else "")


def _needs_container(words: _Words, engine: Engine) -> str:
    return (
        "the workflow requires containers (a DockerRequirement under requirements), and this machine has no"
        f" container engine: {engine.explanation}. Install docker (Debian, Ubuntu: apt install docker.io) or"
        " podman (apt install podman) where workflows run, or move DockerRequirement to hints if the"
        f" programs are installed there. cwltool's words: {words}"
    )


class _Words(logging.Handler):
    """The first things that cwltool says went wrong: the cause comes before its consequences."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._words) < 2 and not record.getMessage().startswith(SYMPTOM) and _is_cause(record):
            self._words.append(" ".join(self._lines(record)))

    @staticmethod
    def _lines(record: logging.LogRecord) -> Iterator[str]:
        text = record.getMessage().replace(", try again with --debug for more information", "")
        return (line.strip() for line in text.splitlines() if line.strip())

    def __str__(self) -> str:
        return "; ".join(self._words)[:MAX_WORDS]


def _is_cause(record: logging.LogRecord) -> bool:
    ended_badly: tuple[Any, ...] = ("exited with status", "was terminated by signal", "exceeded time limit")
    return record.levelno >= logging.ERROR or any(words in str(record.msg) for words in ended_badly)
