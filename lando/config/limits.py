"""The section ``limits`` of the configuration: the most that a job file may ask for on this site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lando.config.section import Section
from lando.errors import UsageError
from lando.states.job import (
    DEFAULT_ATTEMPTS,
    MAX_ATTEMPTS,
    MAX_JOB_DURATION,
    MAX_PRIORITY,
    MAX_VOLUME_SIZE,
    JobSpec,
)
from lando.times import written

T = TypeVar("T", int, float)


@dataclass(frozen=True)
class Limits:
    """None: no limit."""

    run_timeout: float | None = None
    """Seconds; also the run timeout of jobs that name none."""
    volume_size: int | None = None
    """GB."""
    attempts: int | None = None
    priority: int | None = None
    flavors: tuple[str, ...] | None = None
    """Names that job files may use, besides the site's default."""
    images: tuple[str, ...] | None = None

    def check(self, spec: JobSpec, default_flavor: str, default_image: str) -> None:
        """Refuse a job that asks for more.

        Args:
            spec: the job.
            default_flavor: the site's; always allowed.
            default_image: the same for images.

        Raises:
            UsageError: with every limit that the job exceeds.
        """
        found = [
            _beyond("run_timeout", spec.run_timeout, self.run_timeout, written),
            _beyond("volume_size", spec.volume_size, self.volume_size, "{:,} GB".format),
            _beyond("priority", spec.priority, self.priority, "{:,}".format),
            _not_among("flavor", spec.flavor, self.flavors, default_flavor),
            _not_among("image", spec.image, self.images, default_image),
        ]
        if spec.attempts != DEFAULT_ATTEMPTS:  # which the job need not have asked for: see ``attempts_of``
            found.append(_beyond("attempts", spec.attempts, self.attempts, "{:,}".format))
        problems = [problem for problem in found if problem]
        if problems:
            raise UsageError("; ".join(problems))

    def attempts_of(self, spec: JobSpec) -> int:
        """How many attempts a job has: the default, too, is at most the limit."""
        return spec.attempts if self.attempts is None else min(spec.attempts, self.attempts)


def _beyond(key: str, asked: T | None, most: T | None, show: Callable[[T], str]) -> str | None:
    if asked is None or most is None or asked <= most:
        return None
    return f"limits.{key}: the job asks for {show(asked)}, the site allows at most {show(most)}"


def _not_among(key: str, asked: str | None, allowed: tuple[str, ...] | None, default: str) -> str | None:
    if asked is None or allowed is None or asked in (default, *allowed):
        return None
    names = ", ".join(dict.fromkeys((default, *allowed)))
    return f"limits.{key}s: the job asks for {asked}, the site allows {names}"


def read(section: Section) -> Limits:
    """Read the section; mistakes are noted in its document."""
    return Limits(
        run_timeout=section.duration("run_timeout", MAX_JOB_DURATION),
        volume_size=section.integer("volume_size", 1, MAX_VOLUME_SIZE),
        attempts=section.integer("attempts", 1, MAX_ATTEMPTS),
        priority=section.integer("priority", 0, MAX_PRIORITY),  # jobs that name none have 0
        flavors=None if section.get("flavors") is None else section.texts("flavors"),
        images=None if section.get("images") is None else section.texts("images"),
    )
