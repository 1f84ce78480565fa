"""The site's own CWL runner (toil, say) as a program; it reports no steps."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lando_worker import outputs
from lando_worker.directories import Directories
from lando_worker.result import Result, SystemTrouble

MAX_PRINTED = 64 * 1024 * 1024
"""Bytes that are read of what it printed."""


def run(
    base_command: Sequence[str], arguments: Sequence[str], document: str, directories: Directories
) -> Result:
    """Run the document in the current directory.

    The command line is that of ``cwl-runner``, which every runner understands:
    https://www.commonwl.org/v1.2/CommandLineTool.html#Executing_CWL_documents_as_scripts

    Raises:
        SystemTrouble: the runner cannot be started.
    """
    outdir, printed = directories.outputs, directories.printed
    command = [*base_command, "--outdir", str(outdir), *arguments, document, str(directories.inputs)]
    try:
        with printed.open("wb") as stdout:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, check=False).returncode
    except OSError as error:
        raise SystemTrouble(f"cwl_base_command: {base_command[0]}: {error.strerror}") from error
    if status != 0:
        return Result(
            "workflow_failed", f"{base_command[0]} {_ending(status)}", exit_code=status, quote_log=True
        )
    with printed.open(encoding="utf-8", errors="replace") as stream:
        return outputs.succeeded(stream.read(MAX_PRINTED), outdir)


def _ending(status: int) -> str:
    return f"exited with status {status}" if status > 0 else f"was ended by signal {-status}"
