"""Carries out operations in the cloud: one try each; errors are returned as results.

Calls that can be repeated without harm (list, delete, get, console) are repeated a little within the try. A
create never is: it may have made a server although its answer was lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lando.cloud.interface import (
    Ambiguous,
    Cloud,
    CloudError,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    ServerRequest,
    Unreachable,
)
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    CreateRejected,
    DeleteServers,
    FetchConsole,
    FindServers,
    Gone,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
    StillExists,
    Trouble,
)
from lando.errors import LandoError, UsageError
from lando.failpoints import reach
from lando.states.events import RefusalKind

log = logging.getLogger("lando.daemon.effects")

T = TypeVar("T")

_REFUSALS: tuple[tuple[type[CloudError], RefusalKind], ...] = (
    (QuotaExceeded, "quota"),
    (RateLimited, "rate_limit"),
    (NoCapacity, "capacity"),
    (Unreachable, "unreachable"),
)


class Effects:
    """The handlers, one for each kind of operation. May be called from several threads.

    Args:
        cloud: the driver.
        deployment: the mark that all our servers carry.
        request: makes the create request of a job; raises UsageError if the job cannot be started, another
            LandoError if no job can be.
    """

    def __init__(
        self, cloud: Cloud, deployment: str, request: Callable[[SendCreate, str], ServerRequest]
    ) -> None:
        self._cloud = cloud
        self._deployment = deployment
        self._request = request
        self._repeat = Retrying(
            retry=retry_if_exception_type((Unreachable, Ambiguous)),
            stop=stop_after_attempt(3),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        )

    def carry_out(self, operation: Operation) -> OperationResult:
        """Try once; an error is a result, too."""
        try:
            if isinstance(operation, SendCreate):
                return self._create(operation)
            if isinstance(operation, FindServers):
                return self._find(operation.mark)
            if isinstance(operation, AttachFloatingIp):
                return self._attach(operation)
            if isinstance(operation, DeleteServers):
                return self._delete(operation)
            return self._console(operation)
        except CloudError as error:
            return Trouble(str(error), error.retry_after)
        except Exception as error:
            log.exception("a cloud driver raised an unexpected error; this is a bug in lando-fsm")
            return Trouble(f"{type(error).__name__}: {error}")

    def _create(self, operation: SendCreate) -> OperationResult:
        try:
            request = self._request(operation, self._deployment)
        except UsageError as error:
            return CreateRejected("job", str(error), sent=False)
        except LandoError as error:
            return CreateRejected("site", str(error), sent=False)
        try:
            server = self._cloud.create(request)
        except Refused as error:
            return CreateRejected(error.origin, str(error), account_wide=error.account_wide)
        except Exception as error:
            for refusal, kind in _REFUSALS:
                if isinstance(error, refusal):
                    sent = error.sent if isinstance(error, Unreachable) else True
                    return CreateRejected(kind, str(error), error.retry_after, sent)
            log.warning("server %s: the answer to its create was lost: %s", request.name, error)
            return AnswerLost(str(error))
        reach("create-answered")
        return Created(server.id)

    def _find(self, mark: str) -> OperationResult:
        servers = self._repeated(self._cloud.servers)
        return Listed(tuple(server.id for server in servers if server.mark == mark))

    def _attach(self, operation: AttachFloatingIp) -> OperationResult:
        pool = self._cloud.floating_ips
        assert pool is not None
        return Attached(
            self._repeated(partial(pool.attach, operation.server_id, operation.mark, self._deployment))
        )

    def _delete(self, operation: DeleteServers) -> OperationResult:
        absent, troubles = [], []
        for server in operation.servers:
            try:
                absent.append(self._repeated(partial(self._cloud.delete, server)))
            except CloudError as error:
                troubles.append(error)  # the others are deleted all the same
        reach("deleted")
        if troubles:
            raise troubles[0]
        if not all(absent):
            return StillExists()
        if operation.floating_ip is not None and self._cloud.floating_ips is not None:
            self._repeated(partial(self._cloud.floating_ips.release, operation.floating_ip))
        return Gone()

    def _console(self, operation: FetchConsole) -> OperationResult:
        return Console(self._repeated(partial(self._cloud.console_log, operation.server_id)))

    def _repeated(self, call: Callable[[], T]) -> T:
        return self._repeat.copy()(call)
