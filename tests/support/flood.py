"""``python -m tests.support.flood``: a worker out of control, or somebody with the workers' account.

It publishes small progress reports at a steady rate, unconfirmed, until its time is over. What to do is a
JSON object on stdin, see ``Flood``; at the end it prints how many it has published.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pika

WITH_LOG = 10
"""One report of so many has some log."""
LOG = "x" * 199 + "\n"
STEP = 0.01
"""Seconds between two bunches."""


@dataclass(frozen=True)
class Flood:
    """One process of a flood."""

    host: str
    port: int
    virtual_host: str
    user: str
    password: str
    exchange: str
    routing_key: str
    proof: dict[str, Any]
    """What the worker proves itself with: job, attempt, token."""
    rate: float
    """Messages a second."""
    seconds: float


def main() -> None:
    """Publish."""
    flood = Flood(**json.load(sys.stdin))
    credentials = pika.PlainCredentials(flood.user, flood.password)
    parameters = pika.ConnectionParameters(flood.host, flood.port, flood.virtual_host, credentials)
    with pika.BlockingConnection(parameters) as connection:
        print(_publish(flood, connection), flush=True)


def _publish(flood: Flood, connection: pika.BlockingConnection) -> int:
    channel = connection.channel()
    properties = pika.BasicProperties(delivery_mode=2, user_id=flood.user)
    begun, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < flood.seconds:
        for _ in range(int(flood.rate * passed) - sent):
            sent += 1
            channel.basic_publish(flood.exchange, flood.routing_key, _report(flood, sent), properties)
        connection.sleep(STEP)
    return sent


def _report(flood: Flood, number: int) -> bytes:
    body = {"step": number % 1000, "steps": 1000, "step_name": "flood"}
    if number % WITH_LOG == 0:
        body["log"] = LOG
    about = {"id": str(uuid.uuid4()), "type": "worker_progress", "version": 1, "sent_at": time.time()}
    return json.dumps({**about, **flood.proof, "seq": number + 1, "body": body}).encode()


def as_json(flood: Flood) -> str:
    """What the process reads."""
    return json.dumps(dataclasses.asdict(flood))


if __name__ == "__main__":
    main()
