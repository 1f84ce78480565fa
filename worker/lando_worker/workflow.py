"""The child: clones, prepares, runs. Everything that the job's own code can touch happens in this process."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lando import disk_usage, removal
from lando_worker import clone, cwl, entry, inputs, site_runner
from lando_worker.container_engine import ContainerEngine
from lando_worker.directories import Directories
from lando_worker.event_pipe import EventSender
from lando_worker.protection import protect
from lando_worker.result import Result, SystemFailure, Unsuitable, WorkflowFailure
from lando_worker.settings import Settings
from lando_worker.source import Source
from lando_worker.workflow_account import find_account

Runner = Callable[[Sequence[str], str, dict[str, Any], Directories], Result]
"""Runs a document, in the directory given by ``cd``. Called with the job's ``cwl_args``, the document's path,
the input object and the directories."""


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
    def source(self) -> Source:
        """What to clone."""
        settings = self.settings
        return Source(self.git, settings.git_ref, settings.git_user, settings.git_password)

    @property
    def directories(self) -> Directories:
        """Where to work."""
        return Directories(self.vm, self.settings.outputs or self.vm / "outputs")


def run(assignment: Assignment, events: EventSender) -> Result:
    """Do all of it; errors become results. Changes this process's account, directory and environment."""
    try:
        input_object = inputs.read(assignment.params)
        _prepare(assignment)
        return _with_full_disk(_run(assignment, input_object, events), assignment)
    except WorkflowFailure as failure:
        return Result("workflow_failed", str(failure))
    except Unsuitable as failure:
        return Result("system_failed", str(failure), final=True)
    except (SystemFailure, inputs.InputError) as failure:
        return Result("system_failed", str(failure))
    except OSError as error:
        return _with_full_disk(Result("system_failed", _describe(error)), assignment)
    except Exception as error:
        traceback.print_exc()
        return Result("system_failed", f"the worker failed: {type(error).__name__}: {error}")


def _with_full_disk(result: Result, assignment: Assignment) -> Result:
    """Where a run failed and the disk is full, say so, and make room: this report may wait for it.

    What is emptied would be deleted with the VM.
    """
    vm = assignment.vm
    if result.outcome == "succeeded" or not disk_usage.is_full(vm):
        return result
    size = disk_usage.shown(disk_usage.used(vm))
    with contextlib.suppress(OSError, removal.NotRemoved):
        removal.empty(assignment.directories.tmp)
    return replace(result, reason=f"{result.reason}; the disk of {vm} is full: this job has {size} there")


def _prepare(assignment: Assignment) -> None:
    account = find_account(assignment.settings.user)
    assignment.directories.make(account)
    if assignment.settings.protect:
        protect(account, assignment.directories)
    if account:
        account.become()
    # The start-up script's umask protects its own files; workflow outputs may be readable by others.
    os.umask(0o022)
    # Before anything uses a temporary directory: Python and cwltool remember the first answer.
    os.environ["TMPDIR"] = str(assignment.directories.tmp)
    # Last on the PATH, so that tools in lando's virtual environment are found also if it is not activated.
    own_programs = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join(filter(None, (os.environ.get("PATH"), own_programs)))


def _run(assignment: Assignment, input_object: dict[str, Any], events: EventSender) -> Result:
    source, directories, settings = assignment.source, assignment.directories, assignment.settings
    runner = _site_runner(settings.cwl_base_command) if settings.cwl_base_command else _cwltool(events)

    _print(f"cloning {source.address}" + (f" ({source.ref})" if source.ref else ""))
    folder, commit = clone.fetch(source, directories.clone, lambda phase: events.state(phase=phase))
    events.state(phase="running", git_commit=commit)
    where = entry.directory(folder, assignment.cd)
    document = entry.document(folder, where, assignment.run_cwl)
    os.chdir(where)

    _print(f"running {assignment.run_cwl}" + (f" of commit {commit}" if commit else ""))
    result = runner(settings.cwl_args, document, input_object, directories)
    if result.outcome == "succeeded":
        return result
    absent = inputs.missing(input_object, Path.cwd())
    return replace(result, reason=f"{result.reason}; {absent}") if absent else result


def _cwltool(events: EventSender) -> Runner:
    """cwltool in this process; it begins to load now."""
    preload, engine = cwl.Preload(), ContainerEngine()

    def report(step: int, steps: int, name: str) -> None:
        events.state(step=step, steps=steps, step_name=name)

    def run(
        arguments: Sequence[str], document: str, input_object: dict[str, Any], directories: Directories
    ) -> Result:
        preload.finish()
        return cwl.run(arguments, document, input_object, directories, engine, report)

    return run


def _site_runner(base_command: Sequence[str]) -> Runner:
    def run(
        arguments: Sequence[str], document: str, input_object: dict[str, Any], directories: Directories
    ) -> Result:
        inputs.write(directories.inputs, input_object, Path.cwd())
        return site_runner.run(base_command, arguments, document, directories)

    return run


def _print(text: str) -> None:
    sys.stderr.write(f"lando: {text}\n")
    sys.stderr.flush()


def _describe(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    advice = "; a larger volume_size or flavor may help" if error.errno == errno.ENOSPC else ""
    return f"{where}{error.strerror or error}{advice}"
