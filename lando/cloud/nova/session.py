"""The session with the cloud: keystoneauth's, with timeouts, a counter of calls, and errors as CloudErrors.

No request is sent twice, with one exception: when a service answers 401 because the token has expired or was
revoked, keystoneauth logs in and repeats the request, of which nothing was done.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests
from keystoneauth1 import session as keystoneauth
from keystoneauth1.exceptions import ClientException, EndpointNotFound, Unauthorized
from urllib3.exceptions import ProtocolError

from lando.cloud.interface import Ambiguous, CloudError, Refused
from lando.cloud.nova import classify, failures, paging
from lando.cloud.nova.account import Account
from lando.cloud.nova.login import Login

# The errors raised here say what keystoneauth would log.
logging.getLogger("keystoneauth").setLevel(logging.ERROR)

CONNECT_SECONDS = 10.0
SMALL_READ = (CONNECT_SECONDS, 20.0)
"""Seconds to connect, and until the answer begins, of a small read; for a create more is waited."""
ANSWER_SECONDS = 60.0
"""Until the first byte of an answer; proxies in front of Nova usually have this timeout as well."""
WHOLE_SECONDS = 300.0
"""From the first byte of an answer to its last, of a service that sends a little now and then."""
MAX_ANSWER = 256 * 2**20
"""Bytes of an answer: of a list of servers, which has some 3 kB for each."""
LOGIN_SECONDS = 20.0
"""The same for Keystone; all threads wait for the one that logs in."""
CONNECTIONS = 32
"""Kept open to each service; further threads make connections that are closed after use."""

_VERSION = re.compile(r"/v[0-9]+(?:\.[0-9]+)*(?:/[^/]+)?/?$")
"""The end of a service's address: the version, perhaps followed by the project."""

_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")


class CallCounter:
    """How often each call was sent, by its name: ``POST /v2.1/servers``, ``GET /v2.1/servers/ID``."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._of_thread = threading.local()
        self.answered: Callable[[str, int | None], None] = lambda name, status: None
        """Told of each call, and the status of its answer; None: there was none."""

    def add(self, method: str, url: str) -> None:
        """Count a call."""
        name = call_name(method, url)
        with self._lock:
            self._counts[name] += 1
        recorded: list[str] | None = getattr(self._of_thread, "recorded", None)
        if recorded is not None:
            recorded.append(name)

    def counts(self) -> Counter[str]:
        """The counts so far."""
        with self._lock:
            return self._counts.copy()

    @contextmanager
    def recorded(self) -> Iterator[list[str]]:
        """The names of the calls that this thread sends within the block, in order."""
        recorded: list[str] = []
        self._of_thread.recorded = recorded
        try:
            yield recorded
        finally:
            self._of_thread.recorded = None


def call_name(method: str, url: str) -> str:
    """The method and path of a call, with ``ID`` in place of ids."""
    try:
        path = urlsplit(url).path
    except ValueError:  # no address; the request says so
        path = url
    return f"{method} {_ID.sub('ID', path) or '/'}"


class _Transport(keystoneauth.TCPKeepAliveAdapter):
    """Sends one HTTP request, and counts it."""

    def __init__(self, calls: CallCounter) -> None:
        super().__init__(pool_maxsize=CONNECTIONS)
        self._calls = calls

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        self._calls.add(request.method or "", request.url or "")
        status: int | None = None
        try:
            response = super().send(request, *args, **kwargs)
            status = response.status_code
        finally:
            self._calls.answered(call_name(request.method or "", request.url or ""), status)
        response.raw.stream = partial(_bounded, response.raw, time.monotonic() + WHOLE_SECONDS)
        return response


def _bounded(raw: Any, until: float, size: int, decode_content: bool) -> Iterator[bytes]:
    """The body of an answer, in place of urllib3's ``stream``, which waits for as long as something comes.

    Raises:
        ProtocolError: it is too large, or takes too long.
    """
    total = 0
    # As much as has come, not until there are so many bytes; urllib3 1.26 has only the latter.
    read = getattr(raw, "read1", raw.read)
    while data := read(size, decode_content=decode_content):
        yield data
        total += len(data)
        if total > MAX_ANSWER or time.monotonic() > until:
            raw.close()
            raise ProtocolError(
                f"the answer has more than {MAX_ANSWER:,} bytes"
                if total > MAX_ANSWER
                else f"the answer was not complete after {WHOLE_SECONDS:g} s"
            )


class _KeystoneauthSession(keystoneauth.Session):
    """keystoneauth's session, with the same exceptions for all clients when an answer is not OpenStack's.

    Args:
        login: of the plugin; None: the plugin never logs in.
        arguments: keystoneauth's.
    """

    def __init__(self, login: Login | None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._login = login

    def request(self, url: str, method: str, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; see ``Session.request``.

        Raises:
            ClientException: a status of 400 or more, no answer, or one that is not JSON.
        """
        logging_in = self._login is not None and self._login.in_progress
        if logging_in and kwargs.get("authenticated") and kwargs.get("auth") is None:
            # Discovery repeats a request, with a token, when it was answered 401. For that token it would
            # wait until this login is over, of which it is a part.
            raise Unauthorized("Keystone does not tell its versions without a login")
        # novaclient sets False and raises its own exceptions, which lack the answer's headers and body.
        kwargs["raise_exc"] = True
        # The log would contain bodies: start-up scripts with the workers' tokens, and passwords of servers.
        kwargs["log"] = False
        endpoint = kwargs.get("endpoint_filter")
        to_service = bool(endpoint)
        if endpoint and url.startswith("/") and endpoint.get("service_type") == "compute":
            kwargs.setdefault("endpoint_override", with_compute_version(self.get_endpoint(**endpoint)))
        kwargs.setdefault("timeout", (CONNECT_SECONDS, ANSWER_SECONDS if to_service else LOGIN_SECONDS))
        response = super().request(url, method, *args, **kwargs)
        if to_service and not _is_openstack(response):
            raise failures.NotOpenStack(response)
        return response

    def get_endpoint(self, auth: Any = None, **endpoint: Any) -> str | None:
        """The address of a service in the catalog; see keystoneauth's ``get_endpoint``.

        Raises:
            EndpointNotFound: no region is set, and the service is in several. keystoneauth takes the first
                of the catalog, which has no order: the next token may name another region first, in which
                no server is.
        """
        service = endpoint.get("service_type")
        plugin: Any = auth or self.auth
        if service and endpoint.get("region_name") is None and hasattr(plugin, "get_access"):
            catalog = plugin.get_access(self).service_catalog
            of_interface = catalog.get_endpoints_data(service, endpoint.get("interface"))
            regions = sorted({str(each.region_name) for each in of_interface.get(service, ())})
            if len(regions) > 1:
                raise EndpointNotFound(
                    f"the cloud's catalog has {service} in several regions: {', '.join(regions)}; "
                    "set region_name to that of the servers"
                )
        address: str | None = super().get_endpoint(auth, **endpoint)
        return address


def with_compute_version(address: str | None) -> str | None:
    """The address of Nova's API version 2.1: some catalogs have only that of the service."""
    if address is None or _VERSION.search(address):
        return address
    return f"{address.rstrip('/')}/v2.1"


def _is_openstack(response: requests.Response) -> bool:
    # 300 is a list of versions, the answer of a service's root to every path.
    return response.status_code < 300 and (not response.content or failures.json_of(response) is not None)


@dataclass(frozen=True)
class Token:
    """A new token."""

    expires: datetime
    clock_skew: float
    """Seconds by which Keystone's clock is ahead of this machine's; Keystone gives whole seconds."""


class OtherProject(ClientException):
    """The account is of another project than the servers."""


class Session:
    """Sends every call to the cloud. Safe to use from several threads.

    Args:
        account: how to log in.

    Raises:
        UsageError: the account is incomplete.
    """

    def __init__(self, account: Account) -> None:
        self.account = account
        self.calls = CallCounter()
        self.project: str | None = None
        """Of the last login."""
        self.only_project: str | None = None
        """A login to another project is refused; None: none is."""
        self._plugin: Any = account.plugin()
        login: Login | None = None
        if hasattr(self._plugin, "get_auth_ref"):
            login = Login(partial(self._log_in, self._plugin.get_auth_ref))
            setattr(self._plugin, "get_auth_ref", login)  # noqa: B010 - an attribute in place of a method
        transport = _Transport(self.calls)
        http = requests.Session()
        http.mount("http://", transport)
        http.mount("https://", transport)
        self.keystoneauth = _KeystoneauthSession(
            login,
            auth=self._plugin,
            session=http,
            verify=str(account.cacert) if account.cacert else account.verify,
            connect_retries=0,  # they would send a create twice when its answer is late
            app_name="lando-fsm",
        )

    def _log_in(self, log_in: Callable[[Any], Any], session: Any) -> Any:
        """Log in, and have the plugin judge the token's age by the cloud's clock.

        It compares this machine's clock with the time at which the token expires. If that clock is ahead by
        more than tokens live, each call would log in anew, several times.

        Raises:
            OtherProject: see ``only_project``.
        """
        access = log_in(session)
        if self.only_project not in (None, access.project_id):
            raise OtherProject(
                f"jobs have VMs in the project {self.only_project}, and the account is of "
                f"{access.project_name or 'no project'} ({access.project_id}), which does not have them; use "
                "an account of their project until they have ended"
            )
        self.project = access.project_id
        ahead = access.issued.timestamp() - time.time()
        self._plugin.MIN_TOKEN_LIFE_SECONDS = type(self._plugin).MIN_TOKEN_LIFE_SECONDS + ahead
        return access

    def log_in(self) -> Token:
        """Log in, even if there is a valid token; the new one is used from then on.

        Raises:
            CloudError: the login was refused, or not answered.
        """
        before = time.time()
        with self.errors("authentication"):
            self._plugin.invalidate()
            access: Any = self._plugin.get_access(self.keystoneauth)
            midway = (before + time.time()) / 2
            return Token(access.expires, access.issued.timestamp() - midway)

    def compute_addresses(self) -> tuple[str, str]:
        """Nova's address in the cloud's catalog, and the address of its API's version 2.1 that follows.

        Raises:
            ClientException: the catalog has none, or the login failed.
        """
        listed = self._address("compute")
        return listed, re.sub(r"(/v[0-9.]+)(/[^/]+)?/?$", r"\1/", with_compute_version(listed) or "")

    def get_json(self, address: str) -> Any:
        """The JSON at an address of a service."""
        endpoint = self.endpoint("compute")
        response = self.keystoneauth.request(address, "GET", endpoint_filter=endpoint)
        return failures.json_of(response)

    def keystone(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Keystone where the account says; ``path`` begins after ``/v3``. Returns the JSON, or None."""
        return self._send("identity", self.account.auth_url, "/v3", method, path, **kwargs)

    def cinder(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Cinder; ``path`` begins after ``/v3/PROJECT``. Returns the JSON, None if there is none.

        Raises:
            EndpointNotFound: the cloud has no Cinder for this account.
        """
        project = self.keystoneauth.get_project_id()
        return self._call("block-storage", "/v3", method, f"/{project}{path}", **kwargs)

    def glance(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Glance; ``path`` begins after ``/v2``. Returns the JSON, None if there is none."""
        return self._call("image", "/v2", method, path, **kwargs)

    def neutron(self, method: str, path: str, **kwargs: Any) -> Any:
        """Call Neutron; ``path`` begins after ``/v2.0``. Returns the JSON, None if there is none."""
        return self._call("network", "/v2.0", method, path, **kwargs)

    def rows(
        self,
        action: str,
        get: Callable[[paging.Query], Mapping[str, Any]],
        collection: str,
        query: paging.Query = (),
        key: Callable[[Mapping[str, Any]], str] = paging.id_of,
    ) -> list[dict[str, Any]]:
        """All rows of a list, however many pages it has; see ``paging.all_rows``.

        Args:
            action: begins an error's message.

        Raises:
            CloudError: the list could not be had. Ambiguous among others if it does not end.
        """
        with self.errors(action):
            return paging.all_rows(get, collection, query, key)

    def glance_rows(
        self, action: str, path: str, collection: str, query: paging.Query
    ) -> list[dict[str, Any]]:
        """All rows of a list of Glance; see ``rows``."""
        return self.rows(action, lambda page: self.glance("GET", path, params=page), collection, query)

    def neutron_rows(
        self, action: str, path: str, collection: str, query: paging.Query
    ) -> list[dict[str, Any]]:
        """All rows of a list of Neutron; see ``rows``."""
        return self.rows(action, lambda page: self.neutron("GET", path, params=page), collection, query)

    def own_project(self, action: str) -> paging.Query:
        """The filter of Neutron's lists for what belongs to the project.

        Args:
            action: begins an error's message.

        Raises:
            CloudError: the login failed.
        """
        with self.errors(action):
            project = self.keystoneauth.get_project_id()
        return (("project_id", project),) if project else ()

    def _call(self, service: str, version: str, method: str, path: str, **kwargs: Any) -> Any:
        return self._send(service, self._address(service), version, method, path, **kwargs)

    def _send(
        self,
        service: str,
        address: str,
        version: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> Any:
        # Some catalogs have the version in the URL, most have not.
        base = _VERSION.sub("", address.rstrip("/"))
        response = self.keystoneauth.request(
            *(f"{base}{version}{path}", method),
            endpoint_filter=self.endpoint(service),
            headers={"Accept": "application/json", **(headers or {})},
            **kwargs,
        )
        return failures.json_of(response)

    def _address(self, service: str) -> str:
        address = self.keystoneauth.get_endpoint(**self.endpoint(service))
        if address is None:
            raise EndpointNotFound(f"the cloud's catalog has no {service} service for these settings")
        return str(address)

    def endpoint(self, service: str) -> dict[str, Any]:
        """Which endpoint of a service to use: keystoneauth's ``endpoint_filter``."""
        account = self.account
        return {
            "service_type": service,
            "interface": account.interface,
            "region_name": account.region,
        }

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Raise the exceptions of a call as CloudErrors.

        Args:
            action: begins the error's message, as in ``listing servers``.
        """
        try:
            yield
        except CloudError:
            raise
        except paging.EndlessList as error:
            raise Ambiguous(f"{action}: {error}") from error
        except ClientException as error:
            raise classify.call_error(failures.read(error), action, self.account) from error
        except OSError as error:  # not of the network, whose errors are ClientExceptions
            said = f"{action}: {error}; check cacert in {self.account.where}"
            raise Refused(said, "site", account_wide=True) from error
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise classify.unexpected_answer(action, error) from error
