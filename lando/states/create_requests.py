"""Create requests of an attempt: which one is open, and whose token is valid. At most one is adopted."""

from __future__ import annotations

import hmac

from lando.states.events import CreateAbsent, CreateRefused, CreateSent, Report, ServerCreated
from lando.states.job import CreateRequest, Job, RequestStatus
from lando.states.records import replace

AboutRequest = CreateSent | CreateRefused | CreateAbsent | ServerCreated


def find(job: Job, mark: str) -> CreateRequest | None:
    """The request with this mark, or None."""
    return next((request for request in job.requests if request.mark == mark), None)


def is_void(job: Job, mark: str) -> bool:
    """The request with this mark made no server."""
    request = find(job, mark)
    return request is not None and request.status == "void"


def open_request(job: Job) -> CreateRequest | None:
    """The request that is not resolved: it was not sent yet, or its server may exist and its id is not
    known."""
    for request in job.requests:
        if request.status in ("ordered", "sent") or (request.status == "adopted" and job.server_id is None):
            return request
    return None


def is_open(job: Job, event: AboutRequest) -> bool:
    """The event is about the open request."""
    request = open_request(job)
    return request is not None and request.mark == event.mark


def is_unheard(job: Job, event: AboutRequest) -> bool:
    """The event is about the open request, and no worker of its server has reported."""
    request = open_request(job)
    return request is not None and request.mark == event.mark and request.status != "adopted"


def is_unsent(job: Job, event: CreateSent) -> bool:
    """The event is about a request that was not sent yet."""
    request = find(job, event.mark)
    return request is not None and request.status == "ordered"


def reporting_request(job: Job, event: Report) -> CreateRequest | None:
    """The request that the report belongs to, if it is of this attempt and its token is valid."""
    if event.attempt != job.attempt:
        return None
    for request in job.requests:
        counts = request.status in ("sent", "adopted")
        if hmac.compare_digest(request.token, event.token) and counts:
            return request
    return None


def is_valid_report(job: Job, event: Report) -> bool:
    """The report is of this attempt's worker."""
    return reporting_request(job, event) is not None


def set_status(job: Job, mark: str, status: RequestStatus) -> Job:
    """The job with this request's status changed."""
    return replace(
        job,
        requests=tuple(
            replace(request, status=status) if request.mark == mark else request for request in job.requests
        ),
    )


def adopt(job: Job, mark: str) -> Job:
    """The job with this request adopted and all others void."""
    return replace(
        job,
        requests=tuple(
            replace(request, status="adopted", absent_since=None)
            if request.mark == mark
            else replace(request, status="void")
            for request in job.requests
        ),
    )


def withdraw_unsent(job: Job) -> Job:
    """The job with every request void that was not sent: it will not be."""
    return replace(
        job,
        requests=tuple(
            replace(request, status="void") if request.status == "ordered" else request
            for request in job.requests
        ),
    )


def record_absence(job: Job, event: CreateAbsent) -> Job:
    """The job with the time at which a list first lacked the request's server."""
    return replace(
        job,
        requests=tuple(
            replace(request, absent_since=event.at)
            if request.mark == event.mark and request.absent_since is None
            else request
            for request in job.requests
        ),
    )


def second_look_at(job: Job, settle: float) -> float | None:
    """When the second list for the open request may be asked for; None if no list lacked its server yet.

    Args:
        job: the record.
        settle: seconds after which every list shows what was created before.
    """
    request = open_request(job)
    return None if request is None or request.absent_since is None else request.absent_since + settle


def is_absent_for_good(job: Job, event: CreateAbsent) -> bool:
    """A second list, asked for the settle time or more after the first, lacks the server, too."""
    look_at = second_look_at(job, event.settle)
    return is_open(job, event) and look_at is not None and event.at >= look_at
