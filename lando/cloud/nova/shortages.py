"""The messages by which OpenStack says that something is used up. That passes, so that jobs wait for it.

A create that is refused because of one, or a server that is in ERROR because of one, is no failure of a job.
Nova passes on messages of Cinder and Neutron in its own: "Build of instance ID aborted: MESSAGE". They are as
in the sources of August 2026 (nova 00a0304, cinder ab09bc3, neutron 2131d26), with their placeholders. A site
may have changed or translated them; what is not recognized counts as a failure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

_NOVA = "https://opendev.org/openstack/nova/src/branch/master/nova/"
_CINDER = "https://opendev.org/openstack/cinder/src/branch/master/cinder/"
_NEUTRON = "https://opendev.org/openstack/neutron/src/branch/master/neutron/"
_NEUTRON_LIB = "https://opendev.org/openstack/neutron-lib/src/branch/master/neutron_lib/"
_OSLO_LIMIT = "https://opendev.org/openstack/oslo.limit/src/branch/master/oslo_limit/"


@dataclass(frozen=True)
class Shortage:
    """A message."""

    message: str
    """As the source has it, or a part of it that no other message has."""
    kind: Literal["quota", "capacity"]
    """Whether the project has used up what it may, or the cloud what it has."""
    source: str
    """File and name of the exception, or what produces the message."""
    pattern: re.Pattern[str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        fixed = [
            r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in _PLACEHOLDER.split(self.message)
        ]
        object.__setattr__(self, "pattern", re.compile(".*?".join(fixed), re.IGNORECASE | re.DOTALL))


_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")

SHORTAGES = (
    # hosts
    Shortage("No valid host was found", "capacity", f"{_NOVA}exception.py NoValidHost"),
    Shortage(
        "Insufficient compute resources:", "capacity", f"{_NOVA}exception.py ComputeResourcesUnavailable"
    ),
    # Nova's quotas, those of server groups among them
    Shortage("Quota exceeded for %(overs)s: Requested", "quota", f"{_NOVA}exception.py TooManyInstances"),
    Shortage("Quota exceeded for resources: %(overs)s", "quota", f"{_NOVA}exception.py OverQuota"),
    Shortage(
        "Project %(project_id)s is over a limit for %(limits)s",
        "quota",
        f"{_OSLO_LIMIT}exception.py ProjectOverLimit",
    ),
    Shortage(
        "Quota exceeded, too many server groups.", "quota", f"{_NOVA}exception.py ServerGroupLimitExceeded"
    ),
    Shortage(
        "Quota exceeded, too many servers in group", "quota", f"{_NOVA}exception.py GroupMemberLimitExceeded"
    ),
    Shortage("Quota exceeded: code=%(code)s", "quota", f"{_CINDER}exception.py QuotaError"),
    # ports and addresses
    Shortage("Maximum number of ports exceeded", "quota", f"{_NOVA}exception.py PortLimitExceeded"),
    Shortage(
        "Maximum number of floating IPs exceeded", "quota", f"{_NOVA}exception.py FloatingIpLimitExceeded"
    ),
    Shortage(
        "Maximum number of security groups or rules exceeded",
        "quota",
        f"{_NOVA}exception.py SecurityGroupLimitExceeded",
    ),
    Shortage(
        "No fixed IP addresses available for network: %(net)s",
        "capacity",
        f"{_NOVA}exception.py NoMoreFixedIps",
    ),
    # Nova says no more when Neutron refuses a port while the server is built.
    Shortage(
        "Failed to allocate the network(s)",
        "capacity",
        f"{_NOVA}compute/manager.py _build_and_run_instance, _build_resources",
    ),
    Shortage(
        "No more IP addresses available on network %(net_id)s",
        "capacity",
        f"{_NEUTRON_LIB}exceptions/__init__.py IpAddressGenerationFailure",
    ),
    Shortage(
        "No more IP addresses available for subnet %(subnet_id)s",
        "capacity",
        f"{_NEUTRON}ipam/exceptions.py IpAddressGenerationFailure",
    ),
    Shortage(
        "No more IP addresses available.",
        "capacity",
        f"{_NEUTRON}ipam/exceptions.py IpAddressGenerationFailureAllSubnets",
    ),
    Shortage(
        "Unable to find any IP address on external network %(net_id)s",
        "capacity",
        f"{_NEUTRON_LIB}exceptions/__init__.py ExternalIpAddressExhausted",
    ),
    # volumes
    Shortage(
        "Requested volume or snapshot exceeds allowed %(name)s quota.",
        "quota",
        f"{_CINDER}exception.py VolumeSizeExceedsAvailableQuota",
    ),
    Shortage(
        "Maximum number of volumes allowed (%(allowed)d) exceeded for quota",
        "quota",
        f"{_CINDER}exception.py VolumeLimitExceeded",
    ),
    Shortage("Unexpected over quota on %(name)s", "quota", f"{_CINDER}exception.py UnexpectedOverQuota"),
    Shortage("No valid backend was found", "capacity", f"{_CINDER}exception.py NoValidBackend"),
    # PCI devices
    Shortage("Claim pci failed", "capacity", f"{_NOVA}compute/claims.py _test_pci"),
    Shortage(
        "PCI device request %(requests)s failed", "capacity", f"{_NOVA}exception.py PciDeviceRequestFailed"
    ),
    Shortage(
        "Attempt to consume PCI device %(compute_node_id)s:%(address)s from empty pool",
        "capacity",
        f"{_NOVA}exception.py PciDevicePoolEmpty",
    ),
    Shortage(
        "Not all Virtual Functions of PF %(compute_node_id)s:%(address)s are free.",
        "capacity",
        f"{_NOVA}exception.py PciDeviceVFInvalidStatus",
    ),
)

_VOLUME_FIGURES = re.compile(r"Requested (?P<wanted>\d+)G, quota is (?P<limit>\d+)G")
"""Cinder's message goes on: "Requested 500G, quota is 100G and 0G has been consumed."."""
_LIMIT_FIGURES = re.compile(
    r"over limit of (?P<limit>\d+) due to current usage \d+ and delta (?P<wanted>\d+)"
)
"""Of oslo.limit: "Resource servers is over limit of 10 due to current usage 10 and delta 1"."""


def find(message: str) -> Shortage | None:
    """The shortage that a message is about; None if it is about none, or about one that cannot pass."""
    if never_fits(message):
        return None
    return next((each for each in SHORTAGES if each.pattern.search(message)), None)


def never_fits(message: str) -> bool:
    """Whether the message says that more is wanted than the whole quota has."""
    return volume_never_fits(message) or _exceed(_LIMIT_FIGURES, message)


def volume_never_fits(message: str) -> bool:
    """Whether the message says that a volume is larger than the whole quota."""
    return _exceed(_VOLUME_FIGURES, message)


def _exceed(figures: re.Pattern[str], message: str) -> bool:
    return any(int(found["wanted"]) > int(found["limit"]) for found in figures.finditer(message))
