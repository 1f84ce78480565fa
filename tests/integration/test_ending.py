"""A daemon ends within five seconds whatever is stuck, and the next one continues."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lando.app.service import Service
from tests.support.fake_openstack.faults import Fault
from tests.support.forked_commands import Started, start_command
from tests.support.local_site import BIN, PATIENCE, Gate, LocalSite, wait_for, workflow
from tests.support.openstack_project import FakeFacility
from tests.support.openstack_site import Stage
from tests.support.rabbitmq_server import Broker, VirtualHost
from tests.support.rabbitmq_site import BrokerSite

LIMIT = 5.0
"""Seconds from the request to the end of the process."""
IN_A_CALL = 1.3
"""Seconds after which the daemon is in the midst of a call to what was stopped: it does so once a second."""
LATER = 2.5
"""Seconds after which that call to the database has failed."""

Record = Callable[[str, object], None]


def ends_in_time(site: LocalSite, daemon: Started, record: Record, what: str) -> str:
    """Send SIGTERM; the daemon's log once it has ended, in time, with exit code 0."""
    daemon.send_signal(signal.SIGTERM)
    return has_ended_in_time(site, daemon, record, what)


def has_ended_in_time(site: LocalSite, daemon: Started, record: Record, what: str) -> str:
    began = time.monotonic()
    code = daemon.wait(timeout=PATIENCE)
    seconds = time.monotonic() - began
    record("seen", f"{what}: ended after {seconds:.1f} s")
    log = site.daemon_log()
    assert code == 0, (code, log)
    assert seconds < LIMIT, (seconds, log)
    assert "Traceback" not in log
    return log


def wait_for_log(site: LocalSite, words: str) -> None:
    wait_for(lambda: re.search(words, site.daemon_log()), f"{words!r} in the log")


# the broker


@pytest.fixture
def stalling(tmp_path: Path, private_broker: Broker) -> Iterator[BrokerSite]:
    """A site whose broker a test may pause."""
    site = BrokerSite(tmp_path / "site", private_broker.virtual_host())
    yield site
    private_broker.resume()
    site.close()


@pytest.mark.parametrize("after", [0.0, IN_A_CALL], ids=["at once", "in a call"])
def test_a_broker_that_stalls(
    stalling: BrokerSite, private_broker: Broker, gate: Gate, record_property: Record, after: float
) -> None:
    daemon = stalling.start_daemon()
    job = stalling.queue_job(workflow(stalling.root, gate.script))
    gate.wait_for_arrivals()
    stalling.wait(job, "running")
    private_broker.pause()
    time.sleep(after)
    log = ends_in_time(stalling, daemon, record_property, f"broker stalled for {after:g} s")
    assert re.search("stopped; running|ended while it waited for the work queue; nothing is lost", log)
    private_broker.resume()
    stalling.start_daemon()
    gate.let_through()
    assert stalling.wait(job, "done", "failed")["attempt"] == 1
    stalling.nothing_is_left()


def test_a_broker_that_stalls_before_the_start(
    stalling: BrokerSite, private_broker: Broker, record_property: Record
) -> None:
    stalling.start_daemon().kill()  # the queue is there
    job = stalling.queue_job(workflow(stalling.root, "true"))
    private_broker.pause()
    daemon = stalling.start_daemon(ready=False)
    wait_for_log(stalling, "configuration:")
    time.sleep(0.5)
    log = ends_in_time(stalling, daemon, record_property, "broker stalled before the start")
    assert "ended while it waited for the work queue; nothing is lost" in log
    private_broker.resume()
    stalling.start_daemon()
    assert stalling.wait(job, "done", "failed")["attempt"] == 1
    stalling.nothing_is_left()


# the database


@contextmanager
def locked(site: LocalSite, how: str = "IMMEDIATE") -> Iterator[None]:
    """Another process holds the database's lock."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n"
        "connection.execute(f'BEGIN {sys.argv[2]}')\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(site.state / "lando.db"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield
    finally:
        holder.communicate()


@pytest.mark.parametrize("how", ["IMMEDIATE", "EXCLUSIVE"])
@pytest.mark.parametrize("after", [IN_A_CALL, LATER], ids=["in a call", "later"])
def test_a_locked_database(
    quick: LocalSite, gate: Gate, record_property: Record, how: str, after: float
) -> None:
    daemon = quick.start_daemon()
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    with locked(quick, how):
        time.sleep(after)
        log = ends_in_time(quick, daemon, record_property, f"database locked ({how}) for {after:g} s")
    assert re.search("stopped; running|ended while it waited for the database; nothing is lost", log)
    quick.start_daemon()
    gate.let_through()
    assert quick.wait(job, "done", "failed")["attempt"] == 1
    quick.nothing_is_left()


def test_a_database_that_is_locked_at_the_start_is_waited_for(quick: LocalSite) -> None:
    job = quick.submit(workflow(quick.root, "true"))
    with locked(quick):
        daemon = quick.start_daemon(ready=False)
        wait_for_log(quick, r"lando.db: database is locked; retrying in .* s, nothing is lost")
        assert daemon.poll() is None
    assert quick.wait(job, "done", "failed")["state"] == "done"
    quick.nothing_is_left()


def test_a_daemon_that_ends_while_it_waits_for_its_database_says_so(
    quick: LocalSite, record_property: Record
) -> None:
    """Between two tries, too."""
    quick.make_state()
    with locked(quick):
        daemon = quick.start_daemon(ready=False)
        wait_for_log(quick, r"lando.db: database is locked; retrying in .* s, nothing is lost")
        log = ends_in_time(quick, daemon, record_property, "database locked at the start")
    assert "ended while it waited for the database; nothing is lost" in log


def test_a_database_that_is_locked_once_it_is_open_is_waited_for(
    quick: LocalSite, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the opening and the first iteration, as no process could be made to do at will."""
    quick.make_state()
    ready = threading.Event()
    with closing(Service(quick.app())) as service:
        daemon = threading.Thread(target=service.run, args=[ready.set])
        with locked(quick):
            daemon.start()
            wait_for(lambda: "database is locked; retrying in" in caplog.text, "the first try to fail")
        assert ready.wait(PATIENCE), caplog.text
        service.daemon.stop()
        daemon.join()


def test_a_database_that_is_locked_before_it_is_migrated(quick: LocalSite, record_property: Record) -> None:
    quick.state.mkdir(mode=0o700)
    with locked(quick):
        daemon = quick.start_daemon(ready=False)
        wait_for_log(quick, "configuration:")
        time.sleep(0.5)
        log = ends_in_time(quick, daemon, record_property, "database locked before its migration")
    assert "ended while it waited for the database; nothing is lost" in log
    job = quick.submit(workflow(quick.root, "true"))
    quick.start_daemon()
    assert quick.wait(job, "done", "failed")["state"] == "done"


def test_a_second_signal_ends_it_at_once(quick: LocalSite) -> None:
    daemon = quick.start_daemon()
    with locked(quick):
        time.sleep(IN_A_CALL)
        daemon.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        daemon.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert daemon.wait(timeout=PATIENCE) == 0
        assert time.monotonic() - began < 1
    assert "ended while it waited for the database; nothing is lost" in quick.daemon_log()


# the first moment


def test_signals_count_while_its_parts_are_loaded(quick: LocalSite) -> None:
    """Nothing slow is imported before signals are handled."""
    code = (
        "import sys\n"
        "from lando.cli.main import lando_fsm\n"
        "from lando.cli.ending import Ending\n"
        "def made(self):\n"
        "    print(*sorted(sys.modules))\n"
        "    raise SystemExit\n"
        "Ending.__init__ = made\n"
        "lando_fsm.main(['daemon'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lando.cli.daemon" in loaded, done.stderr
    assert loaded.isdisjoint({"sqlalchemy", "pika", "yaml", "lando.app", "sqlite3"}), loaded


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
@pytest.mark.parametrize("is_locked", [True, False], ids=["while it starts", "in the midst"])
def test_as_process_1(quick: LocalSite, record_property: Record, is_locked: bool) -> None:
    """A signal that process 1 does not handle is dropped by the kernel: pid_namespaces(7)."""
    quick.make_state()
    quick.inside = ["unshare", "--pid", "--fork", "--kill-child"]
    if is_locked:
        with locked(quick):
            unshare = quick.start_daemon(ready=False)
            wait_for_log(quick, "configuration:")
            os.kill(only_child(unshare), signal.SIGTERM)
            log = has_ended_in_time(quick, unshare, record_property, "as process 1, at its start")
        assert "ended while it waited for" in log
    else:
        unshare = quick.start_daemon()
        os.kill(only_child(unshare), signal.SIGTERM)
        log = has_ended_in_time(quick, unshare, record_property, "as process 1")
        assert "stopped; running workflows keep running" in log


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_a_signal_to_process_1_while_the_command_line_is_loaded_is_kept(quick: LocalSite) -> None:
    code = (
        "import builtins, os, signal, sys\n"
        "from lando.cli import start\n"
        "load = builtins.__import__\n"
        "def loading(name, *more):\n"
        "    if name == 'lando.cli.main':\n"
        "        builtins.__import__ = load\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return load(name, *more)\n"
        "builtins.__import__ = loading\n"
        "assert os.getpid() == 1\n"
        "sys.argv = ['lando-fsm', 'daemon']\n"
        "start.main()\n"
    )
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    subprocess.run([*unshare, sys.executable, "-c", code], env=quick.environment, timeout=20, check=True)


def only_child(process: Started) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


@contextmanager
def daemon_with_a_full_log(site: LocalSite) -> Iterator[Started]:
    """A daemon that starts while nobody reads its log."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, b"." * 4096)
    os.set_blocking(write_end, True)
    with os.fdopen(read_end), os.fdopen(write_end, "w") as full:
        daemon = start_command(
            [str(BIN / "lando-fsm"), "daemon"], site.environment, site.root, full, fresh=True
        )
        site.started.append(daemon)
        yield daemon


def test_a_log_that_nobody_reads(quick: LocalSite) -> None:
    """Its first line does not get through, and neither does its last."""
    with daemon_with_a_full_log(quick) as daemon:
        wait_for(lambda: threads_of(daemon) > 1, "signals to be handled")
        time.sleep(0.3)  # until it writes
        daemon.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert daemon.wait(timeout=PATIENCE) == 0
        assert time.monotonic() - began < LIMIT


@pytest.mark.parametrize("kind", ["error", "bug"])
def test_an_error_that_nobody_reads_ends_it(quick: LocalSite, kind: str) -> None:
    if kind == "error":
        quick.start_daemon()
    else:
        broken = "import lando.cli.daemon\nlando.cli.daemon._serve = None\n"
        (quick.root / "sitecustomize.py").write_text(broken)
        quick.environment["PYTHONPATH"] = str(quick.root)
    with daemon_with_a_full_log(quick) as second:
        assert second.wait(timeout=PATIENCE) == (2 if kind == "error" else 1)


def test_a_signal_after_its_end_ends_the_process(quick: LocalSite) -> None:
    """Whatever may still hold it: an exit handler of a library, say."""
    code = (
        "import time\n"
        "from lando.cli.ending import Ending\n"
        "Ending().close()\n"
        "print('closed', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"closed\n"
        process.terminate()
        try:
            assert process.wait(PATIENCE) == -signal.SIGTERM
        finally:
            process.kill()


def threads_of(process: Started) -> int:
    return len(list(Path(f"/proc/{process.pid}/task").iterdir()))


# the cloud


@pytest.fixture
def stage(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[Stage]:
    pytest.importorskip("novaclient", reason="python-novaclient is not installed")
    facility = FakeFacility(tmp_path / "machines")
    here = Stage(tmp_path, least_privilege, facility, print)
    yield here
    here.close()
    facility.close()


@pytest.mark.parametrize("by", ["SIGTERM", "shutdown_server"])
def test_a_create_that_hangs(stage: Stage, record_property: Record, by: str) -> None:
    site = stage.site()
    daemon = site.start_daemon()
    hanging = site.proxy.faults.add(Fault("POST compute /servers", work="once", hang=8, ending="close"))
    (job,) = site.queue_jobs(1)
    wait_for(lambda: hanging.happened, "the create to be sent")
    if by == "SIGTERM":
        daemon.send_signal(signal.SIGTERM)
    else:
        site.client.command("shutdown_server")
    log = has_ended_in_time(site, daemon, record_property, f"a create that hangs, {by}")
    assert "1 operations are still in progress; the next daemon resumes them" in log
    site.proxy.faults.clear()
    site.start_daemon()
    (done,) = site.wait_all_done([job])
    assert (done.job.attempt, site.runs) == (1, 1)
    site.nothing_is_left(sweeps=True)


def test_a_cloud_that_never_answers(
    tmp_path: Path, least_privilege: VirtualHost, record_property: Record
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as never:
        cloud = (
            f"cloud_settings: {{auth_url: 'http://127.0.0.1:{never.getsockname()[1]}/v3', username: lando, "
            "user_domain_name: Default, project_name: lando, project_domain_name: Default, password: x}\n"
            "vm_settings: {worker_image_name: lando, ssh_key_name: lando, network_name: net}\n"
        )
        with closing(BrokerSite(tmp_path / "site", least_privilege, cloud=cloud)) as site:
            daemon = site.start_daemon()
            site.queue_job(workflow(site.root, "true"))
            ends_in_time(site, daemon, record_property, "a cloud that never answers")
