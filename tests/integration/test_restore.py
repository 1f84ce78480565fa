"""A database is restored from a while ago, as docs/backup.md says, with jobs in every state meanwhile.

A thread watches the cloud all the time: at no moment does a job have two servers.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.test_servers_and_check import CloudSite, fake  # noqa: F401 - a fixture
from tests.support import postgres_server as postgres
from tests.support.fake_openstack import OpenStackFake
from tests.support.local_site import Gate, wait_for, workflow_on_vms
from tests.support.postgres_server import Database
from tests.support.rabbitmq_server import VirtualHost

PG_RESTORE = ("pg_restore", "--exit-on-error", "--single-transaction", "--no-owner")


class Watch:
    """Looks all the time which servers each job has.

    Args:
        fake: the cloud.
    """

    def __init__(self, fake: OpenStackFake) -> None:  # noqa: F811
        self._fake = fake
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.twice: list[str] = []
        self._thread.start()

    def _look(self) -> None:
        while not self._is_over.wait(0.02):
            counts = Counter(
                each.metadata.get("lando_job_id") for each in [*self._fake.cloud.servers.values()]
            )
            self.twice += [str(job) for job, count in counts.items() if count > 1 and job is not None]

    def close(self) -> None:
        self._is_over.set()
        self._thread.join()


class RestoredSite(CloudSite):
    """A site whose database is backed up and restored."""

    def __init__(
        self,
        root: Path,
        fake: OpenStackFake,  # noqa: F811
        here: VirtualHost,
        database: Database | None,
    ) -> None:
        super().__init__(root, fake, here)
        self.database = database
        self.backups = root / "backups"
        self.backups.mkdir()
        self.watch = Watch(fake)
        if database is not None:
            self.settings["database"] = {"url": database.url}
            self.configure()
            pg_dump = postgres.program("pg_dump")
            assert pg_dump is not None
            self.environment["PATH"] = f"{pg_dump.parent}:{self.environment['PATH']}"

    def states(self) -> dict[str, str]:
        return {shown["id"]: shown["state"] for shown in self.look()}

    def job_on_vm(self, script: str, name: str) -> str:
        return self.submit(workflow_on_vms(self.root, script, name))

    def stop_daemon(self) -> None:
        self.daemons[-1].send_signal(signal.SIGTERM)
        assert self.daemons[-1].wait() == 0

    def back_up(self) -> Path:
        return Path(self.command("database", "backup", self.backups, "--keep", "2").stdout.strip())

    def restore(self, backup: Path) -> None:
        """The commands of docs/backup.md."""
        if self._views is not None:
            self._views.close()
            self._views = None
        if self.database is None:
            for path in self.state.glob("lando.db*"):
                path.unlink()
            target = self.state / "lando.db"
            subprocess.run(["cp", backup, target], check=True)
            return
        server = self.database.server
        restored = server.create(migrated=False)
        address = sa.make_url(restored.url)
        where = f"postgresql://{address.username}@{address.host}:{address.port}/{address.database}"
        environment = {**self.environment, "PGPASSWORD": str(address.password)}
        subprocess.run([*PG_RESTORE, "--dbname", where, backup], env=environment, check=True)
        name = sa.make_url(self.database.url).database
        server.execute(f"ALTER DATABASE {name} RENAME TO {name}_before")
        server.execute(f"ALTER DATABASE {address.database} RENAME TO {name}")
        server.remove(f"{name}_before")

    def close(self) -> None:
        self.watch.close()
        super().close()


@pytest.fixture(params=["sqlite", "postgresql"])
def cloud(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fake: OpenStackFake,  # noqa: F811
    least_privilege: VirtualHost,
) -> Iterator[RestoredSite]:
    database = request.getfixturevalue("postgres_database") if request.param == "postgresql" else None
    here = RestoredSite(tmp_path, fake, least_privilege, database)
    yield here
    here.close()


def findings(cloud: RestoredSite) -> str:
    """The line of ``check`` about that, with what follows it."""
    lines = cloud.command("check", check=False).stdout.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("unknown"))
    rest = [line for line in lines[first + 1 :] if line.startswith("    ")]
    return "\n".join((lines[first], *rest))


def test_no_job_runs_twice_at_once_and_what_is_not_known_is_told(cloud: RestoredSite, gate: Gate) -> None:
    once = cloud.root / "failed-once"
    fails_once = f"if ! test -e {once}; then touch {once}; exit 1; fi\n{gate.script}"
    cloud.start_daemon()
    done = cloud.job_on_vm("true", "done")
    failed = cloud.job_on_vm(fails_once, "failed")
    running = cloud.job_on_vm(gate.script, "running")
    canceled = cloud.job_on_vm(gate.script, "canceled")
    gate.wait_for_arrivals(2)
    cloud.wait_all_ended([done, failed])
    cloud.fake.quotas["instances"] = 2
    queued = cloud.job_on_vm(gate.script, "queued")
    wait_for(lambda: "quota" in cloud.job(queued)["reason"], "the job to wait for the quota")
    backup = cloud.back_up()

    cloud.fake.quotas["instances"] = 10
    cloud.command("retry", failed)
    lost = cloud.job_on_vm(gate.script, "lost")
    gate.wait_for_arrivals(5)
    cloud.command("cancel", canceled)
    cloud.wait(canceled, "failed")
    cloud.stop_daemon()
    cloud.restore(backup)
    unknown = {queued, failed, lost}
    servers = {each.id for each in cloud.fake.cloud.servers.values()}
    assert len(servers) == 4

    before = findings(cloud)
    assert before.startswith("unknown VMs      warning  3 VMs are unknown to this database, and left alone")
    assert f"1 job that this database does not have is named by VMs or reports: job {lost} " in before
    assert f"job {queued} is not started" in before

    cloud.start_daemon()
    gate.wait_for_arrivals(6)  # the canceled one runs again: nobody remembers the cancel
    cloud.wait(canceled, "running")
    cloud.wait(running, "running")
    found = cloud.servers()
    assert {each["job"] for each in found["servers"] if each["belongs_to"] == "unknown"} == unknown
    assert "not started while the cloud has VM lando-" in cloud.job(queued)["reason"]
    assert cloud.job(failed)["state"] == "failed"
    shown = cloud.command("status").stderr
    assert "3 VMs" in shown
    assert "1 job that this database does not have is named by VMs" in shown
    assert lost in shown
    asked = cloud.command("status", lost, check=False)
    assert asked.returncode == 2
    assert f"no job '{lost}'; 1 job that this database does not have is named by VMs" in asked.stderr

    gate.let_through(5)
    cloud.wait(running, "done")
    cloud.wait(canceled, "done")
    wait_for(lambda: f"job {lost}, which this database does not have" in cloud.daemon_log(), "the report")
    letters = json.loads(cloud.command("dead-letters", "--json").stdout)
    assert any(lost in each["reason"] for each in letters), "its result is kept"
    assert cloud.job(queued)["state"] == "queued"
    assert servers >= {each["id"] for each in cloud.servers()["servers"] if each["belongs_to"] == "unknown"}
    assert len(cloud.fake.cloud.servers) == 3, "what is unknown is left alone, finished or not"

    cloud.command("servers", "--sweep", "--unknown")
    cloud.submit(cloud.root / "lost.yml", lost)
    cloud.command("retry", failed)
    gate.let_through(3)
    ended = {each["id"]: each["state"] for each in cloud.wait_all_ended([queued, failed, lost])}
    assert ended == dict.fromkeys(unknown, "done")
    wait_for(lambda: not cloud.fake.cloud.servers, "no server to be left")
    assert cloud.watch.twice == []
    assert "ok" in findings(cloud).splitlines()[0]
