"""The options of ``status`` that say which jobs to show."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import click

from lando.config.section import to_seconds

if TYPE_CHECKING:
    _TimeParam = click.ParamType[float]
    _LabelParam = click.ParamType[tuple[str, str]]
else:
    _TimeParam = _LabelParam = click.ParamType

FORMS = "2h, 90m or 7d ago, 2026-11-28 (its beginning in UTC), or 2026-11-28T09:30:00+01:00"
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?", re.ASCII)
_ZONE = re.compile(r"[Zz]|[+-]\d{2}:\d{2}", re.ASCII)


class Since(_TimeParam):
    """A time, as epoch seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See ``click.ParamType``."""
        if isinstance(value, float):
            return value
        text = str(value).strip()
        ago = None if text.isdigit() else to_seconds(text)  # a bare number could be a year, or epoch seconds
        if ago is not None:
            return time.time() - ago
        if _DATE.fullmatch(text):
            return self._moment(f"{text}T00:00:00", "+00:00", text, param, ctx)
        found = _MOMENT.match(text)
        if found is None:
            self.fail(f"{text!r} is not a time; give {FORMS}", param, ctx)
        zone = text[found.end() :].strip()
        if not zone:
            self.fail(f"{text!r} has no time zone; add Z for UTC, or one such as +01:00", param, ctx)
        if not _ZONE.fullmatch(zone):
            self.fail(f"{text!r}: {zone!r} is not a time zone; give Z, or one such as +01:00", param, ctx)
        return self._moment(found[0], "+00:00" if zone in "Zz" else zone, text, param, ctx)

    def _moment(
        self, local: str, zone: str, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        whole, _, fraction = local.upper().replace(" ", "T").partition(".")
        whole += ":00" if whole.count(":") == 1 else ""
        try:
            moment = datetime.fromisoformat(f"{whole}.{fraction:0<6.6}{zone}")
        except ValueError as error:
            self.fail(f"{text!r} is not a time: {error}; give {FORMS}", param, ctx)
        return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds()


class Label(_LabelParam):
    """A label as ``KEY=VALUE``."""

    name = "label"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """See ``click.ParamType``."""
        if isinstance(value, tuple):
            return value
        key, equals, label = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{str(value)!r} is not KEY=VALUE, as in --label project=rna", param, ctx)
        return key, label
