"""What a failed call means: read off the answer, or off the lack of one, and told in a sentence.

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

from lando.cloud.interface import (
    Ambiguous,
    CloudError,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    ServerRequest,
    Unreachable,
)
from lando.cloud.nova.account import Account

LONGEST_WORDS = 300
"""Characters of the cloud's words that are passed on."""
LONGEST_WAIT = 3600.0
"""Seconds of a Retry-After that are believed; a clock that is wrong may ask for years."""

_QUOTA = re.compile(r"quota|limit exceeded|over (?:a |the )?limit|maximum number of", re.IGNORECASE)
_NO_ROOM = re.compile(r"no valid host was found|quota exceeded", re.IGNORECASE)
_QUOTA_SUMS = re.compile(r"Requested ([\d, ]+), but already used ([\d, ]+) of ([\d, ]+?) ([a-z_, ]+)")
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


# what it means


def lacks_room(fault: str) -> bool:
    """Whether the fault of a server in ERROR says that there was no room for it, just now.

    Nova's scheduler finds no host; or the quota, checked once more when the server has a place, is used up by
    others that were created at the same time.
    """
    return _NO_ROOM.search(fault) is not None


def of_call(failed: Failure, doing: str, account: Account) -> CloudError:
    """The error for a call that may be repeated without harm, or for a login."""
    told = f"{doing}: {failed}"
    if failed.logging_in:
        return _of_login(failed, doing, account)
    if failed.certificate:
        return Refused(f"{told}; renew it, or give the authority's as cacert in {account.where}", "site")
    if failed.misdirected:
        return Refused(f"{told}; check auth_url, the region and the interface in {account.where}", "site")
    if not failed.sent:
        return Unreachable(told)
    return _of_status(failed, told, account)


def _of_login(failed: Failure, doing: str, account: Account) -> CloudError:
    told = f"{doing}: logging in as {account.who}: {failed}"
    if failed.certificate:
        return Refused(f"{told}; renew it, or give the authority's as cacert in {account.where}", "site")
    if failed.status in (413, 429):
        return RateLimited(told, failed.retry_after)
    if failed.status in (401, 403):
        return Refused(f"{told}; check user, password, project and domains in {account.where}", "site")
    if failed.misdirected or failed.status in (400, 404, 405):
        return Refused(f"{told}; check auth_url ({account.auth_url}) in {account.where}", "site")
    return Unreachable(told, failed.retry_after)


def _of_status(failed: Failure, told: str, account: Account) -> CloudError:
    status = failed.status
    if status in (413, 429):
        return RateLimited(told, failed.retry_after)
    if status == 503:
        return Unreachable(told, failed.retry_after)
    if status == 401:
        return Refused(f"{told}; the cloud refuses even a new token of {account.who}", "site")
    if status == 406 and failed.kind:
        return Refused(f"{told}; the cloud is too old for lando-fsm", "site")
    if failed.kind and (status == 403 or failed.kind == "OverQuota"):
        if _QUOTA.search(failed.words):
            return QuotaExceeded(told, failed.retry_after)
        return Refused(f"{told}; give {account.who} the right, as by the role member", "site")
    if failed.kind in ("IpAddressGenerationFailure", "ExternalIpAddressExhausted"):
        return NoCapacity(told)
    if failed.kind and status == 409:
        return CloudError(told)  # definite, but only for as long as the server is busy
    if failed.kind and status in (400, 404):
        return Refused(told, "site")
    if status is not None and status < 400:  # a page, as of a proxy or a portal in between
        told = (
            f"{told}; that is not OpenStack: check auth_url, the region and the interface in {account.where}"
        )
    return Ambiguous(told, failed.retry_after)


def of_create(
    failed: Failure, doing: str, account: Account, request: ServerRequest, posted: bool
) -> CloudError:
    """The error for the create of a server.

    Args:
        posted: whether the create itself was tried to be sent.
    """
    told = f"{doing}: {failed}"
    if not posted or not failed.sent or failed.logging_in:
        error = of_call(failed, doing, account)
        return nothing_sent(error) if isinstance(error, Ambiguous) else error
    if failed.status in (401, 406, 413, 429, 503):
        return _of_status(failed, told, account)
    if failed.kind and failed.status == 403 and _QUOTA.search(failed.words):
        return _of_quota(failed, told, request)
    if failed.kind and failed.status in (400, 403, 404):
        return _of_request(failed, told, account, request)
    if failed.kind and failed.status == 409 and "network" in failed.words.lower():
        return Refused(f"{told}; name one as vm_settings.network_name in landoconfig.yml", "site")
    return Ambiguous(told, failed.retry_after)


def _of_quota(failed: Failure, told: str, request: ServerRequest) -> CloudError:
    """A quota that is used up is waited for; one that is smaller than the server itself never will do.

    Nova's words are "Quota exceeded for cores, ram: Requested 4, 8192, but already used 2, 512 of 2, 4096
    cores, ram"; others name no figures, and are waited for.
    """
    sums = _QUOTA_SUMS.search(failed.words)
    if sums is None:
        return QuotaExceeded(told, failed.retry_after)
    requested, _, allowed = ([int(number) for number in sums[i].split(",")] for i in (1, 2, 3))
    if all(wanted <= most for wanted, most in zip(requested, allowed, strict=False)):
        return QuotaExceeded(told, failed.retry_after)
    if not any(allowed):
        return Refused(f"{told}; the project has no quota of {sums[4].strip()}: ask for one", "site")
    setting = _FLAVOR[0] if request.flavor else _FLAVOR[1]
    return Refused(
        f"{told}; it is larger than the project's whole quota: name a smaller one as {setting}, "
        "or ask for a larger quota",
        "job" if request.flavor else "site",
    )


_FLAVOR = ("flavor in the job file", "vm_settings.default_flavor_name in landoconfig.yml")
_IMAGE = ("image in the job file", "vm_settings.worker_image_name in landoconfig.yml")
_VOLUME = (
    "volume_size in the job file",
    "vm_settings.volume_size or vm_settings.default_flavor_name in landoconfig.yml",
)

_OF_SITE = (
    (r"key_?name|key ?pair", "ssh_key_name"),
    (r"\b(network|subnet|port)s?\b", "network_name"),
    (r"security.group", "security_groups"),
    (r"availability.zone", "availability_zone"),
)


def _of_request(failed: Failure, told: str, account: Account, request: ServerRequest) -> CloudError:
    """Who named what Nova's words are about, and where."""
    words = failed.words
    choices = (
        (r"volume|block.device", request.volume_size, _VOLUME),
        (r"flavor|disk", request.flavor, _FLAVOR),
        (r"image", request.image, _IMAGE),
    )
    about = [choice for choice in choices if re.search(choice[0], words, re.IGNORECASE)]
    for _, given, settings in about:
        if given:
            return Refused(f"{told}; mend {settings[0]}", "job")
    for pattern, setting in _OF_SITE:
        if re.search(pattern, words, re.IGNORECASE):
            return Refused(f"{told}; mend vm_settings.{setting} in landoconfig.yml", "site")
    if about:
        return Refused(f"{told}; mend {about[0][2][1]}", "site")
    wishes = [settings[0] for _, given, settings in choices if given]
    if wishes and failed.status == 400:
        # Nobody can tell, but it is this job that differs: it must not hold all others.
        return Refused(f"{told}; mend {' or '.join(wishes)}", "job")
    return _of_status(failed, told, account)


def nothing_sent(error: Ambiguous) -> Unreachable:
    """The error of a call before the create, for the create: that one was never sent."""
    return Unreachable(str(error), error.retry_after)
