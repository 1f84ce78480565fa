"""The database's file is whole after a stop, and not used when it is damaged or not the same any more."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.forked_commands import Started
from tests.support.local_site import PATIENCE, Gate, LocalSite, migrated_database, wait_for, workflow

LIMIT = 5.0
"""Seconds that a daemon has to end."""


def database(site: LocalSite) -> Path:
    return site.state / "lando.db"


def log_size(site: LocalSite) -> int:
    """Bytes of the write-ahead log; 0 if there is none."""
    log = site.state / "lando.db-wal"
    return log.stat().st_size if log.exists() else 0


def jobs_in_a_copy(site: LocalSite, name: str = "lando.db") -> dict[str, str]:
    """The states of the jobs in a copy of the one file."""
    copy = site.root / "copy" / "lando.db"
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(site.state / name, copy)
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(connection.execute("SELECT id, state FROM jobs"))


@contextmanager
def reader(site: LocalSite) -> Iterator[int]:
    """Another process reads from the database, and does not end; its pid."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN')\n"
        "connection.execute('SELECT count(*) FROM jobs').fetchone()\n"
        "print('reads', flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(database(site))], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reads\n"
        yield process.pid
    finally:
        process.communicate()


def stop(site: LocalSite, daemon: Started) -> str:
    """Its log, once it has ended in time."""
    daemon.terminate()
    began = time.monotonic()
    assert daemon.wait(timeout=PATIENCE) == 0
    assert time.monotonic() - began < LIMIT
    log = site.daemon_log()
    assert "Traceback" not in log
    return log


# whole after a stop


def test_after_a_stop_one_file_holds_everything(quick: LocalSite) -> None:
    """Also while another process has it open, as the views of this one."""
    daemon = quick.start_daemon()
    job = quick.submit(workflow(quick.root, "true"))
    quick.wait(job, "done")
    assert quick.look(job)
    log = stop(quick, daemon)
    assert "is not whole" not in log
    assert log_size(quick) == 0
    assert jobs_in_a_copy(quick) == {job: "done"}


def test_a_reader_that_does_not_end_delays_no_stop_and_is_named(quick: LocalSite) -> None:
    daemon = quick.start_daemon()
    with reader(quick) as pid:
        job = quick.submit(workflow(quick.root, "true"))
        quick.wait(job, "done")
        log = stop(quick, daemon)
        assert f"lando.db is not whole without lando.db-wal: process {pid} still reads" in log
    log = stop(quick, quick.start_daemon())
    assert "is not whole" not in log
    assert jobs_in_a_copy(quick) == {job: "done"}


def test_commands_leave_a_whole_file_where_they_are_the_last(quick: LocalSite) -> None:
    quick.make_state()
    quick.command("submit", workflow(quick.root, "true"))
    assert {path.name for path in quick.state.iterdir()} == {"lando.db"}
    with closing(sqlite3.connect(database(quick))) as connection:
        assert connection.execute("SELECT count(*) FROM queue_messages").fetchone() == (1,)
    quick.command("run", workflow(quick.root, "true", "second"))
    assert log_size(quick) == 0
    assert sorted(jobs_in_a_copy(quick).values()) == ["done", "done"]


def test_what_a_command_reads_is_closed_at_its_end(quick: LocalSite) -> None:
    quick.make_state()
    app = quick.app()
    views = app.views()
    assert views.jobs() == []
    assert (quick.state / "lando.db-wal").exists()
    app.close()
    assert {path.name for path in quick.state.iterdir()} == {"lando.db"}
    assert views.jobs() == [], "they open it again"
    app.close()


# not the same file any more


def backup(site: LocalSite) -> Path:
    """Made by SQLite, while the daemon runs."""
    target = site.root / "backup.db"
    with (
        closing(sqlite3.connect(database(site))) as connection,
        closing(sqlite3.connect(target)) as copy,
    ):
        connection.backup(copy)
    return target


def overwrite(site: LocalSite, contents: Path) -> None:
    shutil.copyfile(contents, database(site))


def replace(site: LocalSite, contents: Path) -> None:
    shutil.copyfile(contents, site.root / "new")
    os.replace(site.root / "new", database(site))


def restore_through_sqlite(site: LocalSite, contents: Path) -> None:
    with (
        closing(sqlite3.connect(contents)) as connection,
        closing(sqlite3.connect(database(site))) as copy,
    ):
        connection.backup(copy)


def remove(site: LocalSite, suffix: str = "") -> None:
    (site.state / f"lando.db{suffix}").unlink()


CHANGES: dict[str, tuple[Callable[[LocalSite, Path], None], str, bool]] = {
    "removed": (lambda site, _: remove(site), "lando.db was removed or renamed while it was in use", True),
    "replaced": (replace, "lando.db was replaced by another file while it was in use", True),
    "overwritten": (overwrite, "lando.db was overwritten while it was in use", False),
    "restored through SQLite": (
        lambda site, _: restore_through_sqlite(site, old_backup(site)),
        "lando.db was overwritten while it was in use",
        False,
    ),
    "no log": (lambda site, _: remove(site, "-wal"), "lando.db-wal was re(moved|placed)", True),
    "no shm": (lambda site, _: remove(site, "-shm"), "lando.db-shm was re(moved|placed)", True),
}


def old_backup(site: LocalSite) -> Path:
    path = site.root / "old.db"
    path.write_bytes(migrated_database())
    return path


@pytest.mark.parametrize("how", CHANGES)
def test_a_database_that_is_not_the_same_any_more_ends_the_daemon(
    quick: LocalSite, gate: Gate, how: str
) -> None:
    """It says so within seconds, though nothing happens; the job's VM runs on, and what it had is saved."""
    change, sentence, is_saved = CHANGES[how]
    daemon = quick.start_daemon()
    contents = backup(quick)
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    quick.views().close()
    change(quick, contents)
    assert daemon.wait(timeout=PATIENCE) == 2
    log = quick.daemon_log()
    assert re.search(sentence, log)  # the worker of the VM may have made a new file
    assert "Traceback" not in log
    assert len(quick.vms()) == 1 and quick.vm_processes()
    saved = [path.name for path in quick.state.iterdir() if ".saved-" in path.name]
    assert len(saved) == is_saved, log
    if not is_saved:
        assert "What it held is lost but for backups" in log
        return
    assert f"What it held was saved as {quick.state / saved[0]}" in log
    assert (quick.state / saved[0]).stat().st_mode & 0o777 == 0o600
    assert jobs_in_a_copy(quick, saved[0]) == {job: "running"}
    # As docs/operations.md says. Reports that were sent meanwhile went into the other file, if there was one.
    for suffix in ("", "-wal", "-shm"):
        (quick.state / f"lando.db{suffix}").unlink(missing_ok=True)
    (quick.state / saved[0]).rename(database(quick))
    quick.start_daemon()
    gate.let_through()
    assert quick.wait(job, "done", "failed")["attempt"] == 1
    quick.nothing_is_left()


@pytest.mark.parametrize("how", ["removed", "replaced", "overwritten"])
def test_a_stop_at_once_does_not_write_to_a_file_that_is_not_the_same(quick: LocalSite, how: str) -> None:
    """Nothing has looked at the files since; what was there before is saved, or told to be lost."""
    change, sentence, is_saved = CHANGES[how]
    daemon = quick.start_daemon()
    contents = old_backup(quick)
    job = quick.submit(workflow(quick.root, "true"))
    quick.wait(job, "done")
    quick.views().close()
    change(quick, contents)
    daemon.terminate()
    assert daemon.wait(timeout=PATIENCE) == 2
    log = quick.daemon_log()
    assert sentence in log and "stopped; running workflows" not in log
    assert not database(quick).exists() or database(quick).read_bytes() == contents.read_bytes()
    saved = [path.name for path in quick.state.iterdir() if ".saved-" in path.name]
    assert len(saved) == is_saved, log
    assert not is_saved or jobs_in_a_copy(quick, saved[0]) == {job: "done"}
    assert is_saved or "What it held is lost but for backups. What belonged to it was renamed" in log
    if how != "removed":
        assert quick.status() == []
        assert jobs_in_a_copy(quick) == {}


def test_run_says_what_became_of_a_database_that_was_removed(quick: LocalSite, gate: Gate) -> None:
    """The command itself meets it first."""
    running = quick.start("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    wait_for(lambda: quick.look()[0]["state"] == "running", "the daemon to have no more to do")
    quick.views().close()
    remove(quick)
    _, err = running.communicate(timeout=PATIENCE)
    (saved,) = quick.state.glob("lando.db.saved-*")
    assert running.returncode == 2 and "Traceback" not in err
    assert f"What it held was saved as {saved}" in err
    assert len(jobs_in_a_copy(quick, saved.name)) == 1


def test_a_database_that_is_missing_is_told_where_another_one_was(quick: LocalSite, gate: Gate) -> None:
    """By check, status and the next daemon, though another process may have made a new file."""
    daemon = quick.start_daemon()
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    quick.views().close()
    remove(quick)
    assert daemon.wait(timeout=PATIENCE) == 2
    (saved,) = quick.state.glob("lando.db.saved-*")
    told = f"but {saved} has what a daemon saved of an earlier one and {quick.state / 'vms'} has 1 VM. "
    line = database_line(quick)
    assert line[17:24] == "warning" and told in line
    status = quick.command("status", "--json")
    assert status.stdout == "[]\n" and told in status.stderr
    quick.command("submit", workflow(quick.root, "true", "second"))
    line = database_line(quick)
    assert line[17:24] == "warning" and "lando.db: is new: no daemon has used it yet, " + told in line
    assert told in quick.command("status").stderr
    quick.start_daemon(make_state=False)
    assert "WARNING" in quick.daemon_log() and told in quick.daemon_log()
    assert told not in quick.command("status").stderr
    assert database_line(quick)[17:19] == "ok"


def database_line(site: LocalSite) -> str:
    """What check says of the database."""
    checked = site.command("check", check=False)
    return next(line for line in checked.stdout.splitlines() if line.startswith("database"))


def test_what_was_left_of_a_replaced_database_is_not_applied_to_the_new_one(quick: LocalSite) -> None:
    """SQLite takes any log of this name for the file's own."""
    daemon = quick.start_daemon()
    contents = backup(quick)
    quick.wait(quick.submit(workflow(quick.root, "true")), "done")
    quick.views().close()
    replace(quick, contents)
    assert daemon.wait(timeout=PATIENCE) == 2
    assert quick.status() == []
    assert jobs_in_a_copy(quick) == {}


def test_vacuum_and_a_checkpoint_of_another_process_are_no_difference(quick: LocalSite) -> None:
    daemon = quick.start_daemon()
    quick.wait(quick.submit(workflow(quick.root, "true")), "done")
    with closing(sqlite3.connect(database(quick), timeout=PATIENCE)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    time.sleep(1.5)  # until its files were looked at
    quick.wait(quick.submit(workflow(quick.root, "true", "second")), "done")
    assert "is not whole" not in stop(quick, daemon)


# damaged


def damage(site: LocalSite, *tables: str) -> None:
    """Overwrite the first page of some tables."""
    with closing(sqlite3.connect(database(site), timeout=PATIENCE)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        pages = [
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
            for table in tables
        ]
    with database(site).open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)


DAMAGED = r"lando.db: database disk image is malformed: the file is damaged, and was left as it is"


def test_a_database_that_is_damaged_while_it_is_in_use_ends_the_daemon(quick: LocalSite, gate: Gate) -> None:
    daemon = quick.start_daemon()
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    damage(quick, "jobs", "effects")
    with contextlib.closing(sqlite3.connect(database(quick), timeout=PATIENCE)) as connection, connection:
        connection.execute("INSERT INTO facts VALUES ('another process', '1')")  # else all is in its cache
    assert daemon.wait(timeout=PATIENCE) == 2
    log = quick.daemon_log()
    assert DAMAGED in log
    assert "Traceback" not in log and "retrying" not in log
    assert len(quick.vms()) == 1 and quick.vm_processes()


@pytest.mark.parametrize("kind", ["damaged", "no database"])
def test_a_damaged_database_is_told_at_once_by_every_command(quick: LocalSite, kind: str) -> None:
    quick.make_state()
    if kind == "damaged":
        damage(quick, "alembic_version", "jobs")
    else:
        database(quick).write_bytes(b"no database" * 1000)
    before = database(quick).read_bytes()
    words = "malformed" if kind == "damaged" else "file is not a database"
    daemon = quick.start_daemon(ready=False)
    assert daemon.wait(timeout=PATIENCE) == 2
    assert f"lando.db: {'database disk image is ' * (kind == 'damaged')}{words}" in quick.daemon_log()
    assert "retrying" not in quick.daemon_log()
    job = workflow(quick.root, "true")
    commands: list[list[str | Path]] = [["status"], ["run", job]]
    if kind == "no database":
        commands.append(["submit", job])  # which needs no table that the other kind damages
    for command in commands:
        done = quick.command(*command, check=False)
        assert done.returncode == 2, (command, done.stderr)
        assert words in done.stderr and "operations.md" in done.stderr and "retrying" not in done.stderr
    checked = quick.command("check", check=False)
    line = next(line for line in checked.stdout.splitlines() if line.startswith("database"))
    assert (checked.returncode, line[17:22]) == (1, "wrong")
    assert f"{database(quick)}: " in line and words in line
    assert database(quick).read_bytes() == before


def test_damage_that_nobody_has_met_yet_is_looked_for(quick: LocalSite) -> None:
    quick.make_state()
    damage(quick, "logs")
    quick.command("status")
    checked = quick.command("check", check=False)
    line = next(line for line in checked.stdout.splitlines() if line.startswith("database"))
    assert "wrong" in line and "the file is damaged" in line
    daemon = quick.start_daemon(ready=False)
    assert daemon.wait(timeout=PATIENCE) == 2
    assert "the file is damaged" in quick.daemon_log()


# a disk that is full, fails, or is read-only

needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")


@pytest.fixture
def small(quick: LocalSite) -> Iterator[LocalSite]:
    """A site whose state directory is a small disk of its own."""
    quick.state.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", quick.state],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        database(quick).touch(mode=0o600)
        database(quick).write_bytes(migrated_database())
        yield quick
    finally:
        quick.close()
        subprocess.run(["umount", "--lazy", quick.state], check=True)


def fill(site: LocalSite) -> Path:
    path = site.state / "fill"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"." * 4096)
    return path


FULL = r"lando.db: (database or disk is full|disk I/O error \(the disk is full, or fails).*; retrying in"
"""SQLite has other words where the file that it maps into memory finds no room."""


@needs_mounts
@pytest.mark.parametrize("when", ["at its start", "before its database is there", "while it runs"])
def test_a_full_disk_is_waited_for(small: LocalSite, when: str) -> None:
    if when == "before its database is there":
        database(small).unlink()
    daemon = small.start_daemon() if when == "while it runs" else None
    job = None if daemon is None else small.submit(workflow(small.root, "true"))
    filler = fill(small)
    if daemon is None:
        daemon = small.start_daemon(ready=False, make_state=False)
    wait_for(lambda: re.search(FULL, small.daemon_log()), "the full disk to be told")
    assert daemon.poll() is None
    filler.unlink()
    job = job or small.submit(workflow(small.root, "true"))
    # Perhaps in a second attempt: the VM, if there was one, was on the same full disk.
    assert small.wait(job, "done", "failed")["state"] == "done"
    assert "Traceback" not in stop(small, daemon)


@needs_mounts
def test_a_full_disk_names_the_job_that_fills_it(small: LocalSite, gate: Gate) -> None:
    daemon = small.start_daemon()
    flood = 'dd if=/dev/zero of="$TMPDIR/big" bs=4096; echo no more >&2; ' + gate.script + "exit 9"
    job = small.submit(workflow(small.root, flood, "flood"))
    named = rf"the disk of {small.state} is full; the largest of its jobs is {job}: [0-9.]+ MB, in .*/vms/"
    wait_for(lambda: re.search(named, small.daemon_log()), "the job to be named")
    assert daemon.poll() is None
    gate.let_through()
    failed = small.wait(job, "failed")
    assert failed["outcome"] == "workflow_failed"
    assert re.search(r"; the disk of .*/vms/\w+ is full: this job has [0-9.]+ MB there", failed["reason"])
    after = small.submit(workflow(small.root, "true", "after"))
    assert small.wait(after, "done", "failed")["state"] == "done"
    assert "Traceback" not in stop(small, daemon)


@needs_mounts
def test_a_full_disk_delays_no_stop(small: LocalSite) -> None:
    daemon = small.start_daemon()
    fill(small)
    log = stop(small, daemon)
    assert "lando.db is not whole without lando.db-wal" in log and "disk is full" in log


@needs_mounts
def test_a_disk_that_is_read_only_is_told(small: LocalSite) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small.state], check=True)
    daemon = small.start_daemon(ready=False, make_state=False)
    assert daemon.wait(timeout=PATIENCE) == 2
    assert f"{small.state}: is not writable" in small.daemon_log()
    assert "its disk is mounted read-only" in small.daemon_log()
    checked = small.command("check", check=False)
    assert "its disk is mounted read-only" in checked.stdout
    subprocess.run(["mount", "-o", "remount,rw", small.state], check=True)
    stop(small, small.start_daemon())


def test_a_disk_that_fails_is_waited_for(quick: LocalSite) -> None:
    """Writes beyond a limit for the size of files fail with EFBIG: setrlimit(2)."""
    daemon = quick.start_daemon()
    limits = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (20_000, limits[1]))
    job = quick.submit(workflow(quick.root, "true"))
    wait_for(
        lambda: "lando.db: disk I/O error (the disk is full, or fails" in quick.daemon_log(),
        "the error to be told",
    )
    assert daemon.poll() is None
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, limits)
    assert quick.wait(job, "done", "failed")["attempt"] == 1
    stop(quick, daemon)
