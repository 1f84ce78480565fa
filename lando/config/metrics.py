"""The section ``metrics`` of the configuration: where the daemon answers ``/metrics`` and ``/health``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields

from lando.config.section import Section, or_default

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class MetricsConfig:
    """Where to listen."""

    host: str = "127.0.0.1"
    """A name or an address, also of IPv6: of this machine, or 0.0.0.0 or :: for all that it has."""
    port: int = 8421


KEYS = tuple(each.name for each in fields(MetricsConfig))


def read(top: Section) -> MetricsConfig | None:
    """Read the section; None without it. Mistakes are noted in its document.

    Args:
        top: the document.
    """
    section = top.section("metrics", KEYS)
    if section is None:
        if top.holds("metrics"):
            top.complain("metrics", "has nothing in it; write `metrics: {}` for the defaults, or remove it")
        return None
    host = or_default(section.text("host", 253), MetricsConfig.host)
    if not (_is_ipv6(host) or _NAME.fullmatch(host)):
        section.complain("host", "expected a name or an address of this machine, without port and brackets")
    return MetricsConfig(host, or_default(section.integer("port", 1, 65535), MetricsConfig.port))


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
