"""Whether the settings fit the cloud: one question each. Creates nothing.

Each answers a phrase of what was found, or raises a LandoError that names the setting: Doubtful where jobs
can run all the same, or soon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone

from novaclient import api_versions

from lando.cloud.check_result import CheckResult
from lando.cloud.interface import CloudError, Refused
from lando.cloud.nova.driver import MICROVERSION, NovaCloud, novaclient
from lando.cloud.nova.lookup import Flavor
from lando.errors import LandoError

MAX_CLOCK_SKEW = 60.0
"""Seconds; tokens live for an hour or more, and certificates are not that new."""


class Doubtful(CloudError):
    """Not as it should be, but jobs can run all the same, or soon."""


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
        raise Doubtful(f"the cloud's clock is {ahead} ({now:%H:%M:%S} UTC); set this machine's, as by NTP")
    return f"the cloud's clock is {ahead}" if abs(skew) >= 1 else "the cloud's clock is as this machine's"


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
    cores = "1 core" if found.cores == 1 else f"{found.cores} cores"
    return f"{found.name}: {cores}, {found.ram} MiB of RAM, {found.disk} GiB of disk"


def image(cloud: NovaCloud) -> str:
    """Look up the worker image, and whether the default flavor has room for it."""
    found, room, volume = cloud.image(), _default_flavor(cloud), cloud.settings.volume_size
    needs = f"the image {found.name} needs {found.min_ram} MiB and {found.min_disk} GiB"
    if volume is not None and found.min_disk > volume:
        raise Refused(f"vm_settings.volume_size: {volume} GB, and {needs}", "site")
    if room is not None and (found.min_ram > room.ram or (volume is None and found.min_disk > room.disk > 0)):
        raise Refused(
            f"vm_settings.default_flavor_name: {room.name} has {room.ram} MiB of RAM and {room.disk} GiB of "
            f"disk, and {needs}",
            "site",
        )
    return f"{found.name} ({found.id})"


def _default_flavor(cloud: NovaCloud) -> Flavor | None:
    """None where it cannot be had: its own check says why."""
    try:
        return cloud.flavor()
    except CloudError:
        return None


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
            f"there is {_listed(names)}",
            "site",
        )
    return name


def external_network(cloud: NovaCloud) -> str:
    """Look up the pool of floating IPs."""
    found = cloud.external_network()
    if found is None:
        return "none named: servers get no floating IP"
    return f"{found.name} ({found.id})"


def security_groups(cloud: NovaCloud) -> str:
    """Look up the security groups of servers."""
    wanted = cloud.settings.security_groups
    if not wanted:
        return "none named: the project's default group"
    with cloud.wire.errors("listing security groups"):
        rows = cloud.wire.network("GET", "/security-groups", params={"fields": ["id", "name"]})
        groups = {row["id"]: row["name"] for row in rows["security_groups"]}
    for name in wanted:
        if name not in groups and name not in groups.values():
            raise Refused(
                f"vm_settings.security_groups: the project has no security group named {name}; "
                f"there is {_listed(groups.values())}",
                "site",
            )
    return ", ".join(wanted)


def availability_zone(cloud: NovaCloud) -> str:
    """Look up the availability zone of servers."""
    name = cloud.settings.availability_zone
    if name is None:
        return "none named: the cloud chooses"
    with cloud.wire.errors("listing availability zones"):
        rows = [zone.to_dict() for zone in cloud.nova.availability_zones.list(detailed=False)]
        available = {row["zoneName"] for row in rows if row["zoneState"]["available"]}
    if name not in available:
        raise Refused(
            f"vm_settings.availability_zone: the cloud has no zone named {name} that is available; "
            f"there is {_listed(available)}",
            "site",
        )
    return name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"


def quota_left(cloud: NovaCloud) -> str:
    """Compare the project's quota with one server of the default flavor."""
    quota, room = cloud.quota(), _default_flavor(cloud)
    if room is None:
        return str(quota)
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
    if any(share.left is not None and share.left < need for share, need, _ in wanted):
        raise Doubtful(f"{quota}: no room for a server of {room.name} just now, so jobs wait")
    return str(quota)


CHECKS: dict[str, Callable[[NovaCloud], str]] = {
    "authentication": authentication,
    "clock": clock_skew,
    "microversion": microversion,
    "flavor": flavor,
    "image": image,
    "network": network,
    "key pair": key_pair,
    "external network": external_network,
    "security groups": security_groups,
    "zone": availability_zone,
    "quota": quota_left,
}
"""In the order in which they make sense."""


def results(cloud: NovaCloud) -> Iterator[CheckResult]:
    """Look at everything. Without authentication all others would only fail in the same way."""
    first, *others = CHECKS
    login = _check_result(cloud, first)
    yield login
    if login.verdict == "wrong":
        yield CheckResult("not looked at", "warning", f"without authentication: {', '.join(others)}")
        return
    for what in others:
        yield _check_result(cloud, what)


def _check_result(cloud: NovaCloud, what: str) -> CheckResult:
    try:
        return CheckResult(what, "ok", CHECKS[what](cloud))
    except Doubtful as doubt:
        return CheckResult(what, "warning", str(doubt))
    except LandoError as error:
        return CheckResult(what, "wrong", str(error).removeprefix(f"{what}: "))
