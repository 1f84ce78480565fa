"""The worker configuration file, as the start-up script writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from lando.address import login_secrets
from lando.versions import OPTIONAL, needed


class SettingsError(Exception):
    """The worker configuration file cannot be used. The text names the file and the key."""


@dataclass(frozen=True)
class Settings:
    """What to report to, and how to run the job. ``lando.app.user_data`` writes it."""

    job: str
    attempt: int
    token: str
    queue: Mapping[str, Any]
    """How to publish: the kind of queue, and what ``publishers`` needs for it."""
    heartbeat: float
    """Seconds between two reports when nothing changes."""
    unknown: tuple[str, ...]
    """Settings that are set, and that this version does not know: the job must not be run without them."""
    run_timeout: float | None = None
    """Seconds after which the workflow is ended; None for no limit."""
    user: str | None = None
    """The account that workflows run as; None for the worker's own."""
    protect: bool = False
    """Keep the worker's rights from ``user``: on VMs of OpenStack."""
    git_ref: str | None = None
    git_user: str | None = None
    git_password: str | None = None
    cwl_base_command: tuple[str, ...] | None = None
    """The site's CWL runner; None for cwltool."""
    cwl_args: tuple[str, ...] = ()
    outputs: Path | None = None
    """Directory for the final outputs; None for one inside the VM's directory."""

    @property
    def secrets(self) -> list[str]:
        """The values that must be masked in everything that is printed or reported."""
        git = login_secrets(self.git_user, self.git_password)
        return [secret for secret in (self.token, *git, self.queue.get("password")) if secret]


ABILITIES = tuple(field.name for field in fields(Settings) if field.default is not MISSING)
"""The optional settings that this version knows, as workers report them."""


def load(path: Path) -> Settings:
    """Read the worker configuration file.

    Raises:
        SettingsError: it is missing, unreadable or invalid.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        unknown = needed(raw).difference(ABILITIES)
        raw = {**(raw.get(OPTIONAL) or {}), **raw}
        git = raw.get("git") or {}
        base_command = raw.get("cwl_base_command")
        run_timeout = raw.get("run_timeout")
        return Settings(
            job=raw["job"],
            attempt=raw["attempt"],
            token=raw["token"],
            queue=raw["queue"],
            heartbeat=float(raw["heartbeat"]),
            unknown=tuple(sorted(unknown)),
            run_timeout=None if run_timeout is None else float(run_timeout),
            user=raw.get("user"),
            protect=raw.get("protect") is True,
            git_ref=git.get("ref"),
            git_user=git.get("user"),
            git_password=git.get("password"),
            cwl_base_command=tuple(base_command) if base_command else None,
            cwl_args=tuple(raw.get("cwl_args") or ()),
            outputs=Path(raw["outputs"]) if raw.get("outputs") else None,
        )
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except KeyError as error:
        raise SettingsError(f"{path}: the key {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: not a worker configuration file: {error}") from error
