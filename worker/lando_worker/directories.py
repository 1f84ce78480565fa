"""The VM's own directory: what is where, and whose it is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lando_worker.workflow_account import Account


@dataclass(frozen=True)
class Directories:
    """Paths inside the VM's directory."""

    vm: Path
    outputs: Path
    """Final outputs; may be outside the VM's directory, to outlive it."""

    @property
    def clone(self) -> Path:
        """Holds the clone, under the repository's own name."""
        return self.vm / "clone"

    @property
    def run(self) -> Path:
        """What passes between the worker and the runner."""
        return self.vm / "run"

    @property
    def inputs(self) -> Path:
        """The input object, its locations absolute."""
        return self.run / "inputs.yml"

    @property
    def printed(self) -> Path:
        """What a site's own runner printed: the output object."""
        return self.run / "printed.json"

    @property
    def tmp(self) -> Path:
        """TMPDIR: goes with the VM, and is on the outputs' file system where possible."""
        return self.vm / "tmp"

    @property
    def containers(self) -> Path:
        """A file with the id of every container that was started, so that deleting the VM can stop them."""
        return self.vm / "containers"

    def make(self, account: Account | None) -> None:
        """Make the workflow's directories anew and empty, as the account's own where there is one."""
        if account:
            self.vm.chmod(0o711)
        for path in (self.clone, self.run, self.tmp, self.containers, self.outputs):
            _empty(path)
            if account:
                os.chown(path, account.uid, account.gid)


def _empty(path: Path) -> None:
    """Emptied rather than replaced: an outputs directory may be a mount, or a link that its site made."""
    path.mkdir(parents=True, exist_ok=True)
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
