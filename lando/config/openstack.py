"""The sections ``cloud_settings`` and ``vm_settings`` of the configuration: the OpenStack account, and what
servers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lando.cloud.nova.account import Account, with_application_credential, with_password
from lando.cloud.nova.server_settings import ServerSettings
from lando.config.section import Section, beside, or_default
from lando.redaction import Secret

VM_DEFAULTS = ServerSettings(image="lando_worker", flavor="m1.small")
DEFAULT_DOMAIN = "Default"
INTERFACES = ("public", "internal", "admin")

FAVOR_ALIAS = "default_favor_name"
"""The spelling of ``default_flavor_name`` in the first releases' configuration files."""

VM_KEYS = (
    *("worker_image_name", "default_flavor_name", "ssh_key_name", "network_name", "floating_ip_pool_name"),
    *("network_names", "security_groups", "availability_zone", "config_drive", "volume_size", FAVOR_ALIAS),
)
_PASSWORD = ("username", "password", "project_name", "user_domain_name", "project_domain_name")
_CREDENTIAL = ("application_credential_id", "application_credential_secret")
_ENDPOINT = ("interface", "cacert", "verify")
CLOUD_KEYS = ("auth_url", *_PASSWORD, *_CREDENTIAL, "cloud", "region_name", *_ENDPOINT)


@dataclass(frozen=True)
class NamedCloud:
    """A cloud of clouds.yaml, which is read only when the cloud is used: clients need not have it."""

    name: str
    region: str | None = None
    """In place of the one in clouds.yaml."""


def read_vm_settings(section: Section) -> ServerSettings:
    """Read the section; mistakes are noted in its document."""
    _refuse_both(section, "default_flavor_name", (FAVOR_ALIAS,), "another spelling of")
    _refuse_both(section, "network_name", ("network_names",), "for several networks, and not for")
    flavor = section.text("default_flavor_name") or section.text(FAVOR_ALIAS)
    return ServerSettings(
        image=or_default(section.text("worker_image_name"), VM_DEFAULTS.image),
        flavor=or_default(flavor, VM_DEFAULTS.flavor),
        key_name=section.text("ssh_key_name"),
        networks=_networks(section),
        security_groups=section.texts("security_groups"),
        availability_zone=section.text("availability_zone"),
        config_drive=section.flag("config_drive") is True,
        volume_size=section.integer("volume_size", 1),
        floating_ip_pool=section.text("floating_ip_pool_name"),
    )


def _networks(section: Section) -> tuple[str, ...]:
    one, several = section.text("network_name"), section.texts("network_names")
    return several if one is None else (one,)


def read_cloud_settings(section: Section, path: Path) -> Account | NamedCloud:
    """Read the section; mistakes are noted in its document.

    Args:
        section: ``cloud_settings``.
        path: the file; relative paths in it start from its directory.
    """
    region = section.text("region_name")
    cloud = section.text("cloud")
    if cloud is not None:
        _refuse_both(
            section, "cloud", ("auth_url", *_PASSWORD, *_CREDENTIAL, *_ENDPOINT), "in clouds.yaml with"
        )
        return NamedCloud(cloud, region)
    interface = section.text("interface")
    if interface not in (None, *INTERFACES):
        section.complain("interface", f"expected {', '.join(INTERFACES)}")
    cacert = section.text("cacert")
    where, auth_url = f"cloud_settings in {path}", _auth_url(section)
    endpoint: dict[str, Any] = {
        "region": region,
        "interface": or_default(interface, Account.interface),
        "cacert": None if cacert is None else beside(path, cacert),
        "verify": section.flag("verify") is not False,
    }
    if any(section.holds(key) for key in _CREDENTIAL):
        _refuse_both(section, "application_credential_id", _PASSWORD, "not for")
        return with_application_credential(
            where,
            auth_url,
            section.required_text("application_credential_id", "its id"),
            Secret(section.required_text("application_credential_secret", "what its creation printed, once")),
            **endpoint,
        )
    return with_password(
        where,
        auth_url,
        section.required_text("username", "the OpenStack account"),
        Secret(section.required_text("password", "the password of username")),
        section.required_text("project_name", "the OpenStack project"),
        or_default(section.text("user_domain_name"), DEFAULT_DOMAIN),
        or_default(section.text("project_domain_name"), DEFAULT_DOMAIN),
        **endpoint,
    )


def _auth_url(section: Section) -> str:
    what = "Keystone's address, such as https://cloud:5000/v3"
    auth_url = section.required_text("auth_url", what)
    if auth_url and not auth_url.startswith(("http://", "https://")):
        section.complain("auth_url", f"expected {what}")
    return auth_url


def _refuse_both(section: Section, key: str, others: tuple[str, ...], relation: str) -> None:
    if section.get(key) is not None:
        for other in others:
            if section.get(other) is not None:
                section.complain(other, f"is {relation} {key}, also given; keep one")
