"""What a failed call means: its CloudError, with a message that says what to do."""

from __future__ import annotations

import re

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
from lando.cloud.nova.failures import Failure

_QUOTA = re.compile(r"quota|limit exceeded|over (?:a |the )?limit|maximum number of", re.IGNORECASE)
_NO_ROOM = re.compile(r"no valid host was found|quota exceeded", re.IGNORECASE)
_QUOTA_SUMS = re.compile(r"Requested ([\d, ]+), but already used ([\d, ]+) of ([\d, ]+?) ([a-z_, ]+)")


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
