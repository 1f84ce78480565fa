"""``lando-fsm database check``: the schema, and what the database holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lando import state_dir
from lando.app.app import App
from lando.cli.common import load_app
from lando.cli.output import print_json, result
from lando.cli.text import aligned, count
from lando.errors import DatabaseUnusable, LandoError
from lando.times import rfc3339

if TYPE_CHECKING:
    from lando.store.overview import Overview

AGES = {
    "day": "within a day",
    "week": "a week",
    "month": "30 days",
    "quarter": "90 days",
    "older": "before that",
}


@click.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON object.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> int:
    """Show the schema, what the database holds, and what retention would remove.

    Only looks: nothing is created or migrated. Exit code 1 if the database is damaged or cannot be used, 2 if
    there is none or its schema is too new.
    """
    app = load_app(ctx)
    path = app.config.database_path
    if path is not None and not path.exists():
        raise LandoError(f"{path}: does not exist yet; it is created when it is first needed")
    from lando.store.overview import overview  # noqa: PLC0415 - loads the database library

    found = overview(app.config.database_url, app.config.retention)
    found.schema.refuse_unusable(app.config.database)
    damage = None if path is None else _damage(path)
    left = None if found.copy_mark is None else found.copy_mark.refusal(app.config.database)
    facts = _as_json(app, found, damage, left)
    if as_json:
        print_json(facts)
    else:
        _print(facts)
    return 1 if damage not in (None, "none found", "not all looked at") or left is not None else 0


def _damage(path: Path) -> str:
    from lando.store.database import refuse_damage  # noqa: PLC0415

    try:
        return "none found" if refuse_damage(path) else "not all looked at"
    except DatabaseUnusable as error:
        return str(error)


def _as_json(app: App, found: Overview, damage: str | None, left: str | None) -> dict[str, Any]:
    from lando.store.schema import HEAD  # noqa: PLC0415

    return {
        "database": app.config.database,
        "schema": found.schema.version,
        "oldest_schema": found.schema.oldest,
        "program_schema": HEAD,
        "migration_pending": found.schema.is_pending,
        "bytes": found.size,
        "rows": found.rows,
        "jobs": found.states,
        "ended": found.ended,
        "oldest_end": rfc3339(found.oldest_end),
        "retention": None if found.due is None else vars(found.due),
        "damage": damage,
        "daemon": _daemon(app),
        "not_to_be_used": left,
        "seconds": round(found.seconds, 3),
    }


def _daemon(app: App) -> str | None:
    """The daemon that runs for it on this machine."""
    pid = state_dir.running(app.daemon_lock)
    return None if pid is None else f"pid {pid}"


def _print(facts: dict[str, Any]) -> None:
    pending = f"; migrated to {facts['program_schema']} when next used" if facts["migration_pending"] else ""
    oldest = facts["oldest_schema"]
    usable = "" if oldest is None else f", for programs that know {oldest} or later"
    result(
        f"database:  {facts['database']}",
        f"schema:    {facts['schema'] or 'none'}{usable}{pending}",
        f"size:      {facts['bytes'] / 2**20:,.1f} MiB",
        f"daemon:    {facts['daemon'] or 'none is running on this machine'}",
    )
    if facts["damage"] is not None:
        result(f"damage:    {facts['damage']}")
    if facts["not_to_be_used"] is not None:
        result(f"not used:  {facts['not_to_be_used']}")
    if facts["rows"]:
        result("", *aligned(("TABLE", "ROWS"), [(name, f"{rows:,}") for name, rows in facts["rows"].items()]))
    if facts["jobs"]:
        result("", *aligned(("JOBS", ""), [(state, f"{jobs:,}") for state, jobs in facts["jobs"].items()]))
        cells = [(AGES[age], f"{jobs:,}") for age, jobs in facts["ended"].items()]
        result("", *aligned(("ENDED", "JOBS"), cells))
        result(f"the first one that is stored: {facts['oldest_end'] or '-'}")
    due = {name: jobs for name, jobs in (facts["retention"] or {}).items() if jobs is not None}
    if due:
        told = ", ".join(f"{name}: {count(jobs, 'job')}" for name, jobs in due.items())
        result(f"retention would remove now: {told}")
    result("", f"counted in {count(round(facts['seconds'] * 1000), 'millisecond')}")
