"""The sections ``cloud_settings`` and ``vm_settings`` of the configuration: the OpenStack account, and what
servers are made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from lando.config.section import Section, beside, or_default
from lando.redaction import Secret

Interface = Literal["public", "internal", "admin"]


@dataclass(frozen=True)
class VmSettings:
    """What servers are made of, where a job file does not say otherwise."""

    worker_image_name: str = "lando_worker"
    default_flavor_name: str = "m1.small"
    ssh_key_name: str | None = None
    network_name: str | None = None
    floating_ip_pool_name: str | None = None
    """Servers get no floating IP unless given."""
    network_names: tuple[str, ...] = ()
    """Several networks, in the order of the server's interfaces."""
    security_groups: tuple[str, ...] = ()
    """None: the project's default."""
    availability_zone: str | None = None
    config_drive: bool = False
    volume_size: int | None = None
    """GB of a volume that servers boot from; None: from the flavor's own disk."""

    @property
    def networks(self) -> tuple[str, ...]:
        """All that are named, whichever key named them."""
        return (self.network_name,) if self.network_name is not None else self.network_names


@dataclass(frozen=True)
class CloudSettings:
    """The OpenStack account: a password, an application credential, or a cloud of clouds.yaml."""

    auth_url: str | None = None
    username: str | None = None
    password: Secret | None = None
    project_name: str | None = None
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    application_credential_id: str | None = None
    application_credential_secret: Secret | None = None
    cloud: str | None = None
    """The name of one in clouds.yaml, which has everything else, too."""
    region_name: str | None = None
    interface: Interface = "public"
    cacert: Path | None = None
    """Certificates to trust instead of the system's."""
    verify: bool = True
    """Whether the cloud's certificate is checked."""


FAVOR_ALIAS = "default_favor_name"
"""The spelling of ``default_flavor_name`` in the first releases' configuration files."""
VM_KEYS = (*(each.name for each in fields(VmSettings)), FAVOR_ALIAS)
CLOUD_KEYS = tuple(each.name for each in fields(CloudSettings))

_PASSWORD = ("username", "password", "project_name", "user_domain_name", "project_domain_name")
_CREDENTIAL = ("application_credential_id", "application_credential_secret")
_ENDPOINT = ("interface", "cacert", "verify")


def read_vm_settings(section: Section) -> VmSettings:
    """What the section says; mistakes are noted in its document."""
    _refuse_both(section, "default_flavor_name", (FAVOR_ALIAS,), "another spelling of")
    _refuse_both(section, "network_name", ("network_names",), "for several networks, and not for")
    flavor = section.text("default_flavor_name") or section.text(FAVOR_ALIAS)
    return VmSettings(
        worker_image_name=or_default(section.text("worker_image_name"), VmSettings.worker_image_name),
        default_flavor_name=or_default(flavor, VmSettings.default_flavor_name),
        ssh_key_name=section.text("ssh_key_name"),
        network_name=section.text("network_name"),
        floating_ip_pool_name=section.text("floating_ip_pool_name"),
        network_names=section.texts("network_names"),
        security_groups=section.texts("security_groups"),
        availability_zone=section.text("availability_zone"),
        config_drive=section.flag("config_drive") is True,
        volume_size=section.integer("volume_size", 1),
    )


def read_cloud_settings(section: Section, path: Path) -> CloudSettings:
    """What the section says; mistakes are noted in its document.

    Args:
        section: ``cloud_settings``.
        path: the file, where relative paths in it start from.
    """
    region = section.text("region_name")
    cloud = section.text("cloud")
    if cloud is not None:
        _refuse_both(
            section, "cloud", ("auth_url", *_PASSWORD, *_CREDENTIAL, *_ENDPOINT), "in clouds.yaml with"
        )
        return CloudSettings(cloud=cloud, region_name=region)
    interface = section.text("interface")
    if interface not in (None, *get_args(Interface)):
        section.complain("interface", f"expected {', '.join(get_args(Interface))}")
    cacert = section.text("cacert")
    endpoint = {
        "auth_url": _auth_url(section),
        "region_name": region,
        "interface": or_default(interface, CloudSettings.interface),
        "cacert": None if cacert is None else beside(path, cacert),
        "verify": section.flag("verify") is not False,
    }
    if any(section.holds(key) for key in _CREDENTIAL):
        _refuse_both(section, "application_credential_id", _PASSWORD, "not for")
        return CloudSettings(
            application_credential_id=section.required_text("application_credential_id", "its id"),
            application_credential_secret=Secret(
                section.required_text("application_credential_secret", "what its creation printed, once")
            ),
            **endpoint,  # type: ignore[arg-type]
        )
    return CloudSettings(
        username=section.required_text("username", "the OpenStack account"),
        password=Secret(section.required_text("password", "the password of username")),
        project_name=section.required_text("project_name", "the OpenStack project"),
        user_domain_name=or_default(section.text("user_domain_name"), CloudSettings.user_domain_name),
        project_domain_name=or_default(
            section.text("project_domain_name"), CloudSettings.project_domain_name
        ),
        **endpoint,  # type: ignore[arg-type]
    )


def _auth_url(section: Section) -> str:
    what = "Keystone's address, such as https://cloud:5000/v3"
    auth_url = section.required_text("auth_url", what)
    if auth_url and not auth_url.startswith(("http://", "https://")):
        section.complain("auth_url", f"expected {what}")
    return auth_url


def _refuse_both(section: Section, key: str, others: tuple[str, ...], words: str) -> None:
    if section.get(key) is not None:
        for other in others:
            if section.get(other) is not None:
                section.complain(other, f"is {words} {key}, also given; keep one")
