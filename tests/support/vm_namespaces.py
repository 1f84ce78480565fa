"""Network namespaces that stand for a VM, for the cloud with its metadata service, and for a container.

The VM has a file system of its own where it matters: /dev, /run, /var and the list of accounts. Nothing that
is done in there is seen outside, and all of it is gone with the processes that hold the namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from lando_worker.metadata_service import IPV4, IPV6, PATH

ACCOUNT, UID, SUBORDINATE = "lando", 61234, 165536
"""The account of workflows, and the first uid of its containers' processes."""

SERVICE = """
import http.server, socket, sys
told = sys.stdin.readline().encode()
class Service(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(told)
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
server = Server(("::", 80), Service)
print("ready", flush=True)
server.serve_forever()
"""
ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], 80, timeout=3)
connection.request("GET", "/openstack/latest/user_data")
print(connection.getresponse().read().decode())
"""
FILES = f"""
set -eu
read -r secret
echo '{ACCOUNT}:x:{UID}:{UID}::/tmp:/bin/bash' | cat /etc/passwd - >"$1/passwd"
echo '{ACCOUNT}:x:{UID}:' | cat /etc/group - >"$1/group"
printf 'disk-of-tests:x:6:{ACCOUNT}\\n' | cat - "$1/group" >"$1/group.new"
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/group.new" /etc/group
mount -t tmpfs tmpfs "$1/over"
mkdir "$1/over/upper" "$1/over/work"
mount -t overlay -o "lowerdir=/var,upperdir=$1/over/upper,workdir=$1/over/work" overlay /var
mkdir -p /var/lib/cloud/instance /var/log
echo "$secret" >/var/lib/cloud/instance/user-data.txt
echo "$secret" >/var/log/cloud-init-output.log
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cloud-init /run/udev
echo "$secret" >/run/cloud-init/instance-data.json
mkdir "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for device in null zero full random urandom; do
    touch "$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
ln -s /proc/self/fd "$1/dev/fd"
mknod "$1/dev/vda" b 7 0
mknod "$1/dev/sg0" c 21 0
chgrp 6 "$1/dev/vda" "$1/dev/sg0"
chmod 660 "$1/dev/vda" "$1/dev/sg0"
mkdir "$1/dev/shm"
mount --rbind "$1/dev" /dev
"""


def missing() -> str | None:
    """Why it cannot be done here; None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() or None


class Namespaces:
    """The three of them; ``close`` ends them.

    Args:
        directory: an empty one that every account can enter.
        secret: the VM's user data. It is given to no process as an argument, which everybody can see.
    """

    def __init__(self, directory: Path, secret: str) -> None:
        self._secret = secret
        self._held: list[subprocess.Popen[str]] = []
        (directory / "over").mkdir()
        try:
            self.vm, self.cloud, self.container = (self._hold() for _ in range(3))
            self._wire()
            self._in(self.vm, "bash", "-c", FILES, "files", str(directory))
            self._serve()
        except BaseException:
            self.close()
            raise

    def _hold(self) -> int:
        held = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._held.append(held)
        assert held.stdout is not None
        held.stdout.readline()
        return held.pid

    def _wire(self) -> None:
        for pid in (self.vm, self.cloud, self.container):
            self._ip(pid, "link set lo up")
        for peer, subnet, there in (
            (self.cloud, "10.254.1", "cloud"),
            (self.container, "10.254.2", "container"),
        ):
            self._ip(self.vm, f"link add {there} type veth peer name eth0 netns {peer}")
            self._ip(self.vm, f"addr add {subnet}.1/24 dev {there}")
            self._ip(peer, f"addr add {subnet}.2/24 dev eth0")
            self._ip(peer, f"addr add {IPV6 if peer == self.cloud else 'fe80::2'}/64 dev eth0 nodad")
            self._ip(self.vm, f"link set {there} addrgenmode none up")
            self._ip(self.vm, f"addr add fe80::1/64 dev {there} nodad")
            self._ip(peer, "link set eth0 up")
        self._ip(self.cloud, f"addr add {IPV4}/32 dev eth0")
        self._ip(self.vm, "route add default via 10.254.1.2")
        self._ip(self.container, "route add default via 10.254.2.1")
        self._ip(self.cloud, "route add 10.254.2.0/24 via 10.254.1.1")
        self._in(self.vm, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")

    def _serve(self) -> None:
        self._start(self.cloud, sys.executable, "-c", SERVICE)

    def start(self, *command: str) -> None:
        """Start a service of the VM, and wait until it says that it is ready."""
        self._start(self.vm, *command)

    def _start(self, pid: int, *command: str) -> None:
        service = subprocess.Popen(
            self.entering(pid, *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._held.append(service)
        assert service.stdin is not None and service.stdout is not None
        service.stdin.write(f"{self._secret}\n")
        service.stdin.flush()
        assert service.stdout.readline() == "ready\n"

    def _ip(self, pid: int, arguments: str) -> None:
        self._in(pid, "ip", *arguments.split())

    def _in(self, pid: int, *command: str) -> None:
        given = f"{self._secret}\n"
        subprocess.run(self.entering(pid, *command), check=True, input=given, capture_output=True, text=True)

    def entering(self, pid: int, *command: str) -> list[str]:
        """The command line that runs a command in a namespace."""
        return ["nsenter", "--target", str(pid), "--net", "--mount", "--", "env", f"PATH={PATH}", *command]

    def do(self, command: str) -> None:
        """Run a shell command in the VM, as root."""
        self._in(self.vm, "bash", "-ec", command)

    def rules(self) -> str:
        """What the VM's firewall and its routing refuse."""
        return "".join(
            subprocess.run(
                self.entering(self.vm, *command.split()), capture_output=True, text=True, check=False
            ).stdout
            for command in ("nft list ruleset", "ip -4 rule", "ip -6 rule")
        )

    def hide(self, programs: Iterable[str]) -> None:
        """The VM does not have these."""
        for program in programs:
            for directory in PATH.split(os.pathsep):
                if (path := Path(directory, program)).exists():
                    self._in(self.vm, "mount", "--bind", "/dev/null", str(path))

    def who_gets_user_data(self, address: str, uids: Sequence[int | None]) -> list[int | None]:
        """Those to whom the metadata service answers.

        Args:
            address: of the service.
            uids: of processes in the VM; None: a process in the container.
        """
        asked = [(uid, self._ask(address, uid)) for uid in uids]  # at once: some refusals are silent
        return [uid for uid, process in asked if process.communicate()[0].strip() == self._secret]

    def _ask(self, address: str, uid: int | None) -> subprocess.Popen[str]:
        ask = (sys.executable, "-c", ASK, address)
        if uid is not None:
            ask = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *ask)
        return subprocess.Popen(
            self.entering(self.container if uid is None else self.vm, *ask),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def close(self) -> None:
        """End everything that holds the namespaces."""
        for held in reversed(self._held):
            held.kill()
            held.wait()
