"""Reads a failed call of an OpenStack service: its response, or what the network did to it.

The formats of responses: https://docs.openstack.org/api-guide/compute/faults.html (Nova), Keystone's
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

from lando.credentials import scrub
from lando.redaction import mask_blobs

MAX_MESSAGE = 300
"""Characters of a service's message that are passed on."""
MAX_RETRY_AFTER = 3600.0
"""Seconds; a Retry-After that is longer counts as this: with a wrong clock it may be years."""

MAX_ERROR = 1024 * 1024
"""Bytes; a larger response is not OpenStack's JSON."""
MAX_PAGE = 10_000
"""Bytes of a page in which its words are looked for."""

KEYSTONE_ERROR = "error"
"""The key of Keystone's errors, which is their ``error_name``."""

_TITLE = re.compile(r"<title>([^<]*)</title>", re.IGNORECASE)


class NotOpenStack(exceptions.ClientException):
    """A response without an error status that is not OpenStack's: a proxy's page, or a redirect to one."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


@dataclass(frozen=True)
class Failure:
    """A call that failed. Its text has everything that helps to find the cause."""

    message: str
    """The service's, or the network's."""
    status: int | None = None
    """Of HTTP; None without a response."""
    error_name: str | None = None
    """OpenStack's, such as ``itemNotFound``; None unless an OpenStack service sent the response."""
    call: str = ""
    """Method and URL."""
    sent: bool = True
    """Whether the service may have received the request."""
    at_login: bool = False
    """Whether the login failed, which comes before the call."""
    certificate_refused: bool = False
    """Whether the service's certificate was refused."""
    wrong_endpoint: bool = False
    """Whether the service is not where the settings and the catalog say."""
    login_refused: bool = False
    """Whether Keystone refused the credentials, in its own words."""
    retry_after: float | None = None
    """Seconds, more than 0 and at most MAX_RETRY_AFTER."""
    request_id: str | None = None
    note: str = ""
    """What follows from it, for the end of a message."""

    def __str__(self) -> str:
        status = "" if self.status is None else f"HTTP {self.status}: "
        details = [self.call] if self.call else []
        if self.request_id:
            details.append(f"request {self.request_id}")
        return f"{status}{self.message}" + (f" ({', '.join(details)})" if details else "")


def read(error: BaseException) -> Failure:
    """Read an exception of keystoneauth."""
    causes = tuple(_causes(error))
    failed = next((found for cause in causes if (found := _from_cause(cause)) is not None), None)
    if failed is None:
        failed = Failure(_short(str(error)), sent=False, wrong_endpoint=True)
    # A login begins with the discovery of Keystone's versions, which needs no token.
    at_discovery = any(isinstance(cause, exceptions.DiscoveryFailure) for cause in causes)
    return replace(
        failed,
        at_login=failed.at_login or at_discovery,
        wrong_endpoint=failed.wrong_endpoint or (at_discovery and failed.status in (401, 403)),
        login_refused=failed.at_login and _is_refusal(failed),
    )


def _is_refusal(failed: Failure) -> bool:
    """Whether Keystone itself refused the credentials: a proxy's page says nothing about them.

    To a deleted application credential it answers 404.
    """
    return failed.status in (401, 403, 404) and failed.error_name == KEYSTONE_ERROR


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that caused it: keystoneauth raises its own while it handles another one.

    The chain ends at the first exception of another kind: the whole call may have been made by the handler of
    an unrelated one.
    """
    cause: BaseException | None = error
    while isinstance(cause, (exceptions.ClientException, requests.RequestException)):
        yield cause
        cause = cause.__cause__ or cause.__context__


def _from_cause(cause: BaseException) -> Failure | None:
    failure = getattr(cause, "failure", None)
    if isinstance(failure, Failure):
        return failure  # of an earlier call, in place of which this one was not sent
    if isinstance(cause, requests.RequestException):
        return _from_exception(cause)
    response = getattr(cause, "response", None)
    if not isinstance(response, requests.Response):
        return None
    return replace(_from_response(response), wrong_endpoint=isinstance(cause, exceptions.InvalidResponse))


def _from_response(response: requests.Response) -> Failure:
    message, error_name = _message_and_name(response)
    headers = response.headers
    return Failure(
        message=message,
        status=response.status_code,
        error_name=error_name,
        call=f"{response.request.method} {_shown_url(response.url)}",
        at_login=_is_login(response.request.method, response.url),
        retry_after=_retry_after(headers.get("Retry-After"), headers.get("Date")),
        request_id=headers.get("x-openstack-request-id") or headers.get("x-compute-request-id"),
    )


def _message_and_name(response: requests.Response) -> tuple[str, str | None]:
    """The message of a response, and OpenStack's name for the error."""
    body = json_of(response)
    if body is None:
        return _message_of_page(response), None
    if isinstance(body, dict):
        for key, value in (*body.items(), ("", body)):
            if isinstance(value, dict) and isinstance(value.get("message"), str):
                # A message alone is a gateway's: the middleware of OpenStack gives it a title.
                error_name = value.get("type") or key or value.get("title")
                return _short(value["message"]), str(error_name) if error_name else None
            if key == "NeutronError" and isinstance(value, str):
                return _short(value), key
    return _short(_page(response)) or str(response.reason), None


def _message_of_page(response: requests.Response) -> str:
    content = response.headers.get("Content-Type", "no content type").partition(";")[0]
    if response.is_redirect:
        return f"a redirect to {_short(_shown_url(response.headers['Location']))}"
    page = _page(response)
    title = _TITLE.search(page)
    text = title[1] if title else re.sub("<[^<>]*>", " ", page)
    if not text.strip():
        return str(response.reason or "no message")
    return f"{_short(text)} ({content}, not JSON)"


def json_of(response: requests.Response) -> Any:
    """The JSON of a response; None if it is not JSON, or an error of more than MAX_ERROR bytes."""
    if not response.ok and len(response.content) > MAX_ERROR:
        return None
    try:
        return response.json()
    except (ValueError, RecursionError):
        return None


def _page(response: requests.Response) -> str:
    """The begin of a page; ``response.text`` would look through all of it for the character set."""
    page = response.content[:MAX_PAGE]
    try:
        return page.decode(response.encoding or "utf-8", errors="replace")
    except LookupError:  # the response names a character set that Python does not know
        return page.decode(errors="replace")


def _from_exception(error: requests.RequestException) -> Failure:
    """A call without a response."""
    reason = _root_cause(error)
    request = error.request
    url = str(request.url) if request is not None else None
    certificate = isinstance(reason, ssl.SSLCertVerificationError)
    # The exceptions of requests for an invalid URL are ValueErrors.
    wrong_endpoint = _is_without_tls(reason) or isinstance(error, ValueError)
    unconnected = isinstance(error, requests.ConnectTimeout) or isinstance(reason, urllib3.NewConnectionError)
    return Failure(
        message=_exception_message(error, reason),
        call=f"{request.method} {_shown_url(url)}" if request is not None else "",
        sent=not (unconnected or certificate or wrong_endpoint),
        at_login=request is not None and _is_login(request.method, url),
        certificate_refused=certificate,
        wrong_endpoint=wrong_endpoint,
    )


def _is_without_tls(reason: BaseException) -> bool:
    return isinstance(reason, ssl.SSLError) and reason.reason == "WRONG_VERSION_NUMBER"


def _exception_message(error: requests.RequestException, reason: BaseException) -> str:
    if _is_without_tls(reason):
        return "the port does not use TLS; should the address begin with http://?"
    if isinstance(error, requests.ConnectTimeout):
        return "timed out while connecting"
    if isinstance(error, requests.Timeout):
        return "timed out while waiting for the answer"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate is refused: {reason.verify_message}"
    # The messages of urllib3 begin with the repr of the connection.
    message = _short(re.sub(r"^(\w+\(.*?\)|<.*?>): ", "", str(reason)))
    if isinstance(error, requests.exceptions.ProxyError):
        return f"the proxy that http_proxy or https_proxy in the environment names: {message}"
    return message


def _root_cause(error: BaseException) -> BaseException:
    """The exception inside of those of requests and urllib3."""
    inner = getattr(error, "reason", None)
    if not isinstance(inner, BaseException):
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
    if inner is None or isinstance(error, urllib3.NewConnectionError):
        return error
    return _root_cause(inner)


def _is_login(method: str | None, url: str | None) -> bool:
    return method == "POST" and "/auth/tokens" in (url or "")


def _shown_url(url: str | None) -> str:
    """The URL without its query and credentials, which must not be logged."""
    return re.sub(r"//[^/@]*@", "//", (url or "").partition("?")[0])


def without_secrets(text: str) -> str:
    """A text of a service, or a console log: either may quote a server's user data, or a request."""
    return mask_blobs(scrub(text))


def _short(text: str) -> str:
    line = " ".join(without_secrets(text[: 10 * MAX_MESSAGE]).split())  # before it is cut
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + "…"


def _retry_after(retry_after: str | None, date: str | None) -> float | None:
    """Retry-After in seconds; None if it says nothing about when to come back.

    It may be a date (RFC 9110, 10.2.3), by the clock of the sender's Date. Cinder sends 0.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text):
        seconds = float(text)
    else:
        until, now = _timestamp(text), _timestamp(date or "")
        if until is None:
            return None
        seconds = until - (time.time() if now is None else now)
    return min(MAX_RETRY_AFTER, seconds) if seconds > 0 else None


def _timestamp(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
