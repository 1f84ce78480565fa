"""Debian's packages, without the services that they would start."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.openstack.lab.place import LabError

PACKAGES = [
    *("python3-keystone", "python3-glance", "python3-placement", "python3-nova", "python3-neutron"),
    *("python3-pymysql", "python3-sqlalchemy-ext", "python3-memcache"),
    *("mariadb-server-core", "mariadb-client-core", "rabbitmq-server", "memcached"),
    *("uwsgi-core", "uwsgi-plugin-python3", "iproute2", "util-linux"),
]
LIBVIRT_PACKAGES = [
    *("libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "python3-libvirt"),
    *("qemu-system-x86", "qemu-utils", "genisoimage"),
    *("haproxy", "busybox-static", "openssh-client"),
    *("iptables", "ebtables", "ipset", "conntrack", "bridge-utils", "iputils-arping"),
]

POLICY = Path("/usr/sbin/policy-rc.d")


def install(libvirt: bool) -> None:
    """Install what is missing."""
    require_debian_12()
    started = time.monotonic()
    if missing := [name for name in PACKAGES + LIBVIRT_PACKAGES * libvirt if name not in installed()]:
        print(f"installing {len(missing)} packages and what they need (apt-get; about 2 minutes)", flush=True)
        with no_service_starts():
            apt("update", "-qq")
            apt("install", "-y", "-qq", "--no-install-recommends", *missing)
        print(f"installed in {time.monotonic() - started:.0f} s", flush=True)


def require_debian_12() -> None:
    """The services' versions and files are that release's."""
    release = Path("/etc/os-release")
    text = release.read_text() if release.exists() else ""
    if "\nID=debian\n" not in f"\n{text}" or '\nVERSION_ID="12"\n' not in f"\n{text}":
        raise LabError("the OpenStack laboratory needs Debian 12 (bookworm), whose packages it runs")
    if os.geteuid() != 0:
        raise LabError("the OpenStack laboratory needs root: it makes namespaces and installs packages")


def installed() -> set[str]:
    """Names of the packages that are."""
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        name
        for name, _, state in (line.partition(" ") for line in listed.stdout.splitlines())
        if state == "installed"
    }


def apt(*arguments: str) -> None:
    """Run apt-get, whose words are shown if it fails."""
    options = ["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Options::=--force-confold"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *options, *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"apt-get {arguments[0]} failed:\n{done.stdout[-3000:]}")


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Neither now nor, where there is systemd, at the next boot."""
    before = enabled_units()
    made = not POLICY.exists()
    if made:
        POLICY.write_text("#!/bin/sh\nexit 101\n")  # what an installing package asks; 101: not allowed
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if made:
            POLICY.unlink()
        if new := enabled_units() - before:
            subprocess.run(["systemctl", "--quiet", "disable", *sorted(new)], check=False)


def enabled_units() -> set[str]:
    """Of systemd."""
    if not shutil.which("systemctl"):
        return set()
    listed = subprocess.run(
        ["systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--no-pager"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
