"""cwltool's options in ``cwl_args``: none of the installed cwltool is missing, and none is lost."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from cwltool.argparser import arg_parser
from cwltool.context import LoadingContext, RuntimeContext

from lando.cwltool_options import OPTIONS, RUNS_NOTHING, mistakes
from lando_worker import cwl_options
from lando_worker.result import SystemFailure

PAGE = Path(__file__).parents[2] / "docs" / "cwl-args.md"
REFUSED = {name: option.refused for option in OPTIONS for name in option.names if option.refused}


def actions() -> list[argparse.Action]:
    """The options of the installed cwltool."""
    return [action for action in arg_parser()._actions if action.option_strings]


def test_every_option_of_the_installed_cwltool_is_decided() -> None:
    theirs = {
        frozenset(action.option_strings): None
        if action.nargs == 0
        else tuple(action.choices or ()) or action.type or str
        for action in actions()
    }
    assert {frozenset(option.names): option.value for option in OPTIONS} == theirs


def test_the_table_of_the_documentation_says_what_the_code_does() -> None:
    rows = re.findall(r"^\| (`-.*?) \| (\w+) \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    shown = {frozenset(re.findall("`(.*?)`", names)): (what, why.strip()) for names, what, why in rows}
    assert len(shown) == len(rows)
    assert shown.keys() == {frozenset(option.names) for option in OPTIONS}
    for option in OPTIONS:
        what, why = shown[frozenset(option.names)]
        assert what == ("refused" if option.refused else "works"), option
        assert not option.refused or why == option.refused
        assert option.absolute == ("with an absolute directory" in why), option


def words(action: argparse.Action) -> list[str]:
    """The option with a value that is not its default."""
    name = action.option_strings[0]
    if action.nargs == 0:
        return [name]
    return [name, action.choices[-1] if action.choices else "/2" if action.type in (None, str) else "2"]


@pytest.mark.parametrize("action", actions(), ids=lambda action: action.option_strings[0])
def test_each_option_is_refused_or_reaches_both_contexts(
    action: argparse.Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(cwl_options.SITE_OPTIONS, raising=False)
    given = words(action)
    if given[0] in REFUSED:
        with pytest.raises(cwl_options.Refused, match=re.escape(REFUSED[given[0]])):
            cwl_options.parse(given)
        return
    assert mistakes(given) == []
    args = cwl_options.parse(given)
    expected = vars(arg_parser().parse_args(given))
    assert vars(args) == expected
    expected["disable_js_validation"] |= not expected["do_validate"]  # as cwltool has it
    loading = vars(cwl_options.loading_context(args, print, repr))
    assert loading["construct_tool_object"] is print and loading["fetcher_constructor"] is repr
    for name in (expected.keys() & vars(LoadingContext()).keys()) - {"loader", "fetcher_constructor"}:
        assert loading[name] == expected[name], name
    assert vars(RuntimeContext(vars(args))).keys() >= expected.keys() & vars(RuntimeContext()).keys()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out=x"], "--outdir is refused: "),
        (["--outd", "x"], "--outdir is refused: "),
        (["--outdir"], "--outdir is refused: "),
        (["-wx"], "--write-summary is refused: "),
        (["-w", "x"], "--write-summary is refused: "),
        (["--val"], f"--validate is refused: {RUNS_NOTHING}"),
        (["-h"], "--help is refused: "),
        (["--toil-option", "3", "--leave-o"], "--leave-outputs is refused: "),
        (["--parallel", "w.cwl"], "'w.cwl' is no option: "),
        (["--quiet", ""], "'' is no option: "),
        (["-"], "'-' is no option: "),
        (["-1"], "'-1' is no option: "),
        (["--"], "-- is refused: "),
        (["--", "--outdir", "x"], "-- is refused: "),
        (["--print-d"], "ambiguous option: --print-d could match --print-dot, --print-deps"),
        (["--cachedir"], "--cachedir: expected one argument"),
        (["--eval-timeout", "soon"], "--eval-timeout: invalid float value: 'soon'"),
        (["--on-error", "wait"], "--on-error: invalid choice: 'wait'"),
        (["--parallel=2"], "--parallel: ignored explicit argument '2'"),
        (["--provenance", "here"], "--provenance takes an absolute path here: "),
        (["--log-dir=logs"], "--log-dir takes an absolute path here: "),
    ],
)
def test_what_is_refused_is_named(arguments: Sequence[str], said: str) -> None:
    (mistake,) = mistakes(arguments)
    assert mistake.startswith(said)
    with pytest.raises(cwl_options.Refused, match=f"^cwl_args: {re.escape(said)}"):
        cwl_options.parse(arguments)


def test_each_mistake_is_said() -> None:
    assert [
        mistake.split()[0] for mistake in mistakes(["--pack", "--outdir", "x", "--eval-timeout", "y"])
    ] == [
        *("--pack", "--outdir", "--eval-timeout:"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--relax"],
        ["--on-error=continue", "-tx", "-t", "y", "--target=z"],
        ["--provenance=/p", "--log-dir", "/l"],
        ["--logLevel", "DEBUG", "--retryCount=3"],  # toil's
        ["--cachedir", "a b", "--orcid", ""],
    ],
)
def test_what_is_not_refused(arguments: Sequence[str]) -> None:
    assert mistakes(arguments) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-such-option"], "cwl_args: cwltool: error: unrecognized arguments: --no-such-option"),
        (["--no-such", "option"], "cwl_args: cwltool: error: unrecognized arguments: --no-such"),
        (["--podman", "--no-container"], "not allowed with argument"),
    ],
)
def test_what_only_cwltool_itself_refuses(arguments: Sequence[str], said: str) -> None:
    assert mistakes(arguments) == []
    with pytest.raises(cwl_options.Refused, match=said):
        cwl_options.parse(arguments)


def test_the_options_of_the_site_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cwl_options.SITE_OPTIONS, "--eval-timeout 5  --relax-path-checks")
    args = cwl_options.parse(["--eval-timeout", "7"])
    assert (args.eval_timeout, args.relax_path_checks) == (7.0, True)
    with pytest.raises(cwl_options.Refused, match=r"^cwl_args, with this machine's CWLTOOL_OPTIONS: "):
        cwl_options.parse(["--nope"])
    monkeypatch.setenv(cwl_options.SITE_OPTIONS, "--outdir /x")
    with pytest.raises(SystemFailure, match="CWLTOOL_OPTIONS: --outdir is refused"):
        cwl_options.parse([])
