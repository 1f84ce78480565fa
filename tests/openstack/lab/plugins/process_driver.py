"""Nova virt driver whose servers are process trees on this machine.

A server runs its user data, if that begins with ``#!``, as root, in a process namespace with a hostname of
its own, and stays up when it has ended. Deleting, stopping or rebooting the server kills everything that it
started. All else (scheduling, states, networking) is Nova's, with the bookkeeping of its fake driver.

A server's directory is ``vms/SERVER_ID`` of the lab's: console.log, user-data, home (HOME and working
directory), exit (user data's exit code). The commands ``poweroff``, ``halt``, ``shutdown`` and ``reboot`` act
on the server.

Knobs, read from ``knobs.json`` whenever a server is built or deleted:

    spawn_delay: S                 the build takes S seconds longer; or [MIN, MAX]
    spawn_fail_every: N            every Nth build fails: ERROR
    spawn_hang_every: N            every Nth build stays in BUILD until the server is deleted
    never_run_userdata_every: N    every Nth server becomes ACTIVE, but its user data never runs
    userdata_delay: S              the user data begins S seconds after the server is ACTIVE
    die_after_s: S                 the server loses power S seconds after its boot: SHUTOFF
    die_every: N                   with die_after_s: only every Nth server does
    destroy_delay: S               deleting takes S seconds longer
    max_vms: N                     a build fails while there are N servers

Counters begin when nova-compute starts; each counts what its own knob was asked about.
"""

import base64
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import eventlet
from nova import exception
from nova.compute import power_state
from nova.virt import event, fake

LAB = Path(os.environ["LANDO_LAB_DIR"])
COMMANDS = LAB / "vms" / "bin"
CONSOLE_SIZE = 102400

# Process 1 of a server.
INIT = """
hostname "$SERVER_NAME"
if [ -x "$SERVER_DIR/user-data" ]; then
    sleep "$USERDATA_DELAY"
    (unset SERVER_NAME USERDATA_DELAY; exec "$SERVER_DIR/user-data")
    echo $? > "$SERVER_DIR/exit"
fi
while :; do sleep 3600; done
"""


def knobs():
    """Those that are set."""
    try:
        return json.loads((LAB / "knobs.json").read_text())
    except (OSError, ValueError):
        return {}


class ProcessDriver(fake.FakeDriver):
    """Nova's fake driver, whose servers run."""

    def __init__(self, virtapi, read_only=False):
        super().__init__(virtapi, read_only)
        self.processes = {}  # by server id
        self.asked = {}  # how often, by knob

    def init_host(self, host):
        """Make the commands by which a server turns itself off; the watcher sees the mark they leave."""
        super().init_host(host)
        COMMANDS.mkdir(parents=True, exist_ok=True)
        for name in ("poweroff", "halt", "shutdown", "reboot"):
            mark = "reboot" if name == "reboot" else "poweroff"
            (COMMANDS / name).write_text(f'#!/bin/sh\ntouch "$SERVER_DIR/{mark}"; sleep 10\n')
            (COMMANDS / name).chmod(0o755)

    def _directory(self, instance):
        return LAB / "vms" / instance.uuid

    def _nth(self, knob, set_knobs):
        every = set_knobs.get(knob)
        if not every:
            return False
        self.asked[knob] = self.asked.get(knob, 0) + 1
        return self.asked[knob] % int(every) == 0

    # a server's life

    def _boot(self, instance):
        self._kill(instance.uuid)
        set_knobs = knobs()
        directory = self._directory(instance)
        home = directory / "home"
        home.mkdir(parents=True, exist_ok=True)
        for old in ("exit", "poweroff", "reboot"):
            (directory / old).unlink(missing_ok=True)
        script = directory / "user-data"
        data = base64.b64decode(instance.user_data or "")
        script.touch(0o600)
        script.write_bytes(data)
        runs = data.startswith(b"#!") and not self._nth("never_run_userdata_every", set_knobs)
        script.chmod(0o700 if runs else 0o600)
        process = self._start(instance, directory, set_knobs)
        self.processes[instance.uuid] = process
        dies_at = None
        if "die_after_s" in set_knobs and ("die_every" not in set_knobs or self._nth("die_every", set_knobs)):
            dies_at = time.time() + float(set_knobs["die_after_s"])
        eventlet.spawn_n(self._watch, instance, process, dies_at)

    def _start(self, instance, directory, set_knobs):
        environment = {
            "PATH": f"{COMMANDS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(directory / "home"),
            "TMPDIR": str(directory / "home"),
            "LANDO_VM_DIR": str(directory / "home"),  # else all would share this machine's /var/lib/lando
            "LANG": "C.UTF-8",
            "USER": "root",
            "SERVER_NAME": instance.hostname or "vm",
            "SERVER_DIR": str(directory),
            "USERDATA_DELAY": str(set_knobs.get("userdata_delay", 0)),
        }
        with (directory / "console.log").open("ab") as console:
            console.write(f"booted at {time.strftime('%FT%TZ', time.gmtime())}\n".encode())
            console.flush()
            return subprocess.Popen(
                ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", INIT],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                cwd=directory / "home",
                env=environment,
                start_new_session=True,
            )

    def _kill(self, uuid):
        """Ending ``unshare`` ends the server's process 1, and so everything in there."""
        process = self.processes.pop(uuid, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        while process.poll() is None:
            time.sleep(0.02)  # lets nova-compute's other green threads run

    def _watch(self, instance, process, dies_at):
        directory = self._directory(instance)
        while self.processes.get(instance.uuid) is process:
            if (directory / "reboot").exists():
                self._boot(instance)
                return
            ended = process.poll() is not None or (directory / "poweroff").exists()
            if ended or (dies_at and time.time() > dies_at):
                self._kill(instance.uuid)
                if instance.uuid in self.instances:
                    self.instances[instance.uuid].state = power_state.SHUTDOWN
                    self.emit_event(event.LifecycleEvent(instance.uuid, event.EVENT_LIFECYCLE_STOPPED))
                return
            time.sleep(0.25)

    # Nova's interface

    def spawn(self, context, instance, *args, **kwargs):
        """Build a server."""
        set_knobs = knobs()
        delay = set_knobs.get("spawn_delay", 0)
        time.sleep(random.uniform(*delay) if isinstance(delay, list) else delay)
        if len(self.instances) >= set_knobs.get("max_vms", float("inf")):
            raise exception.InstanceDeployFailure(reason="knob max_vms: the host is full")
        if self._nth("spawn_fail_every", set_knobs):
            raise exception.InstanceDeployFailure(reason="knob spawn_fail_every")
        if self._nth("spawn_hang_every", set_knobs):
            self._hang(instance)
        super().spawn(context, instance, *args, **kwargs)
        self._boot(instance)

    def _hang(self, instance):
        while knobs().get("spawn_hang_every"):
            instance.refresh()  # raises once the server is gone
            if instance.task_state == "deleting":
                return
            time.sleep(1)

    def destroy(self, context, instance, *args, **kwargs):
        """Delete a server; its console stays, for who looks into a failed test."""
        time.sleep(knobs().get("destroy_delay", 0))
        self._kill(instance.uuid)
        super().destroy(context, instance, *args, **kwargs)
        shutil.rmtree(self._directory(instance) / "home", ignore_errors=True)
        (self._directory(instance) / "user-data").unlink(missing_ok=True)

    def power_off(self, instance, timeout=0, retry_interval=0):
        """Stop a server."""
        self._kill(instance.uuid)
        if instance.uuid in self.instances:
            super().power_off(instance, timeout, retry_interval)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None):
        """Start a server."""
        if instance.uuid not in self.instances:  # nova-compute was restarted meanwhile
            record = fake.FakeInstance(instance.name, power_state.RUNNING, instance.uuid)
            self.instances[instance.uuid] = record
        super().power_on(context, instance, network_info, block_device_info, accel_info)
        self._boot(instance)

    def reboot(self, context, instance, network_info, reboot_type, *args, **kwargs):
        """Hard, whatever was asked for."""
        self.power_on(context, instance, network_info)

    def get_console_output(self, context, instance):
        """What the server has written."""
        try:
            return (self._directory(instance) / "console.log").read_bytes()[-CONSOLE_SIZE:]
        except OSError:
            return b""
