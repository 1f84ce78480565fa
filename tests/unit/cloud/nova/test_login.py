"""A refused login is repeated so rarely that it does not lock the account."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions

from lando.cloud.interface import Refused, Unreachable
from lando.cloud.nova import classify, failures
from lando.cloud.nova.account import Account
from lando.cloud.nova.login import Login, LoginNotTried
from lando.errors import UsageError

DAY = 86_400.0
URL = "http://cloud:5000/v3/auth/tokens"


class Keystone:
    """Answers logins with a status, and knows when they came."""

    def __init__(self) -> None:
        self.now = 0.0
        self.status = 401
        self.body = b'{"error": {"message": "The request you have made requires authentication."}}'
        self.media_type = "application/json"
        self.logins: list[float] = []
        self.login = Login(self.answer, lambda: self.now)

    def answer(self, session: Any) -> str:
        self.logins.append(self.now)
        if self.status < 400:
            return "access"
        response = requests.Response()
        response.status_code, response.url = self.status, URL
        response._content = self.body
        response.headers["Content-Type"] = self.media_type
        response.request = requests.Request("POST", URL).prepare()
        raise exceptions.from_response(response, "POST", URL)

    def try_for(self, seconds: float, every: float) -> None:
        end = self.now + seconds
        while self.now < end:
            with suppress(exceptions.ClientException):
                self.login(None)
            self.now += every


def test_a_wrong_password_is_sent_four_times_a_day() -> None:
    keystone = Keystone()
    keystone.try_for(DAY, every=10.0)
    print(f"logins on the first day with a wrong password, at seconds {keystone.logins}")
    assert keystone.logins == [0.0, 300.0, 2100.0, 16_500.0]
    keystone.try_for(7 * DAY, every=10.0)
    print(f"logins in 8 days, at hours {[round(at / 3600, 1) for at in keystone.logins]}")
    for first in keystone.logins:
        assert sum(first <= at < first + DAY for at in keystone.logins) <= 4


@pytest.mark.parametrize(
    ("passes", "within"), [(1.0, 5.0), (6.0, 30.0), (36.0, 240.0), (276.0, 1165.0), (1441.0, 240.0)]
)
def test_a_refusal_that_passes_is_noticed_by_itself(passes: float, within: float) -> None:
    """Times in minutes, since the first refusal."""
    keystone = Keystone()
    keystone.try_for(passes * 60, every=10.0)
    keystone.status = 201
    keystone.logins.clear()
    keystone.try_for(DAY, every=10.0)
    waited = keystone.logins[0] / 60 - passes
    print(f"a refusal that passes after {passes:g} minutes costs {waited:.1f} more")
    assert waited <= within


def test_meanwhile_the_refusal_is_told_with_the_time_of_the_next_login() -> None:
    keystone = Keystone()
    with pytest.raises(exceptions.Unauthorized):
        keystone.login(None)
    with pytest.raises(LoginNotTried) as raised:
        keystone.login(None)
    failed = failures.read(raised.value)
    assert (failed.status, failed.at_login, failed.login_refused) == (401, True, True)
    assert "the next one is at" in failed.note
    error = classify.call_error(
        failed, "creating a server", Account("landoconfig.yml", "password", {"auth_url": URL})
    )
    assert isinstance(error, Refused)
    assert (error.origin, error.account_wide) == ("site", True)


def test_a_login_that_succeeds_ends_the_waiting() -> None:
    keystone = Keystone()
    keystone.try_for(400.0, every=10.0)
    keystone.status = 201
    keystone.now = 2100.0
    assert keystone.login(None) == "access"
    keystone.status = 401
    keystone.logins.clear()
    keystone.try_for(400.0, every=10.0)
    assert len(keystone.logins) == 2, "the waits begin anew"


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("text/html", b"<html><title>403 Forbidden: maintenance</title></html>"),
        ("application/json", b'{"message": "no route matched"}'),
        ("application/json", b'{"error": "maintenance"}'),
        ("text/plain", b""),
    ],
)
def test_a_proxy_in_front_of_keystone_says_nothing_about_the_password(
    status: int, media_type: str, body: bytes
) -> None:
    keystone = Keystone()
    keystone.status, keystone.media_type, keystone.body = status, media_type, body
    keystone.try_for(100.0, every=10.0)
    assert len(keystone.logins) == 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_page_at_the_login_is_an_outage(status: int) -> None:
    keystone = Keystone()
    keystone.status, keystone.media_type = status, "text/html"
    keystone.body = b"<html><title>Forbidden: maintenance</title></html>"
    with pytest.raises(exceptions.HttpError) as raised:
        keystone.login(None)
    account = Account("cloud_settings", "password", {"auth_url": "http://cloud", "username": "lando"})
    error = classify.call_error(failures.read(raised.value), "listing servers", account)
    assert type(error) is Unreachable
    assert "Forbidden: maintenance (text/html, not JSON)" in str(error)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_keystone_that_does_not_work_is_asked_again_at_once(status: int) -> None:
    keystone = Keystone()
    keystone.status = status
    keystone.try_for(100.0, every=10.0)
    assert len(keystone.logins) == 10


def test_a_login_knows_its_own_thread() -> None:
    keystone, seen = Keystone(), []
    login = Login(lambda session: seen.append(login.in_progress), lambda: 0.0)
    login(None)
    assert (seen, login.in_progress, keystone.login.in_progress) == ([True], False, False)


def test_certificates_that_cannot_be_looked_for_are_not_there() -> None:
    account = Account(
        "c.yml", "password", {"auth_url": "https://cloud:5000/v3"}, cacert=Path("/tmp", "n" * 300)
    )
    with pytest.raises(UsageError, match=r"c\.yml: cacert: /tmp/n+: no such file"):
        account.check()
