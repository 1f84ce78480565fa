"""What a failed call's headers say."""

from __future__ import annotations

import io
import time
from email.utils import formatdate

import pytest
import requests
from keystoneauth1 import exceptions

from lando.cloud.nova import failures

NOON = 1_700_000_000.0


def retry_after(value: str, date: str | None = None) -> float | None:
    response = requests.Response()
    response.status_code, response.url = 429, "http://cloud/v2.1/servers"
    response.request = requests.Request("POST", response.url).prepare()
    response.raw = io.BytesIO(b"")
    response.headers["Retry-After"] = value
    if date is not None:
        response.headers["Date"] = date
    return failures.read(exceptions.from_response(response, "POST", response.url)).retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("2.5", 2.5),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("9" * 400, 3600.0),
        ("9" * 5000, 3600.0),
        ("0", None),
        ("-5", None),
        ("", None),
        ("soon", None),
        ("²", None),
        ("1e9", None),
        ("NaN", None),
        ("inf", None),
        ("120, 120", None),
        ("Thu, 99 Foo 2026 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
    ],
)
def test_retry_after_in_seconds_is_bounded_and_nonsense_is_ignored(value: str, seconds: float | None) -> None:
    found = retry_after(value)
    assert found == seconds or (found == 3600.0 and "9999" in value)


def test_retry_after_as_a_date_is_by_the_senders_clock() -> None:
    assert retry_after(formatdate(NOON + 90, usegmt=True), formatdate(NOON, usegmt=True)) == 90.0
    assert retry_after(formatdate(NOON + 1e7, usegmt=True), formatdate(NOON, usegmt=True)) == 3600.0
    assert retry_after(formatdate(NOON - 90, usegmt=True), formatdate(NOON, usegmt=True)) is None
    found = retry_after(formatdate(time.time() + 90, usegmt=True), "no date")
    assert found is not None and 60 < found < 100


def read(status: int, body: bytes) -> failures.Failure:
    response = requests.Response()
    response.status_code, response.url = status, "http://cloud/v2.1/servers"
    response.request = requests.Request("POST", response.url).prepare()
    response.headers["Content-Type"] = "application/json"
    response.raw = io.BytesIO(body)
    return failures.read(exceptions.from_response(response, "POST", response.url))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"serviceUnavailable": {"code": 503, "message": "later"}}', "serviceUnavailable"),
        (b'{"error": {"code": 503, "title": "Service Unavailable", "message": "later"}}', "error"),
        (b'{"message": "later", "code": "503 Service Unavailable", "title": "Service Unavailable"}',
         "Service Unavailable"),
        (b'{"NeutronError": {"type": "Busy", "message": "later", "detail": ""}}', "Busy"),
        (b'{"message": "later"}', None),
        (b'{"message": "later", "request_id": "0af3"}', None),
    ],
    ids=["Nova", "Keystone", "middleware", "Neutron", "gateway", "gateway with an id"],
)  # fmt: skip
def test_an_error_of_openstack_has_a_name_and_one_of_a_gateway_has_none(
    body: bytes, name: str | None
) -> None:
    failed = read(503, body)
    assert (failed.error_name, failed.message) == (name, "later")
