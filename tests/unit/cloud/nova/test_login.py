"""A refused login is repeated so rarely that it does not lock the account."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import requests
from keystoneauth1 import exceptions

from lando.cloud.nova import failures
from lando.cloud.nova.login import Login, LoginNotTried

DAY = 86_400.0
URL = "http://cloud:5000/v3/auth/tokens"


class Keystone:
    """Answers logins with a status, and knows when they came."""

    def __init__(self) -> None:
        self.now = 0.0
        self.status = 401
        self.logins: list[float] = []
        self.login = Login(self.answer, lambda: self.now)

    def answer(self, session: Any) -> str:
        self.logins.append(self.now)
        if self.status < 400:
            return "access"
        response = requests.Response()
        response.status_code, response.url = self.status, URL
        response._content = b'{"error": {"message": "The request you have made requires authentication."}}'
        response.headers["Content-Type"] = "application/json"
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
    print(f"logins in 8 days: {len(keystone.logins)}")
    assert len(keystone.logins) <= 4 + 7


def test_meanwhile_the_refusal_is_told_with_the_time_of_the_next_login() -> None:
    keystone = Keystone()
    with pytest.raises(exceptions.Unauthorized):
        keystone.login(None)
    with pytest.raises(LoginNotTried) as raised:
        keystone.login(None)
    failed = failures.read(raised.value)
    assert (failed.status, failed.at_login, failed.login_refused) == (401, True, True)
    assert "the next one is at" in failed.note


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
