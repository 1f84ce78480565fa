"""The wire to the cloud: one keystoneauth session, with timeouts, counted calls and one kind of failure.

Nothing here sends a request twice, but for the one case in which keystoneauth knows that nothing was done:
a token that is void (401), for which it logs in again.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from keystoneauth1.exceptions import ClientException, EndpointNotFound
from keystoneauth1.session import Session, TCPKeepAliveAdapter

from lando.cloud.interface import Ambiguous, CloudError, Refused
from lando.cloud.nova import classify, failures
from lando.cloud.nova.account import Account

# What it has to say is in the errors raised here.
logging.getLogger("keystoneauth").setLevel(logging.ERROR)

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""Until the first byte of an answer; proxies before Nova give up at about this time, too."""
LOGIN_SECONDS = 20.0
"""The same for Keystone; all threads wait for the one that logs in."""
CONNECTIONS = 32
"""Kept open to each service; more threads than that wait for nothing, but connect anew."""

_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


class Calls:
    """How often each kind of call was sent: ``POST /v2.1/servers``, ``GET /v2.1/servers/ID``."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def note(self, method: str, url: str) -> None:
        """One more call was sent."""
        kind = kind_of_call(method, url)
        with self._lock:
            self._counts[kind] += 1
        watched: list[str] | None = getattr(self._of_thread, "watched", None)
        if watched is not None:
            watched.append(kind)

    def counts(self) -> Counter[str]:
        """The counts so far."""
        with self._lock:
            return self._counts.copy()

    @contextmanager
    def watched(self) -> Iterator[list[str]]:
        """The kinds of the calls that this thread sends meanwhile, in order."""
        watched: list[str] = []
        self._of_thread.watched = watched
        try:
            yield watched
        finally:
            self._of_thread.watched = None


def kind_of_call(method: str, url: str) -> str:
    """A call without its ids, query and host."""
    return f"{method} {_ID.sub('ID', urlsplit(url).path) or '/'}"


class _Transport(TCPKeepAliveAdapter):
    """Sends one HTTP request, and counts it."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(pool_maxsize=CONNECTIONS)
        self._calls = calls

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._calls.note(request.method or "", request.url or "")
        return super().send(request, *args, **kwargs)


class _Session(Session):
    """keystoneauth's session, where what is no answer of OpenStack fails alike for every client."""

    def request(self, url: str, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; see ``Session.request``.

        Raises:
            ClientException: a status of 400 or more, no answer, or one that is not JSON.
        """
        # novaclient asks for none, to raise exceptions of its own, which lose the answer's headers and body.
        kwargs["raise_exc"] = True
        # The log would hold the bodies: start-up scripts with the tokens in them, and servers' passwords.
        kwargs["log"] = False
        to_service = bool(kwargs.get("endpoint_filter"))
        kwargs.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS if to_service else LOGIN_SECONDS))
        response = super().request(url, method, *args, **kwargs)
        if to_service and not _is_openstack(response):
            raise failures.NotOpenStack(response)
        return response


def _is_openstack(response: requests.Response) -> bool:
    return response.ok and (not response.content or failures.json_of(response) is not None)


@dataclass(frozen=True)
class Login:
    """What came of a login."""

    expires: datetime
    """When the token does."""
    clock_skew: float
    """Seconds by which Keystone's clock is ahead of ours; Keystone tells whole seconds."""


class Wire:
    """What every call goes through. Safe to use from several threads.

    Args:
        account: how to log in.

    Raises:
        UsageError: the account is incomplete.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.calls = Calls()
        self._plugin = account.plugin()
        transport = _Transport(self.calls)
        http = requests.Session()
        http.mount("http://", transport)
        http.mount("https://", transport)
        self.session = _Session(
            auth=self._plugin,
            session=http,
            verify=str(account.cacert) if account.cacert else account.verify,
            connect_retries=0,  # they would send a create twice when its answer is late
            app_name="lando-fsm",
        )

    def log_in(self) -> Login:
        """Log in, even when there is a token that is valid; the new one is used from now on.

        Raises:
            CloudError: it was refused, or there was no answer.
        """
        before = time.time()
        with self.errors("authentication"):
            self._plugin.invalidate()
            access: Any = self._plugin.get_access(self.session)  # type: ignore[attr-defined]
            midway = (before + time.time()) / 2
            return Login(access.expires, access.issued.timestamp() - midway)

    def image(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Glance; ``path`` begins after ``/v2``. Answers the JSON, None where there is none."""
        return self._call("image", "/v2", method, path, **kwargs)

    def network(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Neutron; ``path`` begins after ``/v2.0``. Answers the JSON, None where there is none."""
        return self._call("network", "/v2.0", method, path, **kwargs)

    def _call(self, service: str, version: str, method: str, path: str, **kwargs: Any) -> Any:
        endpoint = self.endpoint(service)
        address = self.session.get_endpoint(**endpoint)
        if address is None:
            raise EndpointNotFound(f"the cloud's catalog has no {service} service for these settings")
        # Some catalogs have the version in the address, most have not.
        base = re.sub(r"/v[0-9.]+$", "", address.rstrip("/"))
        headers = {"Accept": "application/json"}
        response = self.session.request(
            f"{base}{version}{path}", method, endpoint_filter=endpoint, headers=headers, **kwargs
        )
        return failures.json_of(response)

    def endpoint(self, service: str) -> dict[str, Any]:
        """Which endpoint of a service to use, as keystoneauth calls it."""
        account = self.account
        return {
            "service_type": service,
            "interface": account.interface,
            "region_name": account.region,
        }

    @contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Raise what goes wrong as a CloudError.

        Args:
            doing: begins the error's text, as in ``listing servers``.
        """
        try:
            yield
        except CloudError:
            raise
        except ClientException as error:
            raise classify.of_call(failures.failure(error), doing, self.account) from error
        except OSError as error:  # what the network did would be a ClientException
            raise Refused(f"{doing}: {error}; check cacert in {self.account.where}", "site") from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Ambiguous(f"{doing}: the answer lacks what it should have ({error!r})") from error
