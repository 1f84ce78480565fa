"""What VMs and reports name and the database does not have, as sentences: after a restore, say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lando.store.facts import LostJob, LostJobs, UnknownResources, UnknownServer

SHOWN = 3
"""How many jobs are named."""
Sentences = list[tuple[str, str]]
"""Each with what it is about, and what to do."""


def sentences(servers: Sequence[UnknownServer], reported: LostJobs, shown: int = SHOWN) -> Sentences:
    """What ``status`` and ``check`` say.

    Args:
        servers: those of this deployment that are unknown.
        reported: what reports have named.
        shown: how many jobs are named.
    """
    vms = {each.job_id: each.name for each in servers if not each.is_job_known}
    reports = {each.job_id: each for each in reported.jobs if not each.is_job_known}
    lost = [_described(job_id, vms.get(job_id), reports.get(job_id)) for job_id in {**vms, **reports}]
    found: Sentences = []
    if lost:
        jobs = "1 job" if len(lost) == 1 else f"{len(lost):,} jobs"
        more = " or more" * reported.more
        are = "is" if len(lost) == 1 and not more else "are"
        found.append(
            (
                f"{jobs}{more} that this database does not have {are} named by VMs or reports",
                f"{_some(lost, shown)}; probably submitted after the backup that was restored: submit each "
                "again, with `--id` and its id, once its VM is deleted",
            )
        )
    later = [_with_attempt(each) for each in reported.jobs if each.is_job_known]
    if later:
        are = "an attempt" if len(later) == 1 else f"attempts of {len(later):,} jobs"
        found.append(
            (
                f"workers have reported about {are} that this database does not know",
                f"{_some(later, shown)}; the reports had no effect, and are among the dead letters",
            )
        )
    return found


def of(prefix: str, unknown: UnknownResources, reported: LostJobs) -> Sentences:
    """What is known of a job that the database does not have, by the beginning of its id."""
    named = [each for each in unknown.servers if each.ours and each.job_id.startswith(prefix)]
    jobs = tuple(each for each in reported.jobs if each.job_id.startswith(prefix))
    return sentences(named, LostJobs(jobs))


def _described(job_id: str, vm: str | None, report: LostJob | None) -> str:
    known = [f"VM {vm}" if vm is not None else "no VM is known", *_reported(report)]
    return f"job {job_id} ({', '.join(known)})"


def _with_attempt(report: LostJob) -> str:
    return ", ".join((f"attempt {report.attempt} of job {report.job_id}", *_reported(report)))


def _reported(report: LostJob | None) -> Iterable[str]:
    return () if report is None or report.outcome is None else (f"reported {report.outcome}",)


def _some(told: Sequence[str], shown: int) -> str:
    more = [f"and {len(told) - shown:,} more"] if len(told) > shown else []
    return "; ".join((*told[:shown], *more))
