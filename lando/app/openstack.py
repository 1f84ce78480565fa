"""The project on OpenStack that the configuration names: its account, and what its servers are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lando.config.openstack import VmSettings
from lando.config.site_config import Config

if TYPE_CHECKING:
    from lando.cloud.nova.account import Account
    from lando.cloud.nova.driver import NovaCloud, ServerSettings


def connect(config: Config) -> NovaCloud:
    """The driver of the project; nothing is sent before its first call.

    Raises:
        UsageError: the account is incomplete.
    """
    from lando.cloud.nova import driver  # noqa: PLC0415 - loads novaclient, half a second

    return driver.connect(_account(config), _server_settings(config.vm_settings), config.timeouts.settle)


def _account(config: Config) -> Account:
    from lando.cloud.nova import account as nova  # noqa: PLC0415 - loads keystoneauth

    settings = config.cloud_settings
    if settings is None:
        return nova.from_environment()
    if settings.cloud is not None:
        account = nova.from_clouds_yaml(settings.cloud)
        return replace(account, region=settings.region_name or account.region)
    where = f"cloud_settings in {config.source}"
    endpoint = {
        "region": settings.region_name,
        "interface": settings.interface,
        "cacert": settings.cacert,
        "verify": settings.verify,
    }
    auth_url, password = settings.auth_url or "", settings.password
    if password is None:
        assert settings.application_credential_id and settings.application_credential_secret
        return nova.with_application_credential(
            where,
            auth_url,
            settings.application_credential_id,
            settings.application_credential_secret,
            **endpoint,
        )
    return nova.with_password(
        where,
        auth_url,
        settings.username or "",
        password,
        settings.project_name or "",
        settings.user_domain_name,
        settings.project_domain_name,
        **endpoint,
    )


def _server_settings(vm: VmSettings) -> ServerSettings:
    from lando.cloud.nova.driver import ServerSettings  # noqa: PLC0415 - loads novaclient

    return ServerSettings(
        image=vm.worker_image_name,
        flavor=vm.default_flavor_name,
        key_name=vm.ssh_key_name,
        networks=vm.networks,
        security_groups=vm.security_groups,
        availability_zone=vm.availability_zone,
        config_drive=vm.config_drive,
        volume_size=vm.volume_size,
        floating_ip_pool=vm.floating_ip_pool_name,
    )
