"""``python -m tests.vm IMAGE.qcow2``: boots an image in qemu with a job's start-up script, until it is done.

The VM clones over HTTP and reports to a RabbitMQ of this machine; no OpenStack is needed. ``--bootstrap`` is
for an image without the worker. Exits 1, with the end of the console, unless the workflow succeeded.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from lando import messages
from lando.app.user_data import WorkerSettings, render
from lando.config.site_config import WorkerConfig
from lando.redaction import Secret
from lando.states.job import JobSpec
from lando.workqueue.rabbitmq.broker import Broker as Address
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from tests.support.rabbitmq_server import Broker, VirtualHost
from tests.vm.machine import FROM_THE_VM, Machine
from tests.vm.offers import Offers


def main() -> int:
    """Boot, and tell what is heard of the worker."""
    parser = argparse.ArgumentParser(prog="python -m tests.vm")
    parser.add_argument("image", type=Path)
    parser.add_argument("--bootstrap", metavar="SOURCE", nargs="?", const="", help="a wheel of this checkout")
    parser.add_argument("--memory", type=int, default=1024, help="MB")
    parser.add_argument("--accel", default="tcg", help="qemu's accelerator")
    parser.add_argument("--patience", type=float, default=1800, help="seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lando-vm-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the broker is another account's
        offered, files = directory / "offered", directory / "vm"
        offered.mkdir()
        files.mkdir()
        broker, offers = Broker(directory / "broker"), Offers(offered)
        broker.start()
        try:
            here = broker.virtual_host()
            user_data = start_up_script(here, offers, options.bootstrap)
            machine = Machine(options.image, user_data, files, options.memory, options.accel)
            try:
                return watch(machine, here, options.patience)
            finally:
                machine.close()
        finally:
            offers.close()
            broker.stop()


def start_up_script(here: VirtualHost, offers: Offers, bootstrap: str | None) -> bytes:
    """As the daemon makes it."""
    queue = {
        "kind": "rabbitmq",
        "host": FROM_THE_VM,
        "port": here.broker.port,
        "virtual_host": here.name,
        "username": here.worker.username,
        "password": here.worker.password,
        "queue_name": here.queue_name,
        "heartbeat": 60,
        "tls": None,
    }
    texts = [{"class": "File", "location": "texts/sonnet-18.txt"}]
    return render(
        JobSpec(offers.repository(), ".", {"texts": texts}, "everything.cwl"),
        job_id="00000000-0000-4000-8000-000000000000",
        attempt=1,
        token="t" * 32,
        server_name="try",
        settings=WorkerSettings(
            WorkerConfig(
                "/lando/lando_worker.sh",
                "lando",
                bootstrap=bootstrap is not None,
                bootstrap_source=None if bootstrap is None else bootstrap or offers.wheel(),
            ),
            queue,
            heartbeat=10.0,
        ),
    )


def watch(machine: Machine, here: VirtualHost, patience: float) -> int:
    """Print every report with its time since the VM was switched on, until the last one."""
    daemon = Secret(here.daemon.password)
    address = Address(here.broker.host, here.broker.port, here.name, here.daemon.username, daemon)
    queue = RabbitMQQueue(address, here.names)
    began = time.monotonic()
    outcome = "nothing was heard"
    while machine.is_on and time.monotonic() - began < patience:
        deliveries = queue.receive(100, 1.0)
        for delivery in deliveries:
            message = messages.decode(delivery.raw, delivery.origin)
            outcome = message.body.get("outcome") or message.type
            words = message.body.get("reason") or message.body.get("phase") or ""
            print(f"{time.monotonic() - began:6.1f} s  {message.type}  {words}", flush=True)
        queue.ack(deliveries)
        if outcome in ("succeeded", "workflow_failed", "system_failed"):
            print(message.body["log_tail"], message.body["outputs"], sep="\n")
            break
    queue.close()
    print(f"{time.monotonic() - began:6.1f} s  {outcome}")
    if outcome == "succeeded":
        return 0
    print("".join(machine.console().splitlines(keepends=True)[-200:]))
    return 1


sys.exit(main())
