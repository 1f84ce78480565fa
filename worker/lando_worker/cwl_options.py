"""cwltool's command line: the site's and the job's options, by its own parser, and what the worker sets.

It imports cwltool, so it is imported late.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cwltool.argparser import arg_parser
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.main import setup_loadingContext
from cwltool.stdfsaccess import StdFsAccess

from lando.cwltool_options import mistakes
from lando_worker.container_engine import ContainerEngine
from lando_worker.directories import Directories
from lando_worker.result import SystemFailure

SITE_OPTIONS = "CWLTOOL_OPTIONS"
"""The environment variable with options that cwltool reads before those of its command line."""


class Refused(Exception):
    """``cwl_args`` cannot be used. The text names the option."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """All options of cwltool, each as given, or its default.

    Args:
        arguments: the job's ``cwl_args``; an older client may have sent them unchecked.

    Raises:
        Refused: cwltool does not take them, or they cannot be used in a worker.
        SystemFailure: it is so with those of ``CWLTOOL_OPTIONS``.
    """
    site = [word for word in os.environ.get(SITE_OPTIONS, "").split(" ") if word]  # as cwltool splits it
    if wrong := mistakes(site):
        raise SystemFailure(f"the environment variable {SITE_OPTIONS}: {'; '.join(wrong)}")
    if wrong := mistakes(arguments):
        raise Refused(f"cwl_args: {'; '.join(dict.fromkeys(wrong))}")
    where = f"cwl_args, with this machine's {SITE_OPTIONS}" if site else "cwl_args"
    sys.argv = ["cwltool"]  # its parser and its log name it, and it sends it to servers
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            args: argparse.Namespace = arg_parser().parse_args([*site, *arguments])
    except SystemExit:
        lines = said.getvalue().strip().splitlines()
        raise Refused(f"{where}: {lines[-1] if lines else 'cwltool does not take them'}") from None
    if args.workflow is not None or args.job_order:
        raise Refused(f"{where}: {args.workflow!r} is no option: run_cwl names the document")
    return args


def chooses_engine(args: argparse.Namespace) -> bool:
    """Whether the options choose the container engine, or none."""
    return bool(args.user_space_docker_cmd or args.singularity or args.podman or not args.use_container)


def complete(
    args: argparse.Namespace,
    document: str,
    input_object: str,
    basedir: str,
    directories: Directories,
    engine: ContainerEngine,
) -> None:
    """Set what the worker decides.

    Args:
        args: as ``parse`` returned them.
        document: its address.
        input_object: its address.
        basedir: the directory that locations are relative to.
        directories: where outputs and the ids of containers go.
        engine: the machine's container engine, used unless the options choose another.
    """
    args.workflow, args.job_order = document, [input_object]
    args.outdir, args.basedir = str(directories.outputs), basedir
    args.cidfile_dir = str(directories.containers)
    args.enable_color = False
    if not chooses_engine(args):
        wants_container = bool(args.default_container or args.beta_use_biocontainers)
        args.use_container, args.podman = engine.available or wants_container, engine.is_podman


def loading_context(
    args: argparse.Namespace, make_tool: Callable[..., Any], make_fetcher: Callable[[Any, Any], Any]
) -> LoadingContext:
    """The context that cwltool itself would make of all these options, with another maker of tools, and of
    what reads addresses.

    cwltool copies the options only into a context that it makes: one that is given to its main function
    without them would lose ``--enable-dev``, ``--non-strict``, ``--relax-path-checks`` and others.
    """
    loading = setup_loadingContext(None, RuntimeContext(vars(args)), args)
    loading.construct_tool_object = make_tool
    loading.fetcher_constructor = make_fetcher
    return loading


def runtime_context(args: argparse.Namespace, directories: Directories) -> RuntimeContext:
    """The context that cwltool itself would make, with outputs found also where their directory's name holds
    characters of a pattern: cwltool puts it before the pattern of a ``glob`` as it is."""
    base = os.path.realpath(directories.tmp)

    class OutputAccess(StdFsAccess):  # type: ignore[misc]
        def glob(self, pattern: str) -> list[str]:
            if pattern.startswith(base + os.sep):
                pattern = glob.escape(base) + pattern[len(base) :]
            return [*super().glob(pattern)]

    runtime = RuntimeContext(vars(args))
    runtime.make_fs_access = OutputAccess
    return runtime
