"""Create requests of an attempt: which are open, whose token counts. At most one is ever adopted."""

from __future__ import annotations

import hmac

from lando.states.events import CreateAbsent, CreateRefused, CreateSent, Report, ServerCreated
from lando.states.job import CreateRequest, Job, RequestStatus
from lando.states.records import replace

AboutRequest = CreateSent | CreateRefused | CreateAbsent | ServerCreated


def find(job: Job, mark: str) -> CreateRequest | None:
    """The request with this mark, or None."""
    return next((request for request in job.requests if request.mark == mark), None)


def open_request(job: Job) -> CreateRequest | None:
    """The request whose server may exist without our knowing its id, or that is yet to be sent."""
    for request in job.requests:
        if request.status in ("ordered", "sent") or (request.status == "adopted" and job.server_id is None):
            return request
    return None


def is_open(job: Job, event: AboutRequest) -> bool:
    """The event is about the request that is still to be resolved."""
    request = open_request(job)
    return request is not None and request.mark == event.mark


def is_unheard(job: Job, event: AboutRequest) -> bool:
    """The event is about the open request, and no worker has spoken from its server."""
    request = open_request(job)
    return request is not None and request.mark == event.mark and request.status != "adopted"


def is_unsent(job: Job, event: CreateSent) -> bool:
    """The event is about a request that was ordered and not sent."""
    request = find(job, event.mark)
    return request is not None and request.status == "ordered"


def reporting(job: Job, event: Report) -> CreateRequest | None:
    """The request whose server speaks, if it speaks for this attempt and its token is not void."""
    if event.attempt != job.attempt:
        return None
    for request in job.requests:
        counts = request.status in ("sent", "adopted")
        if hmac.compare_digest(request.token, event.token) and counts:
            return request
    return None


def speaks(job: Job, event: Report) -> bool:
    """The report is of this attempt's worker."""
    return reporting(job, event) is not None


def set_status(job: Job, mark: str, status: RequestStatus) -> Job:
    """The job with this request's status changed."""
    return replace(
        job,
        requests=tuple(
            replace(request, status=status) if request.mark == mark else request for request in job.requests
        ),
    )


def adopt(job: Job, mark: str) -> Job:
    """The job with this request adopted and all others void; lists that lacked its server count no more."""
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
    """The job with every request that was not sent made void: it never will be."""
    return replace(
        job,
        requests=tuple(
            replace(request, status="void") if request.status == "ordered" else request
            for request in job.requests
        ),
    )


def saw_absent(job: Job, event: CreateAbsent) -> Job:
    """The job with the time recorded at which a list first did not show the request's server."""
    return replace(
        job,
        requests=tuple(
            replace(request, absent_since=event.at)
            if request.mark == event.mark and request.absent_since is None
            else request
            for request in job.requests
        ),
    )


def is_absent_for_good(job: Job, event: CreateAbsent) -> bool:
    """A second list, the settle time or more after the first, does not show the server either."""
    request = open_request(job)
    return (
        request is not None
        and request.mark == event.mark
        and request.absent_since is not None
        and event.at >= request.absent_since + event.settle
    )
