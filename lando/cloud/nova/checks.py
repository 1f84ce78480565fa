"""Whether the settings fit the cloud: one question each. Creates nothing.

Each answers a phrase of what was found, or raises a LandoError that names the setting.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

from novaclient import api_versions

from lando.cloud import CloudError, Refused, Share
from lando.cloud.nova.driver import MICROVERSION, NovaCloud, novaclient
from lando.cloud.nova.names import Wanted

MAX_CLOCK_SKEW = 60.0
"""Seconds; tokens live for an hour or more, and certificates are not that new."""


def authentication(cloud: NovaCloud) -> str:
    """Log in anew."""
    until = cloud.wire.log_in().expires.astimezone(timezone.utc)
    return (
        f"{cloud.account.who} at {cloud.account.auth_url}; the token is good until {until:%Y-%m-%d %H:%M} UTC"
    )


def clock_skew(cloud: NovaCloud) -> str:
    """Compare the clocks, by when a new token was issued."""
    skew = cloud.wire.log_in().clock_skew
    ahead = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > MAX_CLOCK_SKEW:
        now = datetime.now(timezone.utc)
        raise CloudError(f"clock: the cloud's is {ahead} ({now:%H:%M:%S} UTC); set this machine's, as by NTP")
    return f"the cloud's clock is {ahead}"


def microversion(cloud: NovaCloud) -> str:
    """Compare what Nova offers with what is needed."""
    with cloud.wire.errors("microversion"):
        current = novaclient("2.1", cloud.wire).versions.get_current()  # the oldest, which every Nova has
        found = current.to_dict() if current is not None else {}
    newest, oldest = found.get("version") or "2.0", found.get("min_version") or "2.0"
    needed = api_versions.APIVersion(MICROVERSION)
    if not api_versions.APIVersion(oldest) <= needed <= api_versions.APIVersion(newest):
        raise Refused(
            f"microversion: lando-fsm needs {MICROVERSION} of Nova's API (OpenStack Stein or later), "
            f"and this cloud has {oldest} to {newest}",
            "site",
        )
    return f"{MICROVERSION} (the cloud has {oldest} to {newest})"


def flavor(cloud: NovaCloud) -> str:
    """Look up the default flavor."""
    found = cloud.flavor()
    return f"{found.name}: {found.cores} cores, {found.ram} MiB of RAM, {found.disk} GiB of disk"


def image(cloud: NovaCloud) -> str:
    """Look up the worker image, and whether the default flavor has room for it."""
    found, room = cloud.image(), cloud.flavor()
    if found.min_ram > room.ram or found.min_disk > room.disk > 0:
        raise Refused(
            f"vm_settings.default_flavor_name: {room.name} has {room.ram} MiB of RAM and {room.disk} GiB of "
            f"disk, and the image {found.name} needs {found.min_ram} MiB and {found.min_disk} GiB",
            "site",
        )
    return f"{found.name} ({found.id})"


def network(cloud: NovaCloud) -> str:
    """Look up the networks of servers."""
    found = cloud.networks()
    if not found:
        return "none named: Nova takes the project's only one"
    return ", ".join(f"{each.name} ({each.id}{', external' if each.external else ''})" for each in found)


def key_pair(cloud: NovaCloud) -> str:
    """Look up the SSH key pair, which belongs to the user, not to the project."""
    name = cloud.settings.key_name
    if name is None:
        return "none named: nobody can log in to servers by SSH"
    with cloud.wire.errors("listing key pairs"):
        names = [pair.to_dict()["keypair"]["name"] for pair in cloud.nova.keypairs.list()]
    if name not in names:
        raise Refused(
            f"vm_settings.ssh_key_name: {cloud.account.who} has no key pair named {name}; "
            f"there is {', '.join(sorted(names)) or 'none'}",
            "site",
        )
    return name


def external_network(cloud: NovaCloud) -> str:
    """Look up the pool of floating IPs."""
    pool = cloud.settings.floating_ip_pool
    if pool is None:
        return "none named: servers get no floating IP"
    found = cloud.names.external_network(Wanted(pool, "vm_settings.floating_ip_pool_name"))
    return f"{found.name} ({found.id})"


def quota_left(cloud: NovaCloud) -> str:
    """Compare the project's quota with one server of the default flavor."""
    quota, room = cloud.quota(), cloud.flavor()
    wanted = (
        (quota.servers, 1, "servers"),
        (quota.cores, room.cores, "cores"),
        (quota.ram, room.ram, "MiB of RAM"),
    )
    for share, need, unit in wanted:
        if share.limit is not None and share.limit < need:
            raise Refused(
                f"quota: the project may have {share.limit} {unit} in all, and a server of "
                f"{room.name} (vm_settings.default_flavor_name) takes {need}; ask for more",
                "site",
            )
    return "; ".join(_left(share, unit) for share, _, unit in wanted)


def _left(share: Share, unit: str) -> str:
    return f"{unit}: no limit" if share.limit is None else f"{share.left} of {share.limit} {unit} left"


CHECKS: dict[str, Callable[[NovaCloud], str]] = {
    "authentication": authentication,
    "clock": clock_skew,
    "microversion": microversion,
    "flavor": flavor,
    "image": image,
    "network": network,
    "key pair": key_pair,
    "external network": external_network,
    "quota": quota_left,
}
"""In the order in which they make sense."""
