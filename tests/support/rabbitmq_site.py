"""A site whose work queue is a virtual host of a test's own; VMs are local, unless told otherwise."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pika
import psycopg
import yaml
from pika.adapters.blocking_connection import BlockingChannel

from lando.config import job_file
from lando.messages import Message
from tests.support.forked_commands import Started, start_command
from tests.support.local_site import BIN, QUICK, LocalSite, wait_for
from tests.support.rabbitmq_server import Account, VirtualHost

NOWHERE = "/dev/null/nowhere"
"""A path that nobody can make, not even root."""


class BrokerSite(LocalSite):
    """A LocalSite with RabbitMQ, and who uses it from elsewhere.

    Args:
        root: its directory.
        here: the virtual host.
        max_workers, config: see ``LocalSite``.
        cloud: what the configuration says of where VMs are.
        database: the URL of a database with the schema on PostgreSQL; SQLite where None.
        work_queue: more keys of ``work_queue``, or other values.
    """

    def __init__(
        self,
        root: Path,
        here: VirtualHost,
        max_workers: int = 4,
        config: str = QUICK,
        cloud: str = "cloud: local",
        database: str | None = None,
        **work_queue: Any,
    ) -> None:
        of_database = "" if database is None else yaml.safe_dump({"database": {"url": database}})
        more = f"{cloud}\n{here.landoconfig(**work_queue)}{of_database}"
        more = more.replace("{", "{{").replace("}", "}}")
        root.mkdir(exist_ok=True)
        super().__init__(root, max_workers, f"{config}\n{more}")
        self.config.chmod(0o600)
        self.here = here
        self.client = Client(root / "client", here, self.environment)
        self._database = database
        self._connection: psycopg.Connection[Any] | None = None

    def make_state(self) -> None:
        """Make the state directory, and the database where it is a file in it."""
        if self._database is None:
            super().make_state()
        else:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)

    def states(self) -> dict[str, str]:
        """The states of the jobs that a daemon has taken; none while the database cannot be asked."""
        if self._database is None:
            return super().states()
        try:
            if self._connection is None or self._connection.closed:
                url = self._database.replace("+psycopg", "", 1)
                self._connection = psycopg.connect(url, autocommit=True, connect_timeout=2)
            return dict(self._connection.execute("SELECT id, state FROM jobs").fetchall())
        except psycopg.OperationalError:
            return {}

    def close(self) -> None:
        """End daemons, commands, and what is left of VMs."""
        super().close()
        if self._connection is not None:
            self._connection.close()

    # the queue

    def publish(
        self, *messages: Message, account: Account | None = None, exchange: str | None = None
    ) -> None:
        """Publish as the client's account, unless another is named; returns when all are confirmed."""
        exchange = self.here.names.commands if exchange is None else exchange
        self.publish_raw([message.encode() for message in messages], account, exchange)

    def publish_raw(self, bodies: Sequence[bytes], account: Account | None, exchange: str) -> None:
        """Publish bytes, whatever they are."""
        account = account or self.here.client
        with self.here.connect(account) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            properties = pika.BasicProperties(delivery_mode=2, user_id=account.username)
            for body in bodies:
                channel.basic_publish(exchange, self.here.queue_name, body, properties, mandatory=True)

    def queue_job(self, job: Path, job_id: str | None = None) -> str:
        """What ``submit`` does, without the cost of a process; the job's id."""
        job_id = job_id or str(uuid.uuid4())
        body = job_file.read(job).as_body()
        self.publish(Message("start_worker", body, job=job_id, id=f"start-{job_id}"))
        return job_id

    def letters(self) -> list[tuple[str, bytes]]:
        """The dead letters: reason and bytes. They stay where they are."""
        with self.here.connect(self.here.admin) as connection:
            queues = (self.here.names.dead_letters, self.here.names.report_letters)
            return [letter for queue in queues for letter in _each(connection.channel(), queue)]

    def wait_for_letters(self, count: int, patience: float) -> list[tuple[str, bytes]]:
        """Wait until there are so many dead letters."""
        wait_for(lambda: self._count_letters() >= count, f"{count} dead letters", patience)
        return self.letters()

    def _count_letters(self) -> int:
        names = self.here.names
        return sum(self.here.messages(queue) for queue in (names.dead_letters, names.report_letters))

    def nothing_is_left(self) -> None:
        """No VM, no message, no dead letter."""
        super().nothing_is_left()
        for queue in (self.here.names.queue, self.here.names.reports):
            wait_for(partial(self._is_empty, queue), f"the queue {queue} to be empty")
        assert self.letters() == []

    def _is_empty(self, queue: str) -> bool:
        return self.here.messages(queue) == 0

    # jobs

    def proof(self, job_id: str) -> dict[str, Any]:
        """What the worker of a running job proves itself with: job, attempt and token."""
        for file in (self.state / "vms").rglob("worker.json"):
            settings = json.loads(file.read_text())
            if settings["job"] == job_id:
                return {key: settings[key] for key in ("job", "attempt", "token")}
        raise AssertionError(f"no VM of job {job_id}")

    def logs_of_all_daemons(self) -> str:
        """What all daemons wrote."""
        return "".join((self.root / f"daemon-{n}.log").read_text() for n in range(1, self.logs + 1))


def _each(channel: BlockingChannel, queue: str) -> Iterator[tuple[str, bytes]]:
    while True:
        method, properties, raw = channel.basic_get(queue)
        if method is None:
            return
        yield properties.headers["reason"], raw


class Client:
    """Somebody with ``lando-client`` and a workerconfig.yml who can reach nothing but the broker."""

    def __init__(self, root: Path, here: VirtualHost, environment: dict[str, str]) -> None:
        root.mkdir()
        self.root = root
        self.config = root / "workerconfig.yml"
        self.config.write_text(here.workerconfig())
        self.config.chmod(0o600)
        self.environment = {
            **{key: value for key, value in environment.items() if key != "LANDO_CONFIG"},
            "HOME": NOWHERE,
            "XDG_STATE_HOME": NOWHERE,
            "LANDO_STATE_DIR": NOWHERE,
        }

    def start(self, *arguments: str | Path) -> Started:
        """Start ``lando-client workerconfig.yml ARGUMENTS``."""
        return start_command(
            [str(BIN / "lando-client"), self.config.name, *map(str, arguments)], self.environment, self.root
        )

    def command(self, *arguments: str | Path) -> str:
        """Run it to its end, which is good; what it prints."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, (arguments, out, err)
        return out.strip()


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextlib.contextmanager
def within(seconds: float, what: str) -> Iterator[None]:
    """The block takes no longer than so."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    assert took <= seconds, f"{what} took {took:.1f} s, more than {seconds:g} s"
