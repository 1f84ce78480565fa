"""The job file: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lando.config import job_file, yaml_document
from lando.errors import UsageError
from lando.states.job import JobSpec
from lando.store.shown import display_name

MINIMAL = """\
git_clone: https://example.org/toyworkflow.git
cd: toyworkflow
input:
  message: hello
run_cwl: wordcount.cwl
"""
BODY: dict[str, Any] = {
    "git_clone": "https://example.org/toyworkflow.git",
    "cd": ".",
    "input": {},
    "run_cwl": "wordcount.cwl",
}


def write_job_file(directory: Path, text: str) -> Path:
    path = directory / "job.yml"
    path.write_bytes(text.encode())
    return path


def mistakes(directory: Path, text: str) -> list[str]:
    """The lines of the error about a job file, without the directory's name."""
    with pytest.raises(UsageError) as caught:
        job_file.read(write_job_file(directory, text))
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{directory}/", "").splitlines()


def mistake(directory: Path, extra: str) -> str:
    """The only mistake of the minimal job file with more lines, which begin at line 6."""
    (only,) = mistakes(directory, MINIMAL + textwrap.dedent(extra))
    return only


def refused(**changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        job_file.from_body({**BODY, **changes})
    return str(caught.value)


def test_minimal_job_file(tmp_path: Path) -> None:
    assert job_file.read(write_job_file(tmp_path, MINIMAL)) == JobSpec(
        git_clone="https://example.org/toyworkflow.git",
        cd="toyworkflow",
        input={"message": "hello"},
        run_cwl="wordcount.cwl",
    )


def test_every_key(tmp_path: Path) -> None:
    text = """\
        git_clone: git@example.org:group/toyworkflow.git
        git_ref: v1.0
        cd: sub
        input: |
          message: hello
          when: 2020-01-01
        run_cwl: ../wordcount.cwl#main
        name: Wörter zählen 🧬👩‍🔬
        flavor: m1.large
        image: worker-2
        volume_size: 100
        attempts: 1
        boot_timeout: 90
        run_timeout: 1h30m
        priority: -5
        cwl_args: [--parallel, --tmpdir-prefix, ""]
        labels: {group: genomics}
        """
    spec = job_file.read(write_job_file(tmp_path, textwrap.dedent(text)))
    assert spec == JobSpec(
        git_clone="git@example.org:group/toyworkflow.git",
        git_ref="v1.0",
        cd="sub",
        input={"message": "hello", "when": "2020-01-01"},
        run_cwl="../wordcount.cwl#main",
        name="Wörter zählen 🧬👩‍🔬",
        flavor="m1.large",
        image="worker-2",
        volume_size=100,
        attempts=1,
        boot_timeout=90.0,
        run_timeout=5400.0,
        priority=-5,
        cwl_args=("--parallel", "--tmpdir-prefix", ""),
        labels={"group": "genomics"},
    )


def test_body_makes_the_same_job_again(tmp_path: Path) -> None:
    extra = "run_timeout: 2h\ncwl_args: [--debug]\nlabels: {a: b}\npriority: 7\n"
    spec = job_file.read(write_job_file(tmp_path, MINIMAL + extra))
    body = json.loads(json.dumps(spec.as_body()))
    assert job_file.from_body(body) == spec


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
        git-clone: https://example.org/x.git
        cd: ../../etc
        input: [1]
        run_cwl: /etc/passwd
        attempts: 0
        colour: green
        cd: .
        """
    assert [line.partition(";")[0] for line in mistakes(tmp_path, textwrap.dedent(text))] == [
        "job.yml:1: git-clone: unknown key",
        "job.yml:2: cd: leads out of the repository",
        "job.yml:3: input: expected the workflow's parameters as keys and values (a mapping)",
        "job.yml:4: run_cwl: may not be absolute",
        "job.yml:5: attempts: must be 1 or more",
        "job.yml:6: colour: unknown key",
        "job.yml:7: cd: given twice, first on line 2",
    ]


@pytest.mark.parametrize("key", ["git_clone", "cd", "input", "run_cwl"])
def test_required_key(tmp_path: Path, key: str) -> None:
    whole = {**BODY, "input": {}}
    del whole[key]
    (missing,) = mistakes(tmp_path, json.dumps(whole))
    assert missing.startswith(f"job.yml:1: {key}: missing; ")
    (empty,) = mistakes(tmp_path, json.dumps({**whole, key: None}))
    assert empty.startswith(f"job.yml:1: {key}: has no value; ")


@pytest.mark.parametrize(
    "written, meant",
    [("run_cw", "run_cwl"), ("Git_Clone", "git_clone"), ("git-ref", "git_ref"), ("labls", "labels")],
)
def test_misspelt_key_names_the_nearest(tmp_path: Path, written: str, meant: str) -> None:
    expected = f"job.yml:6: {written}: unknown key; did you mean {meant}?"
    assert mistake(tmp_path, f"{written}: x\n") == expected


def test_unknown_key_far_from_all_lists_them(tmp_path: Path) -> None:
    assert mistake(tmp_path, "zzz: 1\n").startswith(
        "job.yml:6: zzz: unknown key; known here: git_clone, cd, "
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "job.yml:1: is empty"),
        ("# only a comment\n", "job.yml:1: is empty"),
        ("- a\n- b\n", "job.yml:1: expected keys and values (a mapping), found a list"),
        ("hello\n", "job.yml:1: expected keys and values (a mapping), found text"),
        ("a: 1\nb: [1,\n", "job.yml:2: is not YAML: "),
        ("cd: a: b\n", "job.yml:1: is not YAML: mapping values are not allowed in this context; "),
        ("cd: .\n\tinput: 1\n", "job.yml:2: is not YAML: "),
        ("cd: .\nname: *boom\n", "job.yml:2: is not YAML: found undefined alias; "),
        ("cd: .\n---\ncd: .\n", "job.yml:2: is not YAML: "),
        ("cd: .\nname: a\x00b\n", "job.yml:2: holds a NUL character"),
        ("input: &a [*a]\n", "job.yml:1: refers to itself"),
        ("x: " + "[" * 100_000 + "]" * 100_000, "job.yml:1: is nested more than 100 levels deep"),
    ],
)
def test_file_that_is_no_mapping(tmp_path: Path, text: str, expected: str) -> None:
    (only,) = mistakes(tmp_path, text)
    assert only.startswith(expected)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, words in [(tmp_path / "no.yml", "no such file"), (tmp_path, "is a directory")]:
        with pytest.raises(UsageError, match=words):
            job_file.read(path)


def test_a_pipe_has_no_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    end, other = os.pipe()
    os.write(other, MINIMAL.replace("https://example.org/toyworkflow.git", "./toyworkflow").encode())
    os.close(other)
    assert job_file.read(Path(f"/dev/fd/{end}")).git_clone == str(tmp_path / "toyworkflow")
    os.close(end)


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "job.yml"
    path.write_bytes(MINIMAL.encode() + b"name: caf\xe9\n")
    with pytest.raises(UsageError, match=r"job\.yml:6: is not UTF-8 text"):
        job_file.read(path)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    text = "\ufeff" + MINIMAL.replace("\n", "\r\n")
    assert job_file.read(write_job_file(tmp_path, text)).run_cwl == "wordcount.cwl"


def test_larger_than_any_message(tmp_path: Path) -> None:
    path = write_job_file(tmp_path, MINIMAL + "#" * yaml_document.MAX_SIZE)
    with pytest.raises(UsageError, match="is larger than"):
        job_file.read(path)

    path = write_job_file(tmp_path, MINIMAL.replace("  message: hello\n", f"  x: {'y' * 4_191_000}\n"))
    with pytest.raises(UsageError, match="input: makes a message of"):
        job_file.read(path)


def test_alias_bomb(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (only,) = mistakes(tmp_path, "\n".join(rows))
    assert "once its aliases are expanded" in only


def test_chain_of_aliases_is_nesting_too(tmp_path: Path) -> None:
    rows = ["a0: &a0 [x]", *[f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000)]]
    (only,) = mistakes(tmp_path, "\n".join(rows))
    assert "is nested more than 100 levels deep" in only


def test_aliases_and_merge_keys(tmp_path: Path) -> None:
    text = (
        "input:\n  a: &a {x: 1, y: 2}\n  b: *a\n  c: {<<: *a, y: 3}\ngit_clone: /r\ncd: .\nrun_cwl: w.cwl\n"
    )
    spec = job_file.read(write_job_file(tmp_path, text))
    assert spec.input == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 3}}


@pytest.mark.parametrize(
    "extra, expected",
    [
        ("name: 5", "name: expected text, found a number; put it in quotes"),
        ("git_ref: 1e10", "git_ref: expected text, found a number; put it in quotes"),
        ("flavor: true", "flavor: expected text, found true or false; put it in quotes"),
        ("image: [a]", "image: expected text, found a list"),
        ("name: ''", "name: is empty; give it a value or remove the key"),
        ('name: "a\\nb"', "name: expected one line without control characters"),
        ('name: "a\\u202eb"', "name: expected one line without control characters"),
        ('flavor: "a\\x9bb"', "flavor: expected one line without control characters"),
        ('labels: {a: "b\\u2028c"}', "labels.a: expected one line without control characters"),
        ('labels: {"a\\nb": c}', "labels.'a\\nb': expected a key of one line without control characters"),
        ('name: "a\\0b"', "name: holds a NUL character; remove it"),
        ("name: !secret x", "name: has a tag (!…), which is not known here; text needs quotes"),
        ("attempts: true", "attempts: expected a whole number, found true or false"),
        ("attempts: 1.5", "attempts: expected a whole number, found a number"),
        ("attempts: '3'", "attempts: expected a whole number, found text"),
        ("volume_size: 0", "volume_size: must be 1 or more"),
        ("volume_size: 65537", "volume_size: must be 65536 or less"),
        ("attempts: 101", "attempts: must be 100 or less"),
        ("priority: 99999999999", "priority: must be 1000000 or less"),
        ("priority: -1000001", "priority: must be -1000000 or more"),
        ("boot_timeout: 366d1s", "boot_timeout: must be at most 366d"),
        ("run_timeout: 0", "run_timeout: must be more than 0"),
        ("run_timeout: -5", "run_timeout: must be more than 0"),
        ("run_timeout: 9999d", "run_timeout: must be at most 366d"),
        ("run_timeout: .inf", "run_timeout: is infinite or not a number, which JSON cannot say"),
        ("run_timeout: soon", "run_timeout: expected seconds, or a time such as 90m, 2h, 1d or 1h30m"),
        ("run_timeout: 1:30", "run_timeout: expected seconds, or a time such as 90m, 2h, 1d or 1h30m"),
        ("run_timeout: true", "run_timeout: expected seconds, or a time such as 90m, 2h, 1d or 1h30m"),
        ("cwl_args: --debug", "cwl_args: expected a list of texts, found text"),
        ("cwl_args: [a, 4]", "cwl_args[1]: expected text, found a number; put it in quotes"),
        (
            "cwl_args: [--debug, --outd=here, --pack]",
            "cwl_args: --outdir is refused: outputs go to the job's own directory;"
            " `lando-fsm run JOB.yml --outdir DIR` copies them; --pack is refused:"
            " it prints something instead of running the workflow; call cwltool itself for that",
        ),
        (
            "cwl_args: [other.cwl]",
            "cwl_args: 'other.cwl' is no option: run_cwl names the document, and input has its inputs",
        ),
        ("labels: [a]", "labels: expected keys and values (a mapping), found a list"),
        ("labels: {a: 1}", "labels.a: expected text, found a number; put it in quotes"),
        ("labels: {1: a}", "labels: a key must be text; put it in quotes"),
        ("git_ref: -x", "git_ref: may not begin with -, which git would take for an option"),
        ("git_ref: HEAD~1", "git_ref: is no name of a branch, tag or commit"),
        ("git_ref: 'a:b'", "git_ref: is no name of a branch, tag or commit"),
    ],
)
def test_ill_typed_value(tmp_path: Path, extra: str, expected: str) -> None:
    assert mistake(tmp_path, extra + "\n") == f"job.yml:6: {expected}"


@pytest.mark.parametrize(
    "written, seconds",
    [
        ("90", 90),
        ("0.5", 0.5),
        ("90s", 90),
        ("'90'", 90),
        ("90m", 5400),
        ("2h", 7200),
        ("1d", 86400),
        ("1d 2h 3m 4s", 93784),
    ],
)
def test_times(tmp_path: Path, written: str, seconds: float) -> None:
    spec = job_file.read(write_job_file(tmp_path, f"{MINIMAL}run_timeout: {written}\n"))
    assert spec.run_timeout == seconds


def test_null_is_the_same_as_absent(tmp_path: Path) -> None:
    extra = "".join(f"{key}:\n" for key in job_file.KEYS if f"{key}:" not in MINIMAL)
    assert job_file.read(write_job_file(tmp_path, MINIMAL + extra)) == job_file.read(
        write_job_file(tmp_path, MINIMAL)
    )


# input


HOSTILE = {
    "quotes": 'it\'s "quoted" `so`',
    "lines": "one\ntwo\r\nthree\n",
    "shell": "$(touch /tmp/x) ${HOME} ; rm -rf ~ && !!",
    "here-document": "EOF\n__END__\n",
    "emoji": "🧬🧬 é",
    "escapes": "\\ud83e\\uddec \\\\",
    "nested": [{"a": [1, 2.5, True, None]}],
}


def test_input_survives_unchanged(tmp_path: Path) -> None:
    text = json.dumps({**BODY, "git_clone": "/r", "input": HOSTILE})
    assert job_file.read(write_job_file(tmp_path, text)).input == HOSTILE


def input_as_text(directory: Path, text: str) -> dict[str, Any]:
    """The input object of a job file whose ``input`` is this text."""
    path = write_job_file(directory, json.dumps({**BODY, "input": text}))
    return dict(job_file.read(path).input)


def test_half_of_a_surrogate_pair_is_no_character(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not YAML"):
        input_as_text(tmp_path, r'{"a": "\\ud83e\uddec"}')


def test_input_as_text_is_the_same_as_a_mapping(tmp_path: Path) -> None:
    assert input_as_text(tmp_path, json.dumps(HOSTILE)) == HOSTILE


def test_input_as_text_is_for_the_job_file_only() -> None:
    assert refused(input="a: 1") == "start_worker message: input: expected an object, found text"
    assert refused(input=[1]) == "start_worker message: input: expected an object, found a list"


@given(
    st.dictionaries(st.text("ab🧬'\"$\n:#- ", max_size=9), st.text(max_size=20) | st.integers(), max_size=4)
)
def test_input_is_carried_as_it_is_or_refused(values: dict[str, Any]) -> None:
    try:
        spec = job_file.from_body({**BODY, "input": values})
    except UsageError:
        assert "\0" in "".join(str(part) for pair in values.items() for part in pair)
    else:
        assert json.loads(json.dumps(spec.as_body()))["input"] == values


@pytest.mark.parametrize(
    "scalar",
    [
        *["012", "0o14", "0x1f", "0b11", "1_000", "1__0", "-1", "0x", "-"],
        *["1e3", "1.5e3", ".5", "5.", "+.5", "1e-3", "1.2.3", ".e5"],
        *["on", "yes", "n", "True", "TRUE", "~", "Null"],
        *["1:30", "2020-01-01", "2020-01-01T10:00:00Z"],
    ],
)
def test_scalars_mean_what_they_mean_to_cwl_runners(scalar: str, tmp_path: Path) -> None:
    salad = pytest.importorskip("schema_salad.utils")
    text = f"a: [{scalar}, x]"
    expected = salad.yaml_no_ts().load(text)["a"]
    assert input_as_text(tmp_path, text) == {"a": expected}


@pytest.mark.parametrize(
    "value, expected",
    [
        ("hello", "job.yml:4: input: expected the workflow's parameters"),
        ("''", "job.yml:4: input: expected the workflow's parameters"),
        ("[1, 2]", "job.yml:4: input: expected the workflow's parameters"),
        ("|\n  a: 1\n  b: [1\n", "job.yml:6: input: is not YAML: "),
        ("|\n\n  a: 1\n  b: x: y\n", "job.yml:7: input: is not YAML: "),
        ("|\n  a: 1\n  a: 2\n", "job.yml:6: input.a: given twice, first on line 5; keep one"),
        ("|\n  a: 1\n  b: .nan\n", "job.yml:6: input.b: is infinite or not a number"),
        ('"a: [1"', "job.yml:4: input: is not YAML: "),
        ("{1: a}", "job.yml:4: input: a key must be text; put it in quotes"),
        ("\n  a:\n    b: .inf", "job.yml:6: input.a.b: is infinite or not a number"),
        ("\n  a: [x, .inf]", "job.yml:5: input.a[1]: is infinite or not a number"),
        ("\n  a: !!binary aGVsbG8=", "job.yml:5: input.a: has a tag"),
        ("\n  a: 1\n  a: 2", "job.yml:6: input.a: given twice, first on line 5; keep one"),
        ('{"a\\0": 1}', "job.yml:4: input: holds a NUL character; remove it"),
    ],
)
def test_wrong_input(tmp_path: Path, value: str, expected: str) -> None:
    text = f"git_clone: /r\ncd: .\nrun_cwl: w.cwl\ninput: {value}\n"
    (only,) = mistakes(tmp_path, text)
    assert only.startswith(expected)


@pytest.mark.parametrize("place", ["~", "~/reads.fq", "file://~/reads.fq"])
@pytest.mark.parametrize("key", ["location", "path"])
def test_nobody_expands_a_tilde(tmp_path: Path, key: str, place: str) -> None:
    text = f"git_clone: /r\ncd: .\nrun_cwl: w.cwl\ninput:\n  a:\n  - class: File\n    {key}: '{place}'\n"
    (only,) = mistakes(tmp_path, text)
    assert only.startswith(
        f"job.yml:7: input.a[0].{key}: ~ is not replaced by a home directory; write the whole"
    )
    assert f"input.a.{key}: ~ is not" in refused(input={"a": {"class": "Directory", key: place}})


def test_a_tilde_that_is_a_name(tmp_path: Path) -> None:
    files = [{"class": "File", "location": name} for name in ("./~/x", "~x", "x~", "a/~/b")]
    given = {"a": files, "b": {"path": "~/x"}, "c": "~/x"}
    assert job_file.from_body({**BODY, "input": given}).input == given


def test_what_json_cannot_say_in_a_body() -> None:
    assert refused(input={"a": {1}}) == "start_worker message: input.a: is a set, which JSON cannot say"
    assert (
        refused(input={"a": "\ud800"})
        == "start_worker message: input.a: holds the character U+D800; remove it"
    )
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"a": deep}
    assert "is nested more than 100 levels deep" in refused(input=deep)


# git_clone, cd and run_cwl


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org/group/repo.git",
        "http://user:hunter2@example.org:8080/repo",
        "ssh://git@example.org:22/~user/repo",
        "ssh://git@[::1]:22/repo",
        "git://example.org/repo",
        "file:///srv/git/repo.git",
        "git@example.org:group/repo.git",
        "example.org:repo",
        "git@[::1]:repo",
        "/srv/git/repo",
        "/srv/odd:name/repo",
    ],
)
def test_addresses_that_git_may_see(tmp_path: Path, address: str) -> None:
    assert job_file.from_body({**BODY, "git_clone": address}).git_clone == address
    text = json.dumps({**BODY, "git_clone": address})
    assert job_file.read(write_job_file(tmp_path, text)).git_clone == address


@pytest.mark.parametrize(
    "address",
    [
        "ext::sh -c 'touch /tmp/x'",
        "fd::17",
        "https::https://example.org/x",
        "--upload-pack=touch /tmp/x",
        "-x",
        "ftp://example.org/hunter2",
        "rsync://example.org/hunter2",
        "HTTPS://example.org/hunter2",
        "javascript://hunter2",
        "ssh://-oProxyCommand=hunter2/x",
        "ssh://user@-oProxyCommand=hunter2/x",
        "ssh://host/-x",
        "user@-oProxyCommand=x:path",
        "host:-x",
        "host:",
        "https://user:hunter2@example.org",
        "https:///x",
        "file://host/x",
        "file:///",
        "https://example.org/..",
        "/",
        "relative/path",
        "~/repo",
        "a\nb",
        "a\0b",
        "",
        " ",
        5,
        None,
    ],
)
def test_addresses_that_git_may_not_see(address: object) -> None:
    words = refused(git_clone=address)
    assert words.startswith("start_worker message: git_clone: ")
    assert "\n" not in words
    assert "hunter2" not in words and "/tmp/x" not in words


@pytest.mark.parametrize(
    "address", ["git@github.com/org/x", "s3cret@github.com/org/x", "ssh:git@github.com/x"]
)
def test_both_forms_of_an_address_with_a_user_are_said(tmp_path: Path, address: str) -> None:
    written = MINIMAL.replace("https://example.org/toyworkflow.git", address)
    (words,) = mistakes(tmp_path, written)
    assert "https://USER:TOKEN@host/path" in words and "user@host:path" in words
    assert "s3cret" not in words


def test_paths_start_from_the_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.chdir("/")
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    for written, expected in [
        ("toyworkflow", f"{jobs}/toyworkflow"),
        ("../repo.git/", f"{tmp_path}/repo.git"),
        (".", str(jobs)),
        ("./odd:name", f"{jobs}/odd:name"),
        ("~/repo", "/home/somebody/repo"),
    ]:
        text = json.dumps({**BODY, "git_clone": written})
        assert job_file.read(write_job_file(jobs, text)).git_clone == expected


def test_relative_job_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_job_file(tmp_path, json.dumps({**BODY, "git_clone": "toy"}))
    assert job_file.read(Path("job.yml")).git_clone == f"{tmp_path}/toy"


def test_home_of_nobody(tmp_path: Path) -> None:
    text = json.dumps({**BODY, "git_clone": "~no-such-account/x"})
    (only,) = mistakes(tmp_path, text)
    assert only.endswith("git_clone: names the home of an account that is not there")


@pytest.mark.parametrize(
    "cd, directory",
    [
        (".", "."),
        ("./", "."),
        ("toyworkflow", "."),
        ("./toyworkflow/", "."),
        ("toyworkflow/sub", "sub"),
        ("toyworkflow/toyworkflow", "toyworkflow"),
        ("sub/toyworkflow", "sub/toyworkflow"),
        ("sub/../toyworkflow", "."),
        ("toyworkflow2", "toyworkflow2"),
    ],
)
def test_working_directory(cd: str, directory: str) -> None:
    assert job_file.working_directory("https://example.org/toyworkflow.git", cd) == directory


@pytest.mark.parametrize(
    "cd", ["/etc", "..", "../../etc", "a/../../b", "-x", "./-x", "", "https://x/y", "a\nb"]
)
def test_cd_stays_in_the_clone(cd: str) -> None:
    words = refused(cd=cd)
    assert words.startswith("start_worker message: cd: ") and "\n" not in words


@pytest.mark.parametrize(
    "cd, run_cwl",
    [
        (".", "/etc/passwd"),
        (".", "../x.cwl"),
        ("a", "../../x.cwl"),
        ("toyworkflow", "../x.cwl"),
        (".", "-x.cwl"),
        (".", "#main"),
        ("a", "#main"),
        (".", "."),
        (".", "https://example.org/x.cwl"),
        (".", "file:///etc/passwd"),
    ],
)
def test_run_cwl_stays_in_the_clone(cd: str, run_cwl: str) -> None:
    words = refused(cd=cd, run_cwl=run_cwl)
    assert words.startswith("start_worker message: run_cwl: ") and "\n" not in words


@pytest.mark.parametrize(
    "cd, run_cwl", [("a", "../x.cwl"), (".", "a/../x.cwl#main/step"), ("toyworkflow", "x")]
)
def test_run_cwl_anywhere_in_the_clone(cd: str, run_cwl: str) -> None:
    assert job_file.from_body({**BODY, "cd": cd, "run_cwl": run_cwl}).run_cwl == run_cwl


def test_display_name() -> None:
    spec = job_file.from_body({**BODY, "run_cwl": "cwl/wordcount.cwl#main"})
    assert display_name(spec.as_body()) == "toyworkflow/wordcount"
    assert display_name(job_file.from_body({**BODY, "name": "Mine"}).as_body()) == "Mine"


def test_mistakes_never_show_the_input() -> None:
    words = refused(input={"password": "hunter2", "a": {2}}, cd="/hunter2", name=["hunter2"])
    assert "hunter2" not in words
    assert len(words.splitlines()) == 3
