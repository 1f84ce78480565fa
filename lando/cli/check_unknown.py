"""The line of ``check`` about what the database does not know: after a restore, say."""

from __future__ import annotations

from lando.app.app import App
from lando.cloud.check_result import CheckResult
from lando.cloud.interface import CloudError, Server
from lando.engine.ownership import why_unknown
from lando.store.database import stored_schema
from lando.store.facts import LostJobs, UnknownServer
from lando.views import lost_jobs
from lando.views.inventory import Inventory
from lando.views.jobs import exists

WHAT = "unknown VMs"
SHOWN = 20
"""How many VMs, and how many jobs, are named; ``servers`` lists all."""


def result(app: App) -> CheckResult:
    """What VMs and reports name that the database does not have. Nothing is changed.

    Raises:
        LandoError: the database cannot be read.
    """
    path = app.config.database_path
    if path is not None and not exists(path):
        return CheckResult(WHAT, "ok", "not looked for, since there is no database yet")
    schema = stored_schema(app.config.database_url)
    if schema.is_pending or schema.is_too_new:
        return CheckResult(WHAT, "ok", "not looked for before the database is migrated")
    views = app.views()
    with views.reading() as queries:
        reported = LostJobs() if queries is None else queries.lost_jobs()
    try:
        inventory = app.inventory(views)
    except CloudError as error:
        return CheckResult(WHAT, "warning", f"the cloud's VMs cannot be listed: {error}")
    return _told(inventory, reported)


def _told(inventory: Inventory, reported: LostJobs) -> CheckResult:
    unknown = [(each.resource, each.job) for each in inventory.unknown if isinstance(each.resource, Server)]
    vms = [f"VM {server.name} ({server.id}): {why_unknown(server, job)}" for server, job in unknown]
    waiting = {job.id for _, job in unknown if job is not None and job.state == "queued"}
    waits = [f"job {job} is not started while its VM above exists" for job in sorted(waiting)]
    servers = [_recorded(server, job is not None) for server, job in unknown]
    found = lost_jobs.sentences(servers, reported, SHOWN)
    if not unknown and not found:
        return CheckResult(WHAT, "ok", "none, and no report names a job that this database does not have")
    are = "1 VM is" if len(unknown) == 1 else f"{len(unknown):,} VMs are"
    first = f"{are} unknown to this database, and left alone" if unknown else "none, but reports name jobs"
    lines = [*_shortened(vms), *_shortened(waits), *(f"{problem}: {advice}" for problem, advice in found)]
    return CheckResult(WHAT, "warning", "\n".join((f"{first}: docs/backup.md says what to do", *lines)))


def _recorded(server: Server, is_job_known: bool) -> UnknownServer:
    return UnknownServer(server.id, server.name, server.job_id or "", server.attempt, True, is_job_known)


def _shortened(lines: list[str]) -> list[str]:
    more = [f"and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    return lines[:SHOWN] + more
