"""Checks whether the settings fit the cloud, one function for each. They create nothing.

Each returns what it found, as a phrase, or raises a LandoError that names the setting: a CheckWarning if jobs
can run nevertheless, or soon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone

from novaclient import api_versions

from lando.cloud.check_result import CheckResult
from lando.cloud.interface import QUOTA_UNITS, CloudError, Refused
from lando.cloud.nova.client import nova_rows
from lando.cloud.nova.driver import MICROVERSION, NovaCloud
from lando.cloud.nova.lookup import Flavor
from lando.errors import LandoError

MAX_CLOCK_SKEW = 60.0
"""Seconds. A smaller difference does no harm: tokens are valid for an hour or more."""


class CheckWarning(CloudError):
    """Something is not as it should be, but jobs can run nevertheless, or soon."""


def authentication(cloud: NovaCloud) -> str:
    """Log in with a new token."""
    until = cloud.session.log_in().expires.astimezone(timezone.utc)
    return (
        f"{cloud.account.who} at {cloud.account.auth_url}; "
        f"the token is valid until {until:%Y-%m-%dT%H:%M:%SZ}"
    )


def clock_skew(cloud: NovaCloud) -> str:
    """Compare the cloud's clock with this machine's, by the time at which a new token was issued."""
    skew = cloud.session.log_in().clock_skew
    difference = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > MAX_CLOCK_SKEW:
        now = datetime.now(timezone.utc)
        raise CheckWarning(
            f"the cloud's clock is {difference} ({now:%Y-%m-%dT%H:%M:%SZ}); set this machine's, for example "
            "by NTP"
        )
    return f"the cloud's clock {f'is {difference}' if abs(skew) >= 1 else 'agrees with this machine'}"


def microversion(cloud: NovaCloud) -> str:
    """Compare the microversions that Nova supports with the one that lando needs."""
    with cloud.session.errors("microversion"):
        listed, address = cloud.session.compute_addresses()
        # An absolute address: the catalog's may end with the project, below which there is no version.
        found = cloud.session.get_json(address)["version"]
    newest, oldest = found.get("version") or "2.0", found.get("min_version") or "2.0"
    needed = api_versions.APIVersion(MICROVERSION)
    if not api_versions.APIVersion(oldest) <= needed <= api_versions.APIVersion(newest):
        raise Refused(
            f"microversion: lando-fsm needs {MICROVERSION} of Nova's API (OpenStack Stein or later); "
            f"this cloud has {oldest} to {newest}",
            "site",
        )
    has = f"{MICROVERSION} (the cloud has {oldest} to {newest})"
    if not listed.startswith(address.rstrip("/")):
        raise CheckWarning(
            f"{has}; the address of compute in the cloud's catalog, {listed}, lacks the API's version: "
            f"{address} is used"
        )
    return has


def flavor(cloud: NovaCloud) -> str:
    """Look up the default flavor."""
    found = cloud.flavor()
    cores = "1 core" if found.cores == 1 else f"{found.cores} cores"
    return f"{found.name}: {cores}, {found.ram} MiB of RAM, {found.disk} GiB of disk"


def image(cloud: NovaCloud) -> str:
    """Look up the worker image, and compare what it needs with the default flavor."""
    found, default, volume = cloud.image(), _default_flavor(cloud), cloud.settings.volume_size
    needs = f"the image {found.name} needs {found.min_ram} MiB and {found.min_disk} GiB"
    if volume is not None and found.min_disk > volume:
        raise Refused(f"vm_settings.volume_size: {volume} GB, and {needs}", "site")
    if default and (found.min_ram > default.ram or (volume is None and found.min_disk > default.disk > 0)):
        raise Refused(
            f"vm_settings.default_flavor_name: {default.name} has {default.ram} MiB of RAM and "
            f"{default.disk} GiB of disk, and {needs}",
            "site",
        )
    return f"{found.name} ({found.id})"


def _default_flavor(cloud: NovaCloud) -> Flavor | None:
    """None if it cannot be looked up: its own check says why."""
    try:
        return cloud.flavor()
    except CloudError:
        return None


def network(cloud: NovaCloud) -> str:
    """Look up the networks of servers."""
    found = cloud.networks()
    if not found:
        return "none configured: Nova uses the project's only one"
    return ", ".join(f"{each.name} ({each.id}{', external' if each.external else ''})" for each in found)


def key_pair(cloud: NovaCloud) -> str:
    """Look up the SSH key pair. In OpenStack it belongs to the user, not to the project."""
    name = cloud.settings.key_name
    if name is None:
        return "none configured: nobody can log in to VMs by SSH"
    rows = nova_rows(
        *(cloud.session, cloud.nova, "listing key pairs", "/os-keypairs", "keypairs"),
        key=lambda row: str(row["keypair"]["name"]),
    )
    names = [row["keypair"]["name"] for row in rows]
    if name not in names:
        raise Refused(
            f"vm_settings.ssh_key_name: {cloud.account.who} has no key pair named {name}; "
            f"it has {_listed(names)}",
            "site",
        )
    return name


def external_network(cloud: NovaCloud) -> str:
    """Look up the pool of floating IPs."""
    found = cloud.external_network()
    if found is None:
        return "none configured: VMs get no floating IP"
    return f"{found.name} ({found.id})"


def security_groups(cloud: NovaCloud) -> str:
    """Look up the security groups of servers as Nova does: by its id, or by a name that only one has."""
    wanted = cloud.settings.security_groups
    if not wanted:
        return "none configured: VMs are in the project's default group"
    for name in wanted:
        if _security_groups(cloud, ("id", name)):
            continue
        named = _security_groups(cloud, ("name", name), *cloud.session.own_project(_LISTING_GROUPS))
        if not named:
            groups = _security_groups(cloud, *cloud.session.own_project(_LISTING_GROUPS))
            raise Refused(
                f"vm_settings.security_groups: the project has no security group named {name}; "
                f"it has {_listed(groups.values())}",
                "site",
            )
        if len(named) > 1:
            raise Refused(
                f"vm_settings.security_groups: the project has {len(named)} security groups named {name} "
                f"({', '.join(named)}); rename all but one, or write an id instead",
                "site",
            )
    return ", ".join(wanted)


_LISTING_GROUPS = "listing security groups"


def _security_groups(cloud: NovaCloud, *filters: tuple[str, str]) -> dict[str, str]:
    """The names of those that the filters select, by id."""
    query = (("fields", "id"), ("fields", "name"), *filters)
    rows = cloud.session.neutron_rows(_LISTING_GROUPS, "/security-groups", "security_groups", query)
    return {row["id"]: row["name"] for row in rows}


def availability_zone(cloud: NovaCloud) -> str:
    """Look up the availability zone of servers."""
    name = cloud.settings.availability_zone
    if name is None:
        return "none configured: the cloud chooses"
    with cloud.session.errors("listing availability zones"):
        rows = [zone.to_dict() for zone in cloud.nova.availability_zones.list(detailed=False)]
        available = {row["zoneName"] for row in rows if row["zoneState"]["available"]}
    if name not in available:
        raise Refused(
            f"vm_settings.availability_zone: the cloud has no available zone named {name}; "
            f"it has {_listed(available)}",
            "site",
        )
    return name


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names))) or "none"


def quota_left(cloud: NovaCloud) -> str:
    """Compare the project's quota with one server of the default flavor."""
    quota, default = cloud.quota(), _default_flavor(cloud)
    if default is None:
        return str(quota)
    size = cloud.size(None)
    needs = [
        (share, getattr(size, name), unit)
        for name, unit in QUOTA_UNITS.items()
        if (share := getattr(quota, name)) is not None
    ]
    for share, need, unit in needs:
        if share.limit is not None and share.limit < need:
            raise Refused(
                f"quota: the project may have {share.limit} {unit} in all, and a VM of the flavor "
                f"{default.name} (vm_settings.default_flavor_name) needs {need}; request a larger quota",
                "site",
            )
    if any(share.left is not None and share.left < need for share, need, _ in needs):
        raise CheckWarning(f"{quota}: not enough for a VM of the flavor {default.name} now, so jobs wait")
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
"""By their names in the output, in its order."""


def results(cloud: NovaCloud) -> Iterator[CheckResult]:
    """Run all checks. If the first, authentication, fails, the others are skipped."""
    first, *others = CHECKS
    login = _check_result(cloud, first)
    yield login
    if login.verdict == "wrong":
        yield CheckResult("skipped", "warning", f"without authentication: {', '.join(others)}")
        return
    for what in others:
        yield _check_result(cloud, what)


def _check_result(cloud: NovaCloud, what: str) -> CheckResult:
    try:
        return CheckResult(what, "ok", CHECKS[what](cloud))
    except CheckWarning as warning:
        return CheckResult(what, "warning", str(warning))
    except LandoError as error:
        return CheckResult(what, "wrong", str(error).removeprefix(f"{what}: "))
