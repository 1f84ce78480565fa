"""Policies of the broker that concern our queues: AMQP shows none, its management plugin does.

Source: https://www.rabbitmq.com/docs/policies, https://www.rabbitmq.com/docs/management#http-api
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lando.errors import LandoError, UsageError
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import BrokerSettings
from lando.workqueue.rabbitmq.topology import arguments

PORT, TLS_PORT = 15672, 15671
"""Where the management plugin listens unless it is told otherwise."""
TIMEOUT = 5.0
"""Seconds for each of its answers."""
GATHERED_WITHIN = 12.0
"""Seconds within which the plugin knows a new queue's policies; by default it gathers them every 5."""
LONGEST = 30.0
"""Seconds for all of it: what listens there may be anything, and send a byte now and then."""
SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
"""This machine's sockets, as proc_net_tcp(5) describes them."""
LISTENING = "0A"
EFFECTIVE = "effective_policy_definition"
MAX_ANSWER = 1024 * 1024
"""Bytes of an answer that are read."""
LOWER_COUNTS = ("max-length", "max-length-bytes", "delivery-limit")
"""Of a policy's value and that of the queue's own argument, the lower one counts."""
OURS_COUNTS = ("overflow", "dead-letter-exchange", "dead-letter-routing-key")
"""A policy's value counts only where the queue has no such argument."""
HARMFUL = ("expires", "message-ttl", *LOWER_COUNTS, *OURS_COUNTS)
"""What can delete a queue, or messages, or move them elsewhere."""


class PoliciesUnseen(LandoError):
    """The policies cannot be seen; the message says why."""


@dataclass(frozen=True)
class HarmfulPolicy:
    """What policies would do to a queue."""

    queue: str
    policies: str
    """The names of the policy and of the operator policy that concern it."""
    settings: str
    """What they set and should not, such as ``expires: 1800000``."""

    def __str__(self) -> str:
        return f"{self.policies}: {self.settings} on the queue {self.queue!r}"


def harmful_policies(broker: BrokerSettings, names: QueueNames) -> list[HarmfulPolicy]:
    """The policies that could cost messages of ours, as the management plugin shows them.

    Args:
        broker: the daemon's account, which needs the tag ``management``.
        names: what there is on the broker.

    Raises:
        PoliciesUnseen: the plugin cannot be asked, the account may not ask it, or there is no queue yet.
        UsageError: the certificates cannot be used.
    """
    _refuse_to_tell_strangers(broker)
    connection = _connect(broker)
    ends: list[list[HarmfulPolicy] | LandoError] = []

    def ask() -> None:
        try:
            ends.append(_harmful(connection, broker, names))
        except LandoError as error:
            ends.append(error)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            ends.append(PoliciesUnseen(f"no management plugin answers at {_address(broker)}: {error}"))
        finally:
            connection.close()

    asking = threading.Thread(target=ask, name="management plugin", daemon=True)
    asking.start()
    asking.join(LONGEST)
    if not ends:
        raise PoliciesUnseen(f"no management plugin answers at {_address(broker)}: timed out")
    if isinstance(ends[0], LandoError):
        raise ends[0]
    return ends[0]


def _harmful(
    connection: http.client.HTTPConnection, broker: BrokerSettings, names: QueueNames
) -> list[HarmfulPolicy]:
    found = [(queue, _described(connection, broker, queue)) for queue in names.queues if queue != names.lock]
    if not any(described for _, described in found):
        raise PoliciesUnseen("the queues do not exist yet")
    return [
        policy
        for queue, described in found
        if described is not None and (policy := _judge(names, queue, described)) is not None
    ]


def _address(broker: BrokerSettings) -> str:
    return f"https://{broker.host}:{TLS_PORT}" if broker.tls else f"http://{broker.host}:{PORT}"


def _refuse_to_tell_strangers(broker: BrokerSettings) -> None:
    """The password is for the broker only, and the management plugin's port need not be the broker's: where
    the plugin is disabled, every account of the broker's machine may listen there.

    TLS proves whose port it is. Without it, it must be a port of this machine on which the same account
    listens as on the broker's.

    Raises:
        PoliciesUnseen: this cannot be known.
    """
    if broker.tls is not None:
        return
    if not _is_this_machine(broker.host):
        raise PoliciesUnseen(
            f"without `tls` nothing proves that {_address(broker)} is the broker's, and the account's "
            "password is not sent there"
        )
    listeners = _listeners(PORT)
    if not listeners:
        raise PoliciesUnseen(f"no management plugin listens at {_address(broker)}")
    if len(listeners) > 1 or listeners != _listeners(broker.port):
        raise PoliciesUnseen(
            f"what listens at {_address(broker)} is not known to be the broker's, and the account's "
            "password is not sent there"
        )


def _is_this_machine(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, PORT, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)


def _listeners(port: int) -> set[str]:
    """The accounts (uid) that listen at a port, at whatever address of this machine."""
    accounts = set()
    for table in SOCKETS:
        try:
            rows = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:  # no Linux, or no IPv6
            continue
        for row in rows:
            _, local, _, state, _, _, _, account, *_ = row.split()
            if state == LISTENING and int(local.rpartition(":")[2], 16) == port:
                accounts.add(account)
    return accounts


def _connect(broker: BrokerSettings) -> http.client.HTTPConnection:
    """No proxy is used and no redirection followed: what is sent contains the password."""
    if broker.tls is None:
        return http.client.HTTPConnection(broker.host, PORT, timeout=TIMEOUT)
    context = ssl.create_default_context(cadata=broker.authorities())
    if broker.tls.certificate is not None:
        try:
            context.load_cert_chain(broker.tls.certificate, broker.tls.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise UsageError(f"{broker.setting('tls.certificate')}: {error}") from error
    return http.client.HTTPSConnection(broker.host, TLS_PORT, timeout=TIMEOUT, context=context)


def _described(
    connection: http.client.HTTPConnection, broker: BrokerSettings, queue: str
) -> Mapping[str, Any] | None:
    """The same as ``_get``, once the plugin has gathered what it knows of the queue's policies."""
    deadline = time.monotonic() + GATHERED_WITHIN
    while True:
        described = _get(connection, broker, queue)
        if described is None or EFFECTIVE in described:
            return described
        if time.monotonic() > deadline:
            raise PoliciesUnseen(f"the management plugin does not tell those of the queue {queue!r}")
        time.sleep(0.5)


def _get(
    connection: http.client.HTTPConnection, broker: BrokerSettings, queue: str
) -> Mapping[str, Any] | None:
    """What the plugin says of a queue; None if it does not exist."""
    account = base64.b64encode(f"{broker.username}:{broker.password.reveal()}".encode()).decode("ascii")
    path = f"/api/queues/{quote(broker.virtual_host, safe='')}/{quote(queue, safe='')}"
    connection.request("GET", path, headers={"Authorization": f"Basic {account}"})
    response = connection.getresponse()
    raw = response.read(MAX_ANSWER)
    if response.status == http.client.NOT_FOUND:
        return None
    if response.status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise PoliciesUnseen(
            f"the account {broker.username!r} may not ask the management plugin, for which it needs the tag "
            "`management`"
        )
    if response.status != http.client.OK:
        raise http.client.HTTPException(f"HTTP {response.status}")
    described = json.loads(raw)
    if not isinstance(described, dict):
        raise ValueError("the answer is no object")
    return described


def _judge(names: QueueNames, queue: str, described: Mapping[str, Any]) -> HarmfulPolicy | None:
    effective = described[EFFECTIVE]
    if not isinstance(effective, dict):  # [] where there is none
        return None
    ours = arguments("quorum", names)[queue]
    harmful = {key: value for key, value in effective.items() if _is_harmful(key, value, ours)}
    if not harmful:
        return None
    policies = [
        f"{kind} {described[key]!r}"
        for kind, key in (("policy", "policy"), ("operator policy", "operator_policy"))
        if described.get(key)
    ]
    settings = ", ".join(f"{key}: {json.dumps(value)}" for key, value in sorted(harmful.items()))
    return HarmfulPolicy(queue, " and ".join(policies), settings)


def _is_harmful(key: str, value: Any, ours: Mapping[str, Any]) -> bool:
    if key not in HARMFUL:
        return False
    argument = ours.get(f"x-{key}")
    if argument is None:
        return True
    return key in LOWER_COUNTS and isinstance(value, int) and value < argument
