"""What the broker refuses for a while only: a limit that is reached, a virtual host or a node that is down.

None of these is a wrong setting, though the broker uses the reply codes of one: whoever waits is served once
connections were closed, or an administrator has acted. The words are the broker's, in rabbit_reader.erl,
rabbit_channel.erl, rabbit_queue_type.erl, rabbit_amqqueue.erl and rabbit_access_control.erl of versions 3.10
to 4.2 (https://github.com/rabbitmq/rabbitmq-server/tree/main/deps/rabbit/src).
"""

from __future__ import annotations

import re

from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.settings import BrokerSettings

_LIMITS = tuple(
    (re.compile(words), of_whom, things, name)
    for words, of_whom, things, name in (
        # The first one whose words are found counts.
        (r"user connection limit \((?P<limit>\S+?)\)", "account", "connections", "max-connections"),
        (r"node connection limit \((?P<limit>\S+?)\)", "broker", "connections", "connection_max"),
        (r"connection limit \((?P<limit>\S+?)\)", "virtual host", "connections", "max-connections"),
        (r"connection limit (?P<limit>cannot be queried)", "virtual host", "connections", "max-connections"),
        (r"opened for user .*user limit of \(?(?P<limit>\d+)", "account", "channels", "max-channels"),
        (r"opened on node .*limit of \(?(?P<limit>\d+)", "broker", "channels", "channel_max_per_node"),
        (r"negotiated channel_max \(?(?P<limit>\d+)", "connection", "channels", "channel_max"),
        (r"queue limit in vhost .*\((?P<limit>\S+?)\) is reached", "virtual host", "queues", "max-queues"),
        (r"queue limit in cluster \((?P<limit>\S+?)\)", "broker", "queues", "cluster_queue_limit"),
        (r"exchange limit .*\((?P<limit>\S+?)\)", "broker", "exchanges", "cluster_exchange_limit"),
    )
)
_VIRTUAL_HOST_IS_DOWN = re.compile("vhost '.*' is down")
_NODE_IS_DOWN = re.compile("home node '(?P<node>.*?)' of durable (?P<what>.*) is down or inaccessible")
_QUEUE_IS_DOWN = re.compile(
    "queue '.*' in vhost '.*' (process is stopped by supervisor|has crashed and failed to restart)"
    "|failed to perform operation on .* due to timeout"
)
_BACKEND_FAILED = re.compile("backend .* returned an error")


def passing_refusal(broker: BrokerSettings, words: str) -> QueueUnavailable | None:
    """The error to raise for a refusal that ends without a change of the configuration; None if it does not.

    Args:
        broker: who has refused.
        words: the broker's reply text.
    """
    for pattern, of_whom, things, name in _LIMITS:
        found = pattern.search(words)
        if found is not None:
            return QueueUnavailable(
                f"{_described(broker, of_whom)} may have no more {things} at present ({name}: "
                f"{found['limit']}); it goes on once there are fewer, or the limit is raised"
            )
    node = _NODE_IS_DOWN.search(words)
    if node is not None:
        return QueueUnavailable(
            f"the broker at {broker} cannot use {node['what']} at present: its node {node['node']!r} is down"
        )
    queue = _QUEUE_IS_DOWN.search(words)
    if queue is not None:
        return QueueUnavailable(
            f"the broker at {broker} cannot use a queue at present: {queue[0]}; `rabbitmqctl restart_vhost` "
            "starts the queues of a virtual host again"
        )
    if _VIRTUAL_HOST_IS_DOWN.search(words):
        return QueueUnavailable(
            f"{_described(broker, 'virtual host')} is down; `rabbitmqctl restart_vhost` starts it again"
        )
    if _BACKEND_FAILED.search(words):
        return QueueUnavailable(
            f"the broker at {broker} cannot check permissions at present, since its authentication backend "
            f"fails: {words}"
        )
    return None


def _described(broker: BrokerSettings, of_whom: str) -> str:
    if of_whom == "account":
        return f"the account {broker.username!r} on the broker at {broker}"
    if of_whom == "virtual host":
        return f"the virtual host {broker.virtual_host!r} of the broker at {broker}"
    return f"a connection to the broker at {broker}" if of_whom == "connection" else f"the broker at {broker}"
