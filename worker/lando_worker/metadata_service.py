"""The cloud's metadata service is refused to everyone but root.

It tells the VM's user data, and with it what the worker may do, to every process that can reach its address.
A rule says "not uid 0" and does not name the workflow's account, since the processes of its containers have
other uids, the account's subordinate ones. Packets that are forwarded, as those of a rootful engine's
containers are, have no uid, and are refused, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lando_worker.result import Unsuitable

IPV4, IPV6 = "169.254.169.254", "fe80::a9fe:a9fe"
"""Neutron's addresses of it: https://docs.openstack.org/nova/latest/user/metadata.html"""
PORT = 80
PAUSES = (0.0, 1.0, 3.0)
"""Seconds before each try of one program: another process may hold the lock of the firewall."""
PROGRAM_TIMEOUT = 30.0
"""Seconds that a program may take to set a rule; the first one loads modules of the kernel."""
CONNECT_TIMEOUT = 2.0
"""Seconds; a refusal by this machine takes none."""
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))

# The priority is that of raw: before any chain that could replace an address.
NFT_RULES = f"""
add table inet lando
delete table inet lando
table inet lando {{
    chain output {{
        type filter hook output priority -300; policy accept;
        ip daddr {IPV4} jump only_root
        ip6 daddr {IPV6} jump only_root
    }}
    chain only_root {{
        meta skuid 0 return
        reject with icmpx type admin-prohibited
    }}
    chain forward {{
        type filter hook forward priority -300; policy accept;
        ip daddr {IPV4} reject with icmpx type admin-prohibited
        ip6 daddr {IPV6} reject with icmpx type admin-prohibited
    }}
}}
"""
IP_RULES = ("10", "11")
"""Preferences of the two rules; the table of local addresses has 0, the others have 32766 and more."""

Reached = Callable[[], list[str]]
"""Which addresses the workflow's account can send to, by an attempt."""


class _Failed(Exception):
    """A program cannot set the rules; the text says why."""


@dataclass(frozen=True)
class _Method:
    program: str
    apply: Callable[[bool], None]
    """Sets the rules, with IPv6 or without; changes nothing where they are set. Raises _Failed."""


def refuse(reached: Reached, pauses: Sequence[float] = PAUSES) -> str:
    """Refuse it by the first program that can: nft, else iptables, else ip. Needs root; may be repeated.

    Args:
        reached: tried after the rules were set: only what it cannot reach is refused.
        pauses: seconds before each try of one program.

    Returns:
        The program.

    Raises:
        Unsuitable: no program can.
    """
    with_ipv6 = _has_ipv6()
    failures = []
    for method in (_Method("nft", _nft), _Method("iptables", _iptables), _Method("ip", _ip_rule)):
        try:
            _try(method, with_ipv6, reached, pauses)
        except _Failed as failure:
            failures.append(f"{method.program}: {failure}")
        else:
            return method.program
    raise Unsuitable(f"the metadata service cannot be refused to workflows ({'; '.join(failures)})")


def reached_addresses() -> list[str]:
    """The addresses of the metadata service that this process can send to. Nothing needs to answer there."""
    return [*_reached_by_ipv4(), *_reached_by_ipv6()]


def _try(method: _Method, with_ipv6: bool, reached: Reached, pauses: Sequence[float]) -> None:
    if shutil.which(method.program, path=PATH) is None:
        raise _Failed("not installed")
    failure = ""
    for pause in pauses:
        time.sleep(pause)
        try:
            method.apply(with_ipv6)
        except _Failed as failed:
            failure = str(failed)
            continue
        still = reached()
        if not still:
            return
        failure = f"its rules are set, and {' and '.join(still)} can still be reached"
    raise _Failed(failure)


def _has_ipv6() -> bool:
    # Loads the module where it is one, as any process can later.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6):
        pass
    return Path("/proc/net/if_inet6").exists()


def _nft(with_ipv6: bool) -> None:
    # One transaction, with rules for IPv6 also where there is none.
    _run("nft", "-f", "-", given=NFT_RULES)


def _iptables(with_ipv6: bool) -> None:
    not_root = ("-m", "owner", "!", "--uid-owner", "0")
    families = [("iptables", IPV4, "icmp-admin-prohibited"), ("ip6tables", IPV6, "icmp6-adm-prohibited")]
    for program, address, answer in families if with_ipv6 else families[:1]:
        for chain, who in (("OUTPUT", not_root), ("FORWARD", ())):
            rule = (chain, "-d", address, *who, "-j", "REJECT", "--reject-with", answer)
            try:
                _run(program, "-w", "-C", *rule)
            except _Failed:
                _run(program, "-w", "-I", *rule)


def _ip_rule(with_ipv6: bool) -> None:
    # What is forwarded has uid 0 here, but does not come from lo, as what this machine sends does.
    of_root = ("iif", "lo", "uidrange", "0-0", "lookup", "main")
    for family, address in (("-4", IPV4), ("-6", IPV6)) if with_ipv6 else (("-4", IPV4),):
        for preference, rest in zip(IP_RULES, (of_root, ("prohibit",)), strict=True):
            try:
                _run("ip", family, "rule", "add", "to", address, "pref", preference, *rest)
            except _Failed as failed:
                if "File exists" not in str(failed):
                    raise


def _run(program: str, *arguments: str, given: str = "") -> None:
    found = shutil.which(program, path=PATH)
    if found is None:
        raise _Failed(f"{program} is not installed")
    try:
        done = subprocess.run(
            [found, *arguments],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROGRAM_TIMEOUT,
            env={"PATH": PATH, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Failed(str(error)) from error
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        raise _Failed(lines[0] if lines else f"exit status {done.returncode}")


def _reached_by_ipv4() -> list[str]:
    if _can_send(socket.AF_INET, (IPV4, PORT)) or _can_connect((IPV4, PORT)):
        return [IPV4]
    return []


def _reached_by_ipv6() -> list[str]:
    # No TCP here: the kernel does not deliver to a link-local address the ICMP by which it refuses.
    interfaces = [(index, name) for index, name in socket.if_nameindex() if name != "lo"]
    return [
        f"{IPV6}%{name}" for index, name in interfaces if _can_send(socket.AF_INET6, (IPV6, PORT, 0, index))
    ]


def _can_send(family: socket.AddressFamily, address: tuple[str | int, ...]) -> bool:
    """Whether a datagram leaves this machine; a rule that refuses it is an error here, at once."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.connect(address)
            sender.send(b"")
    except OSError:
        return False
    return True


def _can_connect(address: tuple[str, int]) -> bool:
    """Whether TCP connects, or the packets are lost where nothing answers, which is not refused here."""
    try:
        with socket.socket() as client:
            client.settimeout(CONNECT_TIMEOUT)
            client.connect(address)
    except TimeoutError:
        return True
    except OSError:
        return False
    return True
