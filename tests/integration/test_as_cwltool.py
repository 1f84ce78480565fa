"""Input objects mean what they mean to cwltool: the same documents, with and without lando, in one process.

``LANDO_EXAMPLES=5000 pytest tests/integration/test_as_cwltool.py`` compares more of them.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cwltool.main
import pytest
from cwltool.builder import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from lando.config import job_file
from lando.messages import Message, decode
from lando.yaml_json import read_json, write_json, yaml_safe_json
from lando_worker import cwl, inputs
from lando_worker.container_engine import ContainerEngine
from lando_worker.directories import Directories
from tests.support.local_site import LocalSite, workflow

EXAMPLES = int(os.environ.get("LANDO_EXAMPLES", "300"))
WORKFLOW = """\
cwlVersion: v1.2
class: Workflow
inputs: {v: Any}
outputs: {out: {type: Any, outputSource: v}}
steps: []
"""
TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [printf, '%s\\n']
inputs: {v: {type: Any, inputBinding: {}}}
stdout: out.txt
outputs: {out: stdout}
"""
PARTS = {
    "part.yml": "{n: 1.50, f: {class: File, location: beside.txt}}",
    "parts.yml": "[1e3, {class: File, location: ../work/plain.txt}, {$include: ../work/plain.txt}]",
    "beside.txt": "beside",
}
NAMES = [
    *[
        "plain.txt",
        "with space.txt",
        "100%.txt",
        "%41.txt",
        "ha#sh.txt",
        "que?ry.txt",
        "it's.txt",
        'qu"ote.txt',
    ],
    *["caf\u00e9.txt", "cafe\u0301.txt", "🧬.txt", "new\nline.txt", "tab\t.txt", "-dash.txt", "a:b.txt"],
    *[
        "[x].txt",
        "{y}.txt",
        "com,ma.txt",
        "back\\slash.txt",
        "~x",
        "semi;colon&.txt",
        "$(x).txt",
        "trail .txt",
    ],
]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory given by ``cd``, in a clone whose own path is awkward, too."""
    clone = tmp_path_factory.mktemp("vm 100%") / "cl#ne"
    there = clone / "work"
    for directory in (there / "folder" / "inner", clone / "other"):
        directory.mkdir(parents=True)
    for name in NAMES:
        (there / name).write_text(name)
        (there / "folder" / "inner" / name).write_text(name)
    for name, text in PARTS.items():
        (clone / "other" / name).write_text(text)
    (there / "wf.cwl").write_text(WORKFLOW)
    (there / "tool.cwl").write_text(TOOL)
    return there


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def one_line(pairs: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs.items()) + "}"


NUMBERS = st.sampled_from(
    [
        *["0.05", "1e-5", "1.50", "9007199254740993", "123456789012.5", "0.10", "2.0", "1E3", "-0.0", "+1.5"],
        *[".5", "5.", "-.25", "007.50", "1_000.5", "1_000", "0x1F", "0o17", "0b101", "017", "1e+05", ".5e3"],
        *["6.02214076e23", "1e-7", "0.1e-5", "100000000000000000000", "3.14159265358979323846", "-12.500"],
    ]
) | st.from_regex(r"-?([1-9][0-9]{0,8}(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,2})?|0\.[0-9]{1,8})", fullmatch=True)
TEXTS = st.sampled_from(
    [
        *[
            "yes",
            "no",
            "on",
            "off",
            "y",
            "null",
            "~",
            "true",
            "False",
            "2020-01-01",
            "1:30",
            "''",
            '""',
            "a b",
        ],
        *["2001-12-14t21:59:43.10-05:00", "'it''s'", '"\\x41\\u00e9\\U0001F9EC"', "a#b", "1.2.3", "0x", "1e"],
    ]
) | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8).map(quoted)
PLACES = st.builds(
    lambda before, form, name: before + form(name),
    st.sampled_from(
        ["", "./", "../work/", "folder/inner/", "folder//inner/../inner/", "{work}/", "file://{work}/"]
    ),
    st.sampled_from([str, quote]),
    st.sampled_from(NAMES),
)
FOLDERS = st.sampled_from(
    [".", "..", "./", "folder", "folder/", "../work/folder/.", "{work}/folder", "../other/"]
)
ELSEWHERE = st.sampled_from(
    ["https://example.org/a%20b.txt", "none.txt", "_:1", "s3://bucket/x", "file:plain.txt"]
)
FILES = st.recursive(
    st.one_of(
        st.builds(
            lambda key, place, more: one_line({"class": "File", key: quoted(place), **more}),
            st.sampled_from(["location", "path"]),
            PLACES | PLACES | ELSEWHERE,
            st.sampled_from([{}, {}, {"basename": "other.txt"}, {"format": "edam:format_1"}, {"size": "3"}]),
        ),
        st.builds(
            lambda key, place: one_line({"class": "Directory", key: quoted(place)}),
            st.sampled_from(["location", "path"]),
            FOLDERS,
        ),
        st.just("{class: File, basename: literal.txt, contents: 'a: 1'}"),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(
            lambda all_: f"{{class: Directory, basename: d, listing: [{', '.join(all_)}]}}"
        ),
        st.lists(inner, max_size=2).map(
            lambda all_: f"{{class: File, location: plain.txt, secondaryFiles: [{', '.join(all_)}]}}"
        ),
    ),
    max_leaves=4,
)
DIRECTIVES = st.sampled_from(
    ["{$import: ../other/part.yml}", "{$import: ../other/parts.yml}", "{$include: ../other/beside.txt}"]
)
KEYS = st.sampled_from(
    ["a", "b c", "é", "class", "yes", "'1'", "'null'", '""', "path", "location", "id", "$base"]
)
VALUES = st.recursive(
    NUMBERS | TEXTS | FILES | DIRECTIVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda all_: f"[{', '.join(all_)}]"),
        st.dictionaries(KEYS, inner, max_size=3).map(one_line),
    ),
    max_leaves=8,
)


def carried(text: str, directory: Path) -> dict[str, Any]:
    """The input object as a worker reads it, of a job file whose ``input`` is this YAML."""
    path = directory / "job.yml"
    path.write_text(f"git_clone: /r\ncd: .\nrun_cwl: w.cwl\ninput: {text}\n", encoding="utf-8")
    message = Message(
        "start_worker", job="7b1ce1a6-9c1c-4c02-9f4e-f0a3c83f2a40", body=job_file.read(path).as_body()
    )
    spec = job_file.from_body(read_json(write_json(decode(message.encode(), "client").body)))
    parameters = directory / "parameters.yml"
    parameters.write_text(yaml_safe_json(spec.input), encoding="utf-8")
    return inputs.read(parameters)


def loaded(job_order: str, fetcher: Callable[[Any, Any], Any] | None = None) -> Any:
    """The input object as cwltool loads it in the current directory, or the type of its error."""
    arguments = argparse.Namespace(job_order=[job_order], basedir=None if fetcher is None else os.getcwd())
    try:
        found, base, loader = cwltool.main.load_job_order(arguments, io.StringIO(), fetcher, [], "")
        assert base == os.getcwd()
        process = argparse.Namespace(
            tool={"inputs": []}, metadata={}, get_requirement=lambda name: (None, None)
        )
        return plain(
            cwltool.main.init_job_order(found, arguments, process, loader, io.StringIO(), input_basedir=base)
        )
    except Exception as error:
        return type(error)


def plain(value: Any) -> Any:
    """With each number as it is passed on, and without the types of ruamel.yaml."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items() if key != cwltool.main.jobloader_id_name}
    if isinstance(value, str) or value is None:
        return None if value is None else re.sub("^_:[0-9a-f-]{36}$", "_:", value)
    return type(value).__mro__[-2], Builder.tostr(None, value)  # type: ignore[arg-type]


@settings(max_examples=EXAMPLES)
@given(VALUES)
def test_an_input_object_is_loaded_as_cwltool_does(work: Path, written: str) -> None:
    text = f"{{v: {written}}}".replace("{work}", str(work))
    os.chdir(work)
    beside = work / inputs.NAME
    beside.write_text(text, encoding="utf-8")
    expected = loaded(inputs.NAME)
    beside.unlink()
    found = loaded(*inputs.served(carried(text, work.parent), work))
    assert found == expected


@pytest.mark.parametrize(
    "written",
    [
        "[0.05, 1e-5, 1.50, 9007199254740993, [0.10, 2.0, 1e3], yes, null, true, 2020-01-01, {a: 0x1F}]",
        "[{class: Directory, location: .}, {class: Directory, path: folder/}]",
        "{class: Directory, location: ..}",
        "{$import: ../other/part.yml}",
        "[{$import: ../other/parts.yml}, {$include: ../other/beside.txt}]",
        f"[{', '.join(one_line({'class': 'File', 'location': quoted(quote(name))}) for name in NAMES)}]",
        "{class: File, location: plain.txt, secondaryFiles: [{class: Directory, location: folder}]}",
        "{class: Directory, basename: d, listing: [{class: File, basename: x, contents: y}]}",
        "{class: File, location: folder}",
        "{class: File}",
    ],
)
def test_the_output_object_of_a_run_is_that_of_cwltool(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)  # the worker sets it
    monkeypatch.chdir(work)
    directories = Directories(tmp_path / "vm", tmp_path / "outputs")
    directories.make(None)
    text = f"{{v: {written}}}"
    beside = work / inputs.NAME
    beside.write_text(text)
    printed = io.StringIO()
    arguments = ["--quiet", "--outdir", str(tmp_path / "expected"), "wf.cwl", inputs.NAME]
    status = cwltool.main.main(arguments, stdout=printed, custom_schema_callback=lambda: None)
    result = cwl.run(
        ["--no-container"],
        str(work / "wf.cwl"),
        carried(text, tmp_path),
        directories,
        ContainerEngine(),
        lambda *step: None,
    )
    beside.unlink()  # until here a part of the directory, for both
    assert result.exit_code == status
    if status == 0:
        assert without_places(result.outputs) == without_places(json.loads(printed.getvalue()))
    assert status == (1 if written in ("{class: File, location: folder}", "{class: File}") else 0)


def without_places(value: Any) -> Any:
    if isinstance(value, list):
        return sorted((without_places(item) for item in value), key=repr)
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items() if key not in ("location", "path")}
    return value


def test_numbers_and_references_reach_the_tool(site: LocalSite) -> None:
    job = workflow(site.root, "true")
    folder = site.root / "wf"
    (folder / "in").mkdir()
    (folder / "in" / "tool.cwl").write_text(TOOL)
    (folder / "part.yml").write_text("1.50")
    job.write_text(
        f"git_clone: {folder}\ncd: in\nrun_cwl: tool.cwl\n"
        "input: {v: [1.50, 1e-5, {$import: ../part.yml}, {class: Directory, location: .},"
        " {class: Directory, path: ..}]}\n"
    )
    site.command("run", job, "--outdir", "out")
    *numbers, here, above = (site.root / "out" / "out.txt").read_text().splitlines()
    assert numbers == ["1.50", "0.00001", "1.50"]
    assert (Path(here).name, Path(above).name) == ("in", "wf")
