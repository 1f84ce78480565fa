"""The section ``retention`` of the configuration: how long what has ended is kept."""

from __future__ import annotations

from dataclasses import fields

from lando.config.section import Section
from lando.engine.retention import Retention

NEVER = "never"
KEYS = tuple(field.name for field in fields(Retention))
DEFAULT = Retention()


def read(section: Section) -> Retention:
    """Read the section; mistakes are noted in its document."""
    return Retention(**{key: _seconds(section, key) for key in KEYS})


def _seconds(section: Section, key: str) -> float | None:
    value = section.get(key)
    if value is None:
        default: float | None = getattr(DEFAULT, key)
        return default
    return None if value == NEVER else section.duration(key, or_else=f"; or {NEVER}")
