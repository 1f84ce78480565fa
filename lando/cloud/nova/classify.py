"""Which CloudError a failed call is, with a message that says what to do."""

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
from lando.cloud.nova import shortages
from lando.cloud.nova.account import Account
from lando.cloud.nova.failures import Failure
from lando.cloud.nova.tags import METADATA_ITEMS

_QUOTA = re.compile(r"quota|limit exceeded|over (?:a |the )?limit|maximum number of", re.IGNORECASE)
"""Words of quotas; ``shortages`` has the messages that are known."""
_METADATA = re.compile(r"number of metadata items exceeds", re.IGNORECASE)
_QUOTA_FIGURES = re.compile(r"Requested ([\d, ]+), but already used ([\d, ]+) of ([\d, ]+?) ([a-z_, ]+)")

# Where a thing is set: in the job file, and in the configuration.
_FLAVOR = ("flavor in the job file", "vm_settings.default_flavor_name in landoconfig.yml")
_IMAGE = ("image in the job file", "vm_settings.worker_image_name in landoconfig.yml")
_VOLUME = (
    "volume_size in the job file",
    "vm_settings.volume_size or vm_settings.default_flavor_name in landoconfig.yml",
)

_SITE_SETTINGS = (
    (r"key_?name|key ?pair", "ssh_key_name"),
    (r"\b(network|subnet|port)s?\b", "network_name"),
    (r"security.group", "security_groups"),
    (r"availability.zone", "availability_zone"),
)
"""Patterns of Nova's messages, and the settings of ``vm_settings`` that these are about."""


_CONFLICTS = (
    (r"security.group", "correct vm_settings.security_groups (an id is accepted, too)"),
    (r"network", "set vm_settings.network_name"),
)
"""Patterns of Nova's messages with status 409, and what to do."""


def is_no_capacity(fault: str) -> bool:
    """Whether a server is in ERROR because something was used up at that time.

    Quotas are among that: Nova checks its own again once it has chosen a host, and Cinder's and Neutron's
    show only when a server is built.
    """
    return shortages.find(fault) is not None


def call_error(failed: Failure, action: str, account: Account) -> CloudError:
    """The error of a call that may be repeated without harm, or of the login before a call.

    Args:
        action: begins the message, as in ``listing servers``.
    """
    if failed.at_login:
        action = f"{action}: logging in as {account.who}"
    message = f"{action}: {failed}"
    if failed.certificate_refused:
        return Refused(
            f"{message}; renew it, or set cacert in {account.where} to the certificate of its authority",
            "site",
            account_wide=True,
        )
    if failed.at_login:
        return _login_error(failed, message, account)
    if failed.wrong_endpoint:
        return Refused(f"{message}; {_check_endpoint(account)}", "site", account_wide=True)
    if not failed.sent:
        return Unreachable(message)
    return _status_error(failed, message, account)


def _check_endpoint(account: Account) -> str:
    return f"check auth_url, the region and the interface in {account.where}"


def _login_error(failed: Failure, message: str, account: Account) -> CloudError:
    if failed.status in (413, 429):
        return RateLimited(message, failed.retry_after)
    note = f"; {failed.note}" if failed.note else ""
    if failed.login_refused:
        return Refused(
            f"{message}; check user, password, project and domains in {account.where}{note}",
            "site",
            account_wide=True,
        )
    if failed.wrong_endpoint or failed.status in (400, 404, 405):
        said = f"{message}; check auth_url ({account.auth_url}) in {account.where}"
        return Refused(said, "site", account_wide=True)
    return Unreachable(message, failed.retry_after)


def _status_error(failed: Failure, message: str, account: Account) -> CloudError:
    """The error that follows from the status and the name of an error that a service answered."""
    status = failed.status
    if status in (413, 429):
        return RateLimited(message, failed.retry_after)
    if status == 503:
        return Unreachable(message, failed.retry_after)
    if status == 401:
        said = f"{message}; the cloud refuses even a new token of {account.who}"
        return Refused(said, "site", account_wide=True)
    if status == 406 and failed.error_name:
        return Refused(f"{message}; the cloud is too old for lando-fsm", "site", account_wide=True)
    if failed.error_name and (status == 403 or failed.error_name == "OverQuota"):
        if _QUOTA.search(failed.message):
            return QuotaExceeded(message, failed.retry_after)
        return Refused(
            f"{message}; give {account.who} the right to do this, for example by the role member", "site"
        )
    if failed.error_name in ("IpAddressGenerationFailure", "ExternalIpAddressExhausted"):
        return NoCapacity(message)
    if failed.error_name and status == 409:
        return CloudError(message)  # definite, but only for as long as the server is busy
    if failed.error_name and status in (400, 404):
        return Refused(message, "site")
    if status is not None and status < 400:  # the page of a proxy or a login portal
        message = f"{message}; that is not OpenStack: {_check_endpoint(account)}"
    return Ambiguous(message, failed.retry_after)


def create_error(
    failed: Failure, action: str, account: Account, request: ServerRequest, posted: bool
) -> CloudError:
    """The error of the creation of a server.

    Args:
        action: begins the message.
        request: what was to be created.
        posted: whether the create request was sent; if not, a call before it failed.
    """
    if not posted or not failed.sent or failed.at_login:
        error = call_error(failed, action, account)
        return not_sent(error) if isinstance(error, Ambiguous) else error
    message = f"{action}: {failed}"
    if failed.error_name and failed.status == 503:  # a proxy's may follow a create that went through
        return Unreachable(message, failed.retry_after, sent=True)
    if failed.status in (401, 406, 413, 429):
        return _status_error(failed, message, account)
    if failed.error_name and failed.status in (400, 403, 409):
        shortage = shortages.find(failed.message)
        if shortage is not None and shortage.kind == "capacity":
            return NoCapacity(message, failed.retry_after)
        if shortage is not None or (failed.status == 403 and _QUOTA.search(failed.message)):
            return _quota_error(failed, message, request)
    if failed.error_name and failed.status in (400, 403, 404):
        return _request_error(failed, message, account, request)
    if failed.error_name and failed.status == 409:
        # A name that several groups have, and no name where there are several networks.
        for pattern, setting in _CONFLICTS:
            if re.search(pattern, failed.message, re.IGNORECASE):
                return Refused(f"{message}; {setting} in landoconfig.yml", "site")
    return Ambiguous(message, failed.retry_after)


def unexpected_answer(action: str, error: Exception) -> Ambiguous:
    """The error of an answer that could not be read, as when a key is missing.

    Args:
        action: begins the message.
    """
    if isinstance(error, KeyError):
        return Ambiguous(f"{action}: the answer is not as expected: it has no {error.args[0]!r}")
    return Ambiguous(f"{action}: the answer is not as expected: {error}")


def not_sent(error: Ambiguous) -> Unreachable:
    """The same error for a create request that was not sent, because a call before it failed."""
    return Unreachable(str(error), error.retry_after)


def _quota_error(failed: Failure, message: str, request: ServerRequest) -> CloudError:
    """The quota is used up, which passes, or it is smaller than what one server needs, which does not.

    Nova's message is "Quota exceeded for cores, ram: Requested 4, 8192, but already used 2, 512 of 2, 4096
    cores, ram". A message without these figures counts as a quota that is used up.
    """
    if _METADATA.search(failed.message):
        return Refused(f"{message}; request a quota of at least {METADATA_ITEMS} metadata items", "site")
    if shortages.volume_never_fits(failed.message):
        setting = _VOLUME[0] if request.volume_size else "vm_settings.volume_size in landoconfig.yml"
        return Refused(
            f"{message}; the volume is larger than the project's whole quota: choose a smaller volume_size "
            f"({setting}), or request a larger quota",
            "job" if request.volume_size else "site",
        )
    setting = _FLAVOR[0] if request.flavor else _FLAVOR[1]
    too_large = Refused(
        f"{message}; the server is larger than the project's whole quota: choose a smaller flavor "
        f"({setting}), or request a larger quota",
        "job" if request.flavor else "site",
    )
    figures = _QUOTA_FIGURES.search(failed.message)
    if figures is None:
        fits = not shortages.never_fits(failed.message)
        return QuotaExceeded(message, failed.retry_after) if fits else too_large
    requested, _, allowed = ([int(number) for number in figures[i].split(",")] for i in (1, 2, 3))
    if all(size <= limit for size, limit in zip(requested, allowed, strict=False)):
        return QuotaExceeded(message, failed.retry_after)
    if not any(allowed):
        return Refused(f"{message}; the project has no quota of {figures[4].strip()}: request one", "site")
    return too_large


def _request_error(failed: Failure, message: str, account: Account, request: ServerRequest) -> CloudError:
    """Nova refused the request: which setting its message is about, and who made it."""
    choices = (
        (r"volume|block.device", request.volume_size, _VOLUME),
        (r"flavor|disk", request.flavor, _FLAVOR),
        (r"image", request.image, _IMAGE),
    )
    about = [choice for choice in choices if re.search(choice[0], failed.message, re.IGNORECASE)]
    for _, of_job, settings in about:
        if of_job:
            return Refused(f"{message}; correct {settings[0]}", "job")
    for pattern, setting in _SITE_SETTINGS:
        if re.search(pattern, failed.message, re.IGNORECASE):
            return Refused(f"{message}; correct vm_settings.{setting} in landoconfig.yml", "site")
    if about:
        return Refused(f"{message}; correct {about[0][2][1]}", "site")
    job_settings = [settings[0] for _, of_job, settings in choices if of_job]
    if job_settings and failed.status == 400:
        # Unclear; but this job differs from the others, which must not wait because of it.
        return Refused(f"{message}; correct {' or '.join(job_settings)}", "job")
    return _status_error(failed, message, account)
