"""The section ``worker`` of the configuration: what runs inside a VM."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields

from lando.config.section import Section, or_default

COMMAND = "/lando/lando_worker.sh"


@dataclass(frozen=True)
class WorkerConfig:
    """The section, with its defaults."""

    command: str | None = None
    """The program that the start-up script calls; None on the local cloud: the one installed here."""
    user: str | None = "lando"
    """The account that workflows run as on a VM; must exist in the image. Not used on the local cloud."""
    cwl_base_command: tuple[str, ...] | None = None
    """Another CWL runner; None: cwltool."""
    bootstrap: bool = False
    """The image is a stock cloud image: the start-up script installs the worker and what it needs."""
    bootstrap_source: str | None = None
    """The address that pip installs lando-fsm from in the VM; only with ``bootstrap``."""
    protect: bool = True
    """On a VM, ``user`` may not read the user data and the worker's files. Not used on the local cloud."""


KEYS = tuple(each.name for each in fields(WorkerConfig))
"""Every key of the section."""


def read(section: Section | None, is_local: bool) -> WorkerConfig:
    """Read the section.

    Args:
        section: None if there is none.
        is_local: whether VMs are those of the local cloud.
    """
    command = None if is_local else COMMAND
    if section is None:
        return WorkerConfig(command=command)
    bootstrap = or_default(section.flag("bootstrap"), WorkerConfig.bootstrap)
    if bootstrap and is_local:
        section.complain("bootstrap", "is for VMs of OpenStack; the local cloud runs what is installed here")
    return WorkerConfig(
        command=or_default(section.text("command"), command),
        user=or_default(section.text("user"), WorkerConfig.user),
        protect=or_default(section.flag("protect"), WorkerConfig.protect),
        cwl_base_command=_cwl_base_command(section),
        bootstrap=bootstrap,
        bootstrap_source=_bootstrap_source(section, bootstrap and not is_local),
    )


def _bootstrap_source(section: Section, required: bool) -> str | None:
    """Read an address: the VM has no files of this machine, and a bare name may be someone else's on PyPI."""
    form = "git+https://HOST/lando-fsm.git@VERSION, or the https address of a wheel"
    if required:
        section.require("bootstrap_source", f"where pip in a VM gets lando-fsm: {form}")
    source = section.text("bootstrap_source")
    if source is None:
        return None
    address = re.match(r"(?:git\+)?https?://([^\s/?#]+)", source)
    if address is None:
        section.complain("bootstrap_source", f"expected an address that VMs can reach: {form}")
    elif "@" in address[1]:
        section.complain("bootstrap_source", "may hold no credentials: every process of a VM can read them")
    return source


def _cwl_base_command(section: Section) -> tuple[str, ...] | None:
    if not isinstance(section.get("cwl_base_command"), str):
        return section.texts("cwl_base_command") or None
    try:
        return tuple(shlex.split(section.text("cwl_base_command") or "")) or None
    except ValueError:
        section.complain("cwl_base_command", "has a quote that is not closed; or write it as a list")
        return None
