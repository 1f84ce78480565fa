"""The site's own CWL runner, such as toil-cwl-runner, as a program. Steps are not reported."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lando_worker import outputs
from lando_worker.directories import Directories
from lando_worker.result import Result, SystemFailure

MAX_PRINTED = 64 * 1024 * 1024
"""Bytes of its standard output that are read."""


def run(
    base_command: Sequence[str], arguments: Sequence[str], document: str, directories: Directories
) -> Result:
    """Run the document in the current directory.

    The command line is that of ``cwl-runner``, which every runner accepts:
    https://www.commonwl.org/v1.2/CommandLineTool.html#Executing_CWL_documents_as_scripts

    Args:
        base_command: the runner, and the site's options for it.
        arguments: the job's own options.
        document: its absolute path, perhaps with a fragment.
        directories: where the input object is, and where outputs go.

    Raises:
        SystemFailure: the runner cannot be started.
    """
    outdir, printed = directories.outputs, directories.printed
    command = [*base_command, "--outdir", str(outdir), *arguments, document, str(directories.inputs)]
    try:
        # Read through the same descriptor: the workflow may have replaced the file, by a named pipe, say.
        with printed.open("w+b") as stdout:
            status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stdout, check=False).returncode
            stdout.seek(0)
            text = stdout.read(MAX_PRINTED).decode("utf-8", errors="replace")
    except OSError as error:
        raise SystemFailure(f"cwl_base_command: {base_command[0]}: {error.strerror}") from error
    if status == 0:
        return outputs.succeeded(text, outdir)
    reason = f"{base_command[0]} {_describe_exit(status)}"
    failure = Result("workflow_failed", reason, exit_code=status, quote_log=True)
    return outputs.with_partial(failure, text, outdir)


def _describe_exit(status: int) -> str:
    return f"exited with status {status}" if status > 0 else f"was terminated by signal {-status}"
