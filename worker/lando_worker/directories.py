"""The paths inside the VM's directory, and the directories that the workflow may write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lando import removal
from lando_worker.result import SystemFailure
from lando_worker.workflow_account import WorkflowAccount


@dataclass(frozen=True)
class Directories:
    """Paths inside the VM's directory."""

    vm: Path
    outputs: Path
    """Final outputs; may be outside the VM's directory, to be kept when that is deleted."""

    @property
    def clone(self) -> Path:
        """Holds the clone, under the repository's own name."""
        return self.vm / "clone"

    @property
    def run(self) -> Path:
        """Files that the worker and the runner exchange."""
        return self.vm / "run"

    @property
    def inputs(self) -> Path:
        """The input object for a site's own runner."""
        return self.run / "inputs.yml"

    @property
    def printed(self) -> Path:
        """The standard output of a site's own runner: the output object."""
        return self.run / "printed.json"

    @property
    def tmp(self) -> Path:
        """TMPDIR. It is deleted with the VM, and is on the file system of the outputs if that is possible."""
        return self.vm / "tmp"

    @property
    def containers(self) -> Path:
        """One file with the id per started container, so that deleting the VM can stop the containers."""
        return self.vm / "containers"

    @property
    def of_workflow(self) -> tuple[Path, ...]:
        """Those that the workflow's account owns; what else is in the VM's directory is the worker's."""
        return (self.clone, self.run, self.tmp, self.containers, self.outputs)

    def make(self, account: WorkflowAccount | None) -> None:
        """Make the workflow's directories, empty, and owned by ``account`` if there is one.

        Raises:
            SystemFailure: what an earlier run left there cannot be removed.
        """
        if account:
            self.vm.chmod(0o711)
        for path in self.of_workflow:
            path.mkdir(parents=True, exist_ok=True)
            try:
                removal.empty(path)
            except removal.NotRemoved as error:
                raise SystemFailure(f"what an earlier run left cannot be removed: {error}") from error
            if account:
                os.chown(path, account.uid, account.gid)
