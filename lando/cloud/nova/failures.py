"""A call that failed: what is read off its answer, or off the lack of one.

The shapes of the answers: https://docs.openstack.org/api-guide/compute/faults.html (Nova), Keystone's
``{"error": {…}}``, and ``{"NeutronError": {"type": …}}``.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from keystoneauth1 import exceptions
from urllib3 import exceptions as urllib3

LONGEST_WORDS = 300
"""Characters of the cloud's words that are passed on."""
LONGEST_WAIT = 3600.0
"""Seconds of a Retry-After that are believed; a clock that is wrong may ask for years."""

_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class NotOpenStack(exceptions.ClientException):
    """An answer of success that no service of OpenStack gave: a proxy's page, or a redirect to one."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


@dataclass(frozen=True)
class Failure:
    """A call that failed."""

    words: str
    """The cloud's, or the network's."""
    status: int | None = None
    """HTTP's; None where there was no answer."""
    kind: str | None = None
    """OpenStack's name for it, as ``itemNotFound``; None unless one of its services gave the answer."""
    call: str = ""
    """Method and address."""
    sent: bool = True
    """Whether the service may have received the request."""
    logging_in: bool = False
    """Whether it was the login, before the call itself."""
    certificate: bool = False
    """Whether the service's certificate was refused."""
    misdirected: bool = False
    """Whether there is no such service, as far as the settings and the catalog say."""
    retry_after: float | None = None
    request_id: str | None = None

    def __str__(self) -> str:
        about = ", ".join(
            part for part in (self.call, self.request_id and f"request {self.request_id}") if part
        )
        answered = "" if self.status is None else f"HTTP {self.status}: "
        return f"{answered}{self.words}" + (f" ({about})" if about else "")


def failure(error: BaseException) -> Failure:
    """Read an exception of keystoneauth."""
    causes = tuple(_causes(error))
    failed = next((found for cause in causes if (found := _of_cause(cause)) is not None), None)
    if failed is None:
        failed = Failure(_short(str(error)), sent=False, misdirected=True)
    # Asking Keystone for its versions is the first step of a login.
    discovering = any(isinstance(cause, exceptions.DiscoveryFailure) for cause in causes)
    return replace(failed, logging_in=failed.logging_in or discovering)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it stands for: keystoneauth raises its own while another one is handled.

    No further: the whole call may have been made while our caller handled what happened to another one.
    """
    cause: BaseException | None = error
    while isinstance(cause, (exceptions.ClientException, requests.RequestException)):
        yield cause
        cause = cause.__cause__ or cause.__context__


def _of_cause(cause: BaseException) -> Failure | None:
    if isinstance(cause, requests.RequestException):
        return _of_connection(cause)
    response = getattr(cause, "response", None)
    if not isinstance(response, requests.Response):
        return None
    return replace(_of_response(response), misdirected=isinstance(cause, exceptions.InvalidResponse))


def _of_response(response: requests.Response) -> Failure:
    words, kind = _words(response)
    headers = response.headers
    return Failure(
        words=words,
        status=response.status_code,
        kind=kind,
        call=f"{response.request.method} {_address(response.url)}",
        logging_in=_is_login(response.url),
        retry_after=_seconds(headers.get("Retry-After"), headers.get("Date")),
        request_id=headers.get("x-openstack-request-id") or headers.get("x-compute-request-id"),
    )


def _words(response: requests.Response) -> tuple[str, str | None]:
    """The words of an answer, and OpenStack's name for what is wrong."""
    body = json_of(response)
    if body is None:
        return _words_of_page(response), None
    if isinstance(body, dict):
        for key, value in (*body.items(), ("", body)):
            if isinstance(value, dict) and isinstance(value.get("message"), str):
                kind = value.get("type") or key or value.get("title") or "fault"
                return _short(value["message"]), str(kind)
            if key == "NeutronError" and isinstance(value, str):
                return _short(value), key
    return _short(response.text) or str(response.reason), None


def _words_of_page(response: requests.Response) -> str:
    content = response.headers.get("Content-Type", "no content type").partition(";")[0]
    if response.is_redirect:
        return f"a redirect to {_address(response.headers['Location'])}"
    title = _TITLE.search(response.text[:10_000])
    text = title[1] if title else re.sub("<[^>]*>", " ", response.text[:10_000])
    if not text.strip():
        return str(response.reason or "no words")
    return f"{_short(text)} ({content}, not JSON)"


def json_of(response: requests.Response) -> Any:
    """The JSON of an answer; None where there is none."""
    try:
        return response.json()
    except ValueError:
        return None


def _of_connection(error: requests.RequestException) -> Failure:
    """What the network did to a call."""
    reason = _reason(error)
    request = error.request
    url = str(request.url) if request is not None else None
    certificate = isinstance(reason, ssl.SSLCertVerificationError)
    # requests has it as a ValueError when an address is none.
    misdirected = _speaks_no_tls(reason) or isinstance(error, ValueError)
    unconnected = isinstance(error, requests.ConnectTimeout) or isinstance(reason, urllib3.NewConnectionError)
    return Failure(
        words=_told(error, reason),
        call=f"{request.method} {_address(url)}" if request is not None else "",
        sent=not (unconnected or certificate or misdirected),
        logging_in=_is_login(url),
        certificate=certificate,
        misdirected=misdirected,
    )


def _speaks_no_tls(reason: BaseException) -> bool:
    return isinstance(reason, ssl.SSLError) and reason.reason == "WRONG_VERSION_NUMBER"


def _told(error: requests.RequestException, reason: BaseException) -> str:
    if _speaks_no_tls(reason):
        return "the port does not speak TLS; is it http:// rather than https://?"
    if isinstance(error, requests.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {reason.verify_message}"
    # urllib3 puts the connection's repr before what it has to say.
    return _short(re.sub(r"^(\w+\(.*?\)|<.*?>): ", "", str(reason)))


def _reason(error: BaseException) -> BaseException:
    """Why, below the wrappings of requests and urllib3."""
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    if inner is None or isinstance(error, urllib3.NewConnectionError):
        return error
    return _reason(inner)


def _is_login(url: str | None) -> bool:
    return "/auth/tokens" in (url or "")


def _address(url: str | None) -> str:
    """An address that may be shown: without query and credentials."""
    return re.sub(r"//[^/@]*@", "//", (url or "").partition("?")[0])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_WORDS else line[:LONGEST_WORDS] + "…"


def _seconds(retry_after: str | None, date: str | None) -> float | None:
    """Retry-After in seconds; it may be a date (RFC 9110, 10.2.3), by the clock of who sent it."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return min(LONGEST_WAIT, float(retry_after))
    try:
        until = parsedate_to_datetime(retry_after).timestamp()
        now = parsedate_to_datetime(date).timestamp() if date else time.time()
    except ValueError:
        return None
    return min(LONGEST_WAIT, max(0.0, until - now))
