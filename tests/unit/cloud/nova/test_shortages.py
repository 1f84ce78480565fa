"""Every message about something that is used up makes jobs wait, wherever Nova puts it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lando.cloud.interface import CloudError, NoCapacity, QuotaExceeded, Refused, ServerRequest
from lando.cloud.nova import classify, shortages
from lando.cloud.nova.account import Account
from lando.cloud.nova.failures import Failure
from lando.cloud.nova.shortages import SHORTAGES, Shortage

ACCOUNT = Account("cloud_settings", "password", {"auth_url": "http://cloud", "username": "lando"})
ID = "6b3d4a8e-1111-4222-8333-94f6b3c2d1a0"


def said(shortage: Shortage) -> str:
    """The message as a service sends it."""
    return re.sub(r"%\(\w+\)d", "10", re.sub(r"%\(\w+\)s", ID, shortage.message))


def refused(status: int, message: str, error_name: str | None = "forbidden", **wishes: Any) -> CloudError:
    request = ServerRequest("lando-1", "mark", "tests", "job", 1, b"", **wishes)
    failed = Failure(message, status, error_name, sent=True)
    return classify.create_error(failed, "creating", ACCOUNT, request, posted=True)


@pytest.mark.parametrize("shortage", SHORTAGES, ids=lambda shortage: shortage.source.rpartition("/")[2])
def test_a_shortage_is_recognized_and_nothing_else_claims_it(shortage: Shortage) -> None:
    message = said(shortage)
    assert shortages.find(message) is shortage
    for fault in (
        message,
        f"Build of instance {ID} aborted: {message}",
        f"Build of instance {ID} aborted: Failed: {message.upper()} (HTTP 413) (Request-ID: req-1)",
        f"Exceeded maximum number of retries. Exceeded max scheduling attempts 3 for instance {ID}. "
        f"Last exception: {message}",
    ):
        assert classify.is_no_capacity(fault), fault
    kind = QuotaExceeded if shortage.kind == "quota" else NoCapacity
    for status in (400, 403, 409):
        assert type(refused(status, message)) is kind


@pytest.mark.parametrize("shortage", SHORTAGES, ids=lambda shortage: shortage.source.rpartition("/")[2])
def test_a_page_of_a_proxy_with_the_same_words_is_not_definite(shortage: Shortage) -> None:
    error = refused(403, said(shortage), error_name=None)
    assert not isinstance(error, (QuotaExceeded, NoCapacity))


def test_every_message_is_there_once_with_its_source() -> None:
    assert len({each.message for each in SHORTAGES}) == len(SHORTAGES)
    assert all(each.source.startswith("https://opendev.org/openstack/") for each in SHORTAGES)


@pytest.mark.parametrize(
    "fault",
    [
        "Requested volume size 500G is larger than maximum allowed limit 100G.",
        "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. "
        "Requested 500G, quota is 100G and 0G has been consumed.",
        "Project p is over a limit for [Resource servers is over limit of 0 due to current usage 0 and "
        "delta 1]",
        "Volume v did not finish being created even after we waited 3 seconds or 2 attempts. And its status "
        "is error.",
        "Build of instance i aborted: publicURL endpoint for volumev3 service not found",
        "Exceeded maximum number of retries. Exhausted all hosts available for retrying build failures.",
        "Flavor's disk is too small for requested image.",
        "",
    ],
)
def test_what_does_not_pass_is_no_shortage(fault: str) -> None:
    assert not classify.is_no_capacity(fault)


def test_a_quota_of_metadata_that_no_server_fits_into_is_the_sites() -> None:
    error = refused(403, "Maximum number of metadata items exceeds 3")
    assert isinstance(error, Refused)
    assert error.origin == "site" and "at least 4 metadata items" in str(error)


def test_a_server_larger_than_the_whole_unified_limit_is_refused_and_does_not_wait() -> None:
    limits = "[Resource class:VCPU is over limit of 2 due to current usage 0 and delta 4]"
    error = refused(403, f"Project p is over a limit for {limits}")
    assert isinstance(error, Refused)
    assert "larger than the project's whole quota" in str(error)
    assert type(refused(403, f"Project p is over a limit for {limits.replace('2', '8')}")) is QuotaExceeded


@pytest.mark.parametrize(
    ("wishes", "origin", "setting"),
    [
        ({"volume_size": 500}, "job", "volume_size in the job file"),
        ({"volume_size": 500, "flavor": "m1.large"}, "job", "volume_size in the job file"),
        ({"flavor": "m1.large"}, "site", "vm_settings.volume_size in landoconfig.yml"),
        ({}, "site", "vm_settings.volume_size in landoconfig.yml"),
    ],
)
def test_a_volume_larger_than_the_whole_quota_names_the_size_and_who_chose_it(
    wishes: dict[str, Any], origin: str, setting: str
) -> None:
    message = (
        "Requested volume or snapshot exceeds allowed gigabytes quota. Requested 500G, quota is {}G and "
    )
    error = refused(403, message.format(100) + "0G has been consumed.", **wishes)
    assert isinstance(error, Refused)
    assert error.origin == origin
    assert f"choose a smaller volume_size ({setting})" in str(error) and "flavor" not in str(error)
    assert type(refused(403, message.format(800) + "400G has been consumed.", **wishes)) is QuotaExceeded


def test_words_of_a_quota_that_are_not_known_count_as_used_up() -> None:
    assert type(refused(403, "Instance limit exceeded for this tenant")) is QuotaExceeded
