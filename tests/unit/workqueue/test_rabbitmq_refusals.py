"""What the broker refuses for a while only: its words in several versions, and what is made of them."""

from __future__ import annotations

import ssl

import pytest
from pika import exceptions

from lando.errors import UsageError
from lando.redaction import Secret
from lando.workqueue.interface import QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import classify

BROKER = Broker("h", 5672, "v", "ana", Secret("hunter2"), prefix="c.yml: work_queue.")

# rabbit_reader.erl, rabbit_channel.erl, rabbit_queue_type.erl and others, of 3.10 or 4.2 as the comment says.
PASSING = {
    # both
    "access to vhost 'v' refused for user 'ana': connection limit (1) is reached": (
        "the virtual host 'v' of the broker at h:5672 may have no more connections at present "
        "(max-connections: 1)"
    ),
    "connection refused for user 'ana': user connection limit (0) is reached": (
        "the account 'ana' on the broker at h:5672 may have no more connections at present "
        "(max-connections: 0)"
    ),
    "access to vhost 'v' refused for user 'ana': vhost 'v' is down": (
        "the virtual host 'v' of the broker at h:5672 is down; `rabbitmqctl restart_vhost`"
    ),
    "number of channels opened (1) has reached the negotiated channel_max (1)": (
        "a connection to the broker at h:5672 may have no more channels at present (channel_max: 1)"
    ),
    "cannot declare queue 'lando': queue limit in vhost 'v' (3) is reached": (
        "the virtual host 'v' of the broker at h:5672 may have no more queues at present (max-queues: 3)"
    ),
    "home node 'rabbit@two' of durable queue 'lando' in vhost 'v' is down or inaccessible": (
        "the broker at h:5672 cannot use queue 'lando' in vhost 'v' at present: its node 'rabbit@two' is down"
    ),
    "queue 'lando' in vhost 'v' process is stopped by supervisor": (
        "the broker at h:5672 cannot use a queue at present: queue 'lando' in vhost 'v' process is stopped by"
    ),
    "queue 'lando' in vhost 'v' has crashed and failed to restart": (
        "the broker at h:5672 cannot use a queue at present: queue 'lando' in vhost 'v' has crashed and"
    ),
    "failed to perform operation on queue 'lando' in vhost 'v' due to timeout": (
        "the broker at h:5672 cannot use a queue at present: failed to perform operation on queue 'lando'"
    ),
    "access to vhost 'v' refused for user 'ana', backend ldap returned an error: timeout": (
        "the broker at h:5672 cannot check permissions at present, since its authentication backend fails"
    ),
    # 3.10
    "number of channels opened for user 'ana' has reached the maximum allowed user limit of (2)": (
        "the account 'ana' on the broker at h:5672 may have no more channels at present (max-channels: 2)"
    ),
    # 4.2
    "number of channels opened for user 'ana' has reached the maximum allowed user limit of 2": (
        "the account 'ana' on the broker at h:5672 may have no more channels at present (max-channels: 2)"
    ),
    "number of channels opened on node 'rabbit@one' has reached the maximum allowed limit of 9": (
        "the broker at h:5672 may have no more channels at present (channel_max_per_node: 9)"
    ),
    "connection refused: node connection limit (7) is reached": (
        "the broker at h:5672 may have no more connections at present (connection_max: 7)"
    ),
    "access to vhost 'v' refused for user 'ana': connection limit cannot be queried, timeout": (
        "the virtual host 'v' of the broker at h:5672 may have no more connections at present"
    ),
    "cannot declare queue 'lando': queue limit in cluster (5) is reached": (
        "the broker at h:5672 may have no more queues at present (cluster_queue_limit: 5)"
    ),
    "cannot declare exchange 'lando': exchange limit in cluster (5) is reached": (
        "the broker at h:5672 may have no more exchanges at present (cluster_exchange_limit: 5)"
    ),
}


@pytest.mark.parametrize("words", PASSING)
@pytest.mark.parametrize("how", ["opening", "connection", "channel", "permission"])
def test_waiting_can_heal_it_and_it_is_named(words: str, how: str) -> None:
    error = {
        "opening": exceptions.ProbableAccessDeniedError(
            repr(exceptions.ConnectionClosedByBroker(530, f"NOT_ALLOWED - {words}"))
        ),
        "connection": exceptions.ConnectionClosedByBroker(530, f"NOT_ALLOWED - {words}"),
        "channel": exceptions.ChannelClosedByBroker(406, f"PRECONDITION_FAILED - {words}"),
        "permission": exceptions.ChannelClosedByBroker(403, f"ACCESS_REFUSED - {words}"),
    }[how]
    found = classify(BROKER, error)
    assert isinstance(found, QueueUnavailable) and not isinstance(found, (UsageError, QueueAbsent))
    assert PASSING[words] in str(found)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ProbableAccessDeniedError(
            "(530) \"NOT_ALLOWED - access to vhost 'v' refused for user 'ana'\""
        ),
        exceptions.ProbableAccessDeniedError("(530) 'NOT_ALLOWED - vhost v not found'"),
        exceptions.ChannelClosedByBroker(
            403, "ACCESS_REFUSED - access to queue 'lando' in vhost 'v' refused for user 'ana'"
        ),
        exceptions.ChannelClosedByBroker(
            406, "PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'lando' in vhost 'v'"
        ),
    ],
)
def test_what_waiting_does_not_heal_stays_a_wrong_setting(error: Exception) -> None:
    assert isinstance(classify(BROKER, error), UsageError)


def unverified(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def test_a_certificate_that_is_out_of_date_is_no_wrong_authority() -> None:
    expired = classify(BROKER, unverified(10, "certificate has expired"))
    early = classify(BROKER, unverified(9, "certificate is not yet valid"))
    assert isinstance(expired, QueueUnavailable) and "has expired; renew it" in str(expired)
    assert isinstance(early, QueueUnavailable) and "is not valid yet; check the clocks" in str(early)
    assert "tls.ca" not in f"{expired}{early}"
    foreign = classify(BROKER, unverified(19, "self-signed certificate in certificate chain"))
    assert isinstance(foreign, UsageError) and "c.yml: work_queue.tls.ca" in str(foreign)
