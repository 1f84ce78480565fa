"""The child: clone, enter, run. Everything that the job's own code can touch happens in this process."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lando_worker import clone, cwl, entry, inputs, site_runner
from lando_worker import workflow_account as account
from lando_worker.container_engine import Engine
from lando_worker.directories import Directories
from lando_worker.event_pipe import Sender
from lando_worker.result import Result, SystemTrouble, WorkflowFailure
from lando_worker.settings import Settings

Runner = Callable[[Sequence[str], str, Directories], Result]
"""Called with the job's own options, the document, and the directories, in the job's ``cd``."""


@dataclass(frozen=True)
class Assignment:
    """What to do: the worker's arguments."""

    git: str
    """Address or absolute path, without credentials."""
    cd: str
    run_cwl: str
    params: Path
    vm: Path
    settings: Settings

    @property
    def source(self) -> clone.Source:
        """What to clone."""
        settings = self.settings
        return clone.Source(self.git, settings.git_ref, settings.git_user, settings.git_password)

    @property
    def directories(self) -> Directories:
        """Where to work."""
        return Directories(self.vm, self.settings.outputs or self.vm / "outputs")


def carry_out(assignment: Assignment, parent: Sender) -> Result:
    """Do it all, whatever happens; the current process changes its account, directory and environment."""
    try:
        input_object = inputs.read(assignment.params)
        _settle(assignment)
        return _run(assignment, input_object, parent)
    except WorkflowFailure as failure:
        return Result("workflow_failed", str(failure))
    except (SystemTrouble, inputs.InputError) as trouble:
        return Result("system_failed", str(trouble))
    except OSError as error:
        return Result("system_failed", _in_words(error))
    except Exception as error:
        traceback.print_exc()
        return Result("system_failed", f"the worker failed: {type(error).__name__}: {error}")


def _settle(assignment: Assignment) -> None:
    become = account.to_become(assignment.settings.user)
    assignment.directories.make(become)
    if become:
        become.enter()
    # The start-up script's own is for its secrets; what a workflow makes is for others, too.
    os.umask(0o022)
    # Before anything asks for it: Python and cwltool remember the answer.
    os.environ["TMPDIR"] = str(assignment.directories.tmp)
    # Last on the PATH, so that tools installed beside lando are found also where nobody activated its venv.
    beside = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), beside)))


def _run(assignment: Assignment, input_object: dict[str, Any], parent: Sender) -> Result:
    source, directories, settings = assignment.source, assignment.directories, assignment.settings
    run = _site_runner(settings.cwl_base_command) if settings.cwl_base_command else _cwltool(parent)

    _say(f"cloning {source.address}" + (f" ({source.ref})" if source.ref else ""))
    folder, commit = clone.fetch(source, directories.clone)
    parent.state(phase="running", git_commit=commit)
    where = entry.directory(folder, assignment.cd)
    document = entry.document(folder, where, assignment.run_cwl)
    os.chdir(where)
    inputs.write(directories.inputs, inputs.located(input_object, where))

    _say(f"running {assignment.run_cwl}" + (f" of commit {commit}" if commit else ""))
    return run(settings.cwl_args, document, directories)


def _cwltool(parent: Sender) -> Runner:
    """cwltool in this process; it begins to load now."""
    preload, engine = cwl.Preload(), Engine()

    def tell(step: int, steps: int, name: str) -> None:
        parent.state(step=step, steps=steps, step_name=name)

    def run(arguments: Sequence[str], document: str, directories: Directories) -> Result:
        preload.finish()
        return cwl.run(arguments, document, directories, engine, tell)

    return run


def _site_runner(base_command: Sequence[str]) -> Runner:
    def run(arguments: Sequence[str], document: str, directories: Directories) -> Result:
        return site_runner.run(base_command, arguments, document, directories)

    return run


def _say(text: str) -> None:
    sys.stderr.write(f"lando: {text}\n")
    sys.stderr.flush()


def _in_words(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    advice = "; a larger volume_size or flavor may help" if error.errno == errno.ENOSPC else ""
    return f"{where}{error.strerror or error}{advice}"
