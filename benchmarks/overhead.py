"""How much later a workflow starts than with cwltool alone, both measured in the same run.

Both sides are timed to the first action of the workflow's first step (its tool writes the time). Lando's side
begins twice: with the submit command (a new process, as a person types it) and with the queue's confirmation.

usage: python benchmarks/overhead.py [ROUNDS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
TARGET = 0.5
"""Seconds that the median overhead may be."""

TOOL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": ["date", "+%s.%N"],
    "inputs": {},
    "outputs": {"out": {"type": "stdout"}},
    "stdout": "started.txt",
}


def prepare(root: Path) -> Path:
    """A job whose only step tells when it started."""
    (root / "wf").mkdir()
    (root / "wf" / "tool.cwl").write_text(json.dumps(TOOL))
    (root / "input.json").write_text("{}")
    job = root / "job.yml"
    job.write_text("git_clone: wf\ncd: .\ninput: {}\nrun_cwl: tool.cwl\n")
    return job


def alone(root: Path, round_: int) -> float:
    """Seconds from starting cwltool to the workflow's first action."""
    outdir = root / f"alone-{round_}"
    begun = time.time()
    subprocess.run(
        [
            BIN / "cwltool",
            "--no-container",
            "--quiet",
            "--outdir",
            outdir,
            root / "wf/tool.cwl",
            root / "input.json",
        ],
        check=True,
        capture_output=True,
    )
    return float((outdir / "started.txt").read_text()) - begun


def with_lando(job: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Seconds to the workflow's first action from the submit command's start, and from its end."""
    begun = time.time()
    submitted = subprocess.run(
        [BIN / "lando-fsm", "submit", job], check=True, capture_output=True, text=True, env=environment
    )
    confirmed = time.time()
    job_id = submitted.stdout.strip()
    started = Path(environment["LANDO_STATE_DIR"]) / "jobs" / job_id / "outputs" / "started.txt"
    state = Path(environment["LANDO_STATE_DIR"])
    while not started.exists() or any((state / "vms").iterdir()):
        time.sleep(0.05)  # cheaply: what is measured shares the machine with us
    at = float(started.read_text())
    return at - begun, at - confirmed


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        job = prepare(root)
        environment = {**os.environ, "LANDO_STATE_DIR": str(root / "state")}
        environment.pop("LANDO_CONFIG", None)
        daemon = subprocess.Popen(
            [BIN / "lando-fsm", "daemon", "--quiet"], stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            assert daemon.stdout is not None
            daemon.stdout.readline()
            floors, commands, confirmations = [], [], []
            for round_ in range(rounds):
                floors.append(alone(root, round_))
                command, confirmation = with_lando(job, environment)
                commands.append(command)
                confirmations.append(confirmation)
        finally:
            daemon.terminate()
            daemon.wait()
    report(floors, commands, confirmations)


def report(floors: list[float], commands: list[float], confirmations: list[float]) -> None:
    """Print medians and spread."""
    print("seconds to the workflow's first action   median   fastest  slowest")
    for name, values in (
        ("cwltool alone, from its start", floors),
        ("lando-fsm, from the submit command", commands),
        ("lando-fsm, from the queue's confirmation", confirmations),
    ):
        print(f"{name:<41}{statistics.median(values):6.2f}   {min(values):6.2f}   {max(values):6.2f}")
    floor = statistics.median(floors)
    for name, values in (("the queue's confirmation", confirmations), ("the submit command", commands)):
        overhead = statistics.median(values) - floor
        verdict = "met" if overhead < TARGET else "missed"
        print(f"beyond cwltool's own start, from {name}: {overhead:.2f} s (target {TARGET} s {verdict})")


if __name__ == "__main__":
    main()
