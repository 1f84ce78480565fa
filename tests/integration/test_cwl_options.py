"""The options of ``cwl_args`` by their effect: the worker's runner and cwltool itself, side by side."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cwltool.main import main as cwltool
from cwltool.process import use_standard_schema

from lando_worker import cwl
from lando_worker.container_engine import ContainerEngine
from lando_worker.directories import Directories
from lando_worker.result import Result

CAT = """
class: CommandLineTool
baseCommand: [sh, -c, 'cat "$0"; echo "$SAID"']
inputs: {f: {type: File, inputBinding: {position: 1}}}
stdout: out.txt
outputs: {out: stdout}
"""
FILES = {
    "stable.cwl": f"cwlVersion: v1.2{CAT}",
    "development.cwl": f"cwlVersion: v1.3.0-dev1{CAT}",
    "more.cwl": f"cwlVersion: v1.2{CAT}customField: 7\n",
    "linked.cwl": f"cwlVersion: v1.2{CAT}$schemas: [nowhere.rdf]\n",
    "extended.cwl": f"cwlVersion: v1.0{CAT}"
    "$namespaces: {cwltool: 'http://commonwl.org/cwltool#'}\n"
    "requirements: {cwltool:LoadListingRequirement: {loadListing: no_listing}}\n",
    "two.cwl": """
cwlVersion: v1.2
class: Workflow
inputs: {f: File}
outputs: {one: {type: File, outputSource: a/out}, other: {type: File, outputSource: b/out}}
steps:
  a: {run: stable.cwl, in: {f: f}, out: [out]}
  b:
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'exit 7']
      inputs: {}
      stdout: b.txt
      outputs: {out: stdout}
    in: {}
    out: [out]
""",
    "busy.cwl": """
cwlVersion: v1.2
class: ExpressionTool
requirements: {InlineJavascriptRequirement: {}}
inputs: {f: File}
outputs: {out: string}
expression: "${ var end = Date.now() + 1000; while (Date.now() < end) {} return {out: 'x'}; }"
""",
    "overrides.yml": """
cwltool:overrides:
  stable.cwl: {requirements: {EnvVarRequirement: {envDef: {SAID: over}}}}
""",
    "a b.txt": "text\n",
    "f.txt": "text\n",
}


class NoEngine(ContainerEngine):
    """A machine without one."""

    def _find(self) -> None:
        self._reasons.append("there is none")


class Place:
    """A clone with its documents, and the worker's directories beside it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.clone = base / "clone"
        self.directories = Directories(base / "vm", base / "vm" / "outputs")
        self.directories.make(None)
        self.programs = base / "programs"
        self.clone.mkdir()
        self.programs.mkdir()
        self.engine("exit 1")
        for name, text in FILES.items():
            (self.clone / name).write_text(text)
        self.steps: list[tuple[int, int, str]] = []

    def engine(self, script: str) -> None:
        """Install docker and podman."""
        for name in ("docker", "podman"):
            (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.programs / name).chmod(0o755)

    def worker(self, options: Sequence[str], document: str, file: str) -> Result:
        """The worker's answer."""
        return cwl.run(
            options,
            str(self.clone / document),
            self._inputs(file),
            self.directories,
            NoEngine(),
            lambda step, steps, name: self.steps.append((step, steps, name)),
        )

    def cwltool(self, options: Sequence[str], document: str, file: str) -> tuple[int, Any]:
        """The exit status and the output object of cwltool itself."""
        inputs, printed = self.base / "inputs.json", io.StringIO()
        inputs.write_text(json.dumps(self._inputs(file)))
        status = cwltool(
            ["--no-container", "--outdir", str(self.base / "theirs"), *options, document, str(inputs)],
            stdout=printed,
            logger_handler=logging.NullHandler(),
            custom_schema_callback=lambda: None,  # otherwise it loads the schemas again
        )
        return status, json.loads(printed.getvalue() or "null")

    def _inputs(self, file: str) -> dict[str, Any]:
        return {"f": {"class": "File", "path": str(self.clone / file)}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    monkeypatch.chdir(place.clone)
    monkeypatch.setattr("sys.argv", ["cwltool"])
    monkeypatch.setenv("SAID", "a word")
    monkeypatch.setenv("PATH", f"{place.programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CWLTOOL_OPTIONS", raising=False)
    return place


def without_places(value: Any) -> Any:
    """The output object without what differs by place."""
    if isinstance(value, dict):
        return {key: without_places(each) for key, each in value.items() if key not in ("location", "path")}
    return [without_places(each) for each in value] if isinstance(value, list) else value


NODE = pytest.mark.skipif(not (shutil.which("node") or shutil.which("nodejs")), reason="needs node")


@pytest.mark.parametrize(
    ("document", "file", "options", "status"),
    [
        ("stable.cwl", "f.txt", [], 0),
        ("stable.cwl", "a b.txt", [], 1),
        ("stable.cwl", "a b.txt", ["--relax-path-checks"], 0),
        ("stable.cwl", "a b.txt", ["--relax"], 0),
        ("more.cwl", "f.txt", ["--strict"], 1),
        ("more.cwl", "f.txt", ["--non-strict"], 0),
        ("more.cwl", "a b.txt", ["--non-strict", "--relax-path-checks", "--disable-js-validation"], 0),
        ("development.cwl", "f.txt", [], 1),
        ("development.cwl", "f.txt", ["--enable-dev"], 0),
        ("linked.cwl", "f.txt", ["--skip-schemas"], 0),
        ("stable.cwl", "f.txt", ["--fast-parser"], 0),
        ("stable.cwl", "f.txt", ["--disable-validate", "--no-doc-cache"], 0),
        ("stable.cwl", "f.txt", ["--overrides", "overrides.yml"], 0),
        ("stable.cwl", "f.txt", ["--preserve-environment=SAID"], 0),
        ("stable.cwl", "f.txt", ["--preserve-entire-environment"], 0),
        ("stable.cwl", "f.txt", ["--no-compute-checksum", "--copy-outputs"], 0),
        ("stable.cwl", "f.txt", ["--cachedir", "cache", "--leave-tmpdir", "--debug", "--timestamps"], 0),
        ("stable.cwl", "f.txt", ["--parallel", "--parallel-max=2", "--quiet"], 0),
        ("two.cwl", "f.txt", ["--on-error", "continue"], 1),
        ("two.cwl", "f.txt", ["--target", "one"], 0),
        ("two.cwl", "f.txt", ["-tone"], 0),
        ("two.cwl", "f.txt", ["--single-step", "a"], 0),
        ("two.cwl", "f.txt", ["--single-process=a"], 0),
        ("two.cwl", "f.txt", ["--single-step", "nothing"], 1),
        pytest.param("busy.cwl", "f.txt", ["--eval-timeout", "0.3"], 1, marks=NODE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_option_does_what_it_does_with_cwltool(
    place: Place, document: str, file: str, options: list[str], status: int
) -> None:
    expected = place.cwltool(options, document, file)
    result = place.worker(options, document, file)
    made = without_places(expected[1]) or None  # an empty output object is none
    assert (result.exit_code, without_places(result.outputs)) == (status, made)
    assert expected[0] == status
    assert result.outcome == ("workflow_failed" if status else "succeeded")


def test_extensions(place: Place) -> None:
    refused = place.worker([], "extended.cwl", "f.txt")
    assert "undefined reference to 'http://commonwl.org/cwltool#LoadListingRequirement'" in refused.reason
    try:
        assert place.worker(["--enable-e"], "extended.cwl", "f.txt").outcome == "succeeded"
    finally:
        use_standard_schema("v1.0")


@pytest.mark.parametrize(
    "option", ["--mpi-config-file", "--overrides", "--js-hint-options-file", "--provenance"]
)
def test_a_place_that_is_not_there_is_the_jobs_own_failure(place: Place, option: str) -> None:
    result = place.worker([option, "/proc/nowhere"], "stable.cwl", "f.txt")
    assert (result.outcome, result.exit_code) == ("workflow_failed", 1)
    assert "No such file or directory: '/proc/nowhere'" in result.reason


def test_an_option_that_is_not_given_is_not_remembered(place: Place) -> None:
    assert place.worker(["--preserve-environment=SAID"], "stable.cwl", "f.txt").exit_code == 0
    assert (place.directories.outputs / "out.txt").read_text() == "text\na word\n"
    assert place.worker([], "stable.cwl", "f.txt").exit_code == 0
    assert (place.directories.outputs / "out.txt").read_text() == "text\n\n"


@pytest.mark.parametrize("options", [["--target", "one"], ["--single-step", "a"], ["--single-process", "a"]])
def test_a_part_of_a_workflow_has_as_many_steps_as_it_runs(place: Place, options: list[str]) -> None:
    assert place.worker(options, "two.cwl", "f.txt").outcome == "succeeded"
    assert [step[:2] for step in place.steps] == [(1, 1)]


def test_what_is_recorded_for_people_is_where_they_want_it(place: Place) -> None:
    there = place.base / "there"
    options = ["--provenance", f"{there}/p", "--orcid", "0000-0002-1825-0097", f"--log-dir={there}/logs"]
    assert place.worker(options, "stable.cwl", "f.txt").outcome == "succeeded"
    assert (there / "p" / "metadata" / "provenance" / "primary.cwlprov.json").is_file()
    assert [path.name for path in (there / "logs").rglob("*.txt")] == ["out.txt"]


def test_a_container_that_is_asked_for_is_not_silently_left_out(place: Place) -> None:
    result = place.worker(["--default-container", "debian"], "stable.cwl", "f.txt")
    assert result.outcome == "workflow_failed"
    assert "Docker is required to run this tool" in result.reason


@pytest.mark.parametrize("chosen", [[], ["--podman"]])
def test_the_ids_of_containers_are_kept_whoever_chooses_the_engine(place: Place, chosen: list[str]) -> None:
    place.engine("""
for word; do case $word in --cidfile=*) echo 0123456789ab > "${word#--cidfile=}";; esac; done
case $1 in run) echo text;; inspect) echo '[{"Id": "x"}]';; esac
""")
    options = ["--default-container", "debian", "--disable-pull", *chosen]
    result = place.worker(options, "stable.cwl", "f.txt")
    assert result.outcome == "succeeded", result.reason
    assert [path.read_text() for path in place.directories.containers.iterdir()] == ["0123456789ab\n"]
