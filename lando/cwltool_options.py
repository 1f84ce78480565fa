"""Every option of cwltool: what it takes, and whether a job's ``cwl_args`` may hold it.

A copy of what cwltool's own parser says, since clients check job files without loading cwltool; a test
compares the two. The user's table is ``docs/cwl-args.md``.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

RUNS_NOTHING = "it prints something instead of running the workflow; call cwltool itself for that"
FOR_PRINTING = "it only changes what is printed instead of running the workflow"
CONTAINER_IDS = "the worker keeps the ids of containers itself, to stop them when the VM is deleted"


@dataclass(frozen=True)
class Option:
    """One option, with all its names."""

    names: tuple[str, ...]
    value: type[str] | type[int] | type[float] | tuple[str, ...] | None
    """What follows it: nothing, a text, a number, or one of some words."""
    refused: str = ""
    """Why it may not be in ``cwl_args``; empty: it does what it does with cwltool."""
    absolute: bool = False
    """Its value must be an absolute path: it is kept for people, and the clone is deleted with the VM."""


def _options(names: str, value: Any = None, refused: str = "") -> tuple[Option, ...]:
    """Options that are alike; ``|`` separates the names of one."""
    return tuple(Option(tuple(each.split("|")), value, refused) for each in names.split())


OPTIONS = (
    # Documents and expressions
    *_options("--enable-dev --enable-ext --strict --non-strict --skip-schemas --relax-path-checks"),
    *_options("--disable-validate --fast-parser --doc-cache --no-doc-cache"),
    *_options("--disable-js-validation --js-console"),
    *_options("--overrides --js-hint-options-file --mpi-config-file", str),
    *_options("--eval-timeout", float),
    *_options("--enable-ga4gh-tool-registry --disable-ga4gh-tool-registry"),
    *_options("--add-ga4gh-tool-registry", str),
    # Running
    *_options("--parallel"),
    *_options("--parallel-max", int),
    *_options("--on-error", ("stop", "continue")),
    *_options("--target|-t --single-step --single-process", str),
    *_options("--preserve-environment", str),
    *_options("--preserve-entire-environment"),
    # Containers and software
    *_options("--no-container --podman --singularity --udocker"),
    *_options("--user-space-docker-cmd --singularity-sandbox-path --default-container --custom-net", str),
    *_options("--enable-pull --disable-pull --force-docker-pull --no-read-only --no-match-user"),
    *_options("--strict-memory-limit --strict-cpu-limit --rm-container --leave-container"),
    *_options("--record-container-id"),
    *_options("--cidfile-dir --cidfile-prefix", str, CONTAINER_IDS),
    *_options("--beta-dependency-resolvers-configuration --beta-dependencies-directory", str),
    *_options("--beta-use-biocontainers --beta-conda-dependencies"),
    # Files
    *_options("--tmpdir-prefix --tmp-outdir-prefix --cachedir", str),
    *_options("--rm-tmpdir --leave-tmpdir --move-outputs --copy-outputs"),
    *_options("--compute-checksum --no-compute-checksum"),
    *_options(
        "--outdir",
        str,
        "outputs go to the job's own directory; `lando-fsm run JOB.yml --outdir DIR` copies them",
    ),
    *_options("--leave-outputs", None, "the output files would be deleted with the VM"),
    *_options(
        "--write-summary|-w",
        str,
        "the output object would not be reported; `lando-fsm outputs JOB --json` prints it",
    ),
    *_options("--basedir", str, "relative locations in input start from the directory that cd names"),
    # Records
    Option(("--provenance",), str, absolute=True),
    Option(("--log-dir",), str, absolute=True),
    *_options("--enable-user-provenance --disable-user-provenance"),
    *_options("--enable-host-provenance --disable-host-provenance"),
    *_options("--orcid --full-name", str),
    # Logging
    *_options("--verbose --quiet --no-warnings --debug --timestamps --disable-color"),
    *_options("--enable-color", None, "the log is kept without color codes"),
    # Instead of running
    *_options("-h|--help --tool-help --version", None, RUNS_NOTHING),
    *_options("--generate-help-preview", str, RUNS_NOTHING),
    *_options("--print-supported-versions --validate --make-template --pack", None, RUNS_NOTHING),
    *_options("--print-rdf --print-dot --print-pre --print-deps --print-input-deps", None, RUNS_NOTHING),
    *_options("--print-subgraph --print-targets", None, RUNS_NOTHING),
    *_options("--relative-deps", ("primary", "cwd"), FOR_PRINTING),
    *_options("--rdf-serializer", str, FOR_PRINTING),
)


def mistakes(arguments: Sequence[str]) -> list[str]:
    """What is wrong with options for cwltool, each with the option's name; empty: nothing that is known here.

    They are read as cwltool reads them, by argparse: abbreviated, or with their value after ``=``. An option
    that is not in the list is left to the runner: it may be another one than cwltool, or a newer cwltool.

    Args:
        arguments: the words before the document.
    """
    parser, found = _Parser(), _Found()
    try:
        _, rest = parser.parse_known_args(list(arguments), found)
    except _Mistake as mistake:
        return [*found.mistakes, str(mistake)]
    if "--" in arguments:
        found.mistakes.append("-- is refused: nothing but options may be here")
    elif rest and not re.match("--?[A-Za-z]", rest[0]):
        word = rest[0] if len(rest[0]) <= 60 else f"{rest[0][:57]}..."
        found.mistakes.append(f"{word!r} is no option: run_cwl names the document, and input has its inputs")
    return found.mistakes


class _Mistake(Exception):
    """argparse's own error."""


class _Found(argparse.Namespace):
    def __init__(self) -> None:
        super().__init__()
        self.mistakes: list[str] = []


class _Parser(argparse.ArgumentParser):
    """Reads what is in the list, and calls ``_Judge`` for each."""

    def __init__(self) -> None:
        super().__init__(prog="cwltool", add_help=False, argument_default=argparse.SUPPRESS)
        for option in OPTIONS:
            takes: dict[str, Any] = {"nargs": "?"} if option.refused else {}
            if option.value is None:
                takes["nargs"] = 0
            elif isinstance(option.value, tuple):
                takes["choices"] = option.value
            else:
                takes["type"] = option.value
            self.add_argument(*option.names, action=_Judge, option=option, **takes)

    def error(self, message: str) -> NoReturn:
        raise _Mistake(message.removeprefix("argument "))


class _Judge(argparse.Action):
    def __init__(self, option: Option, **given: Any) -> None:
        super().__init__(**given)
        self._option = option

    def __call__(
        self, parser: object, namespace: object, values: object, option_string: object = None
    ) -> None:
        assert isinstance(namespace, _Found)
        option, name = self._option, max(self._option.names, key=len)
        if option.refused:
            namespace.mistakes.append(f"{name} is refused: {option.refused}")
        elif option.absolute and not str(values).startswith("/"):
            why = "a relative one is in the clone, which is deleted with the VM"
            namespace.mistakes.append(f"{name} takes an absolute path here: {why}")
