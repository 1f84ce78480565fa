"""The project on OpenStack that the configuration names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lando.cloud.nova.account import Account, from_clouds_yaml, from_environment
from lando.config.openstack import NamedCloud
from lando.config.site_config import Config

if TYPE_CHECKING:
    from lando.cloud.nova.driver import NovaCloud


def connect(config: Config) -> NovaCloud:
    """The driver of the project; nothing is sent before its first call.

    Raises:
        UsageError: the account is incomplete.
    """
    from lando.cloud.nova import driver  # noqa: PLC0415 - loads novaclient, half a second

    times = config.timeouts
    return driver.connect(_account(config.cloud_settings), config.vm_settings, times.settle, times.names)


def _account(settings: Account | NamedCloud | None) -> Account:
    if settings is None:
        return from_environment()
    if isinstance(settings, NamedCloud):
        account = from_clouds_yaml(settings.name)
        return replace(account, region=settings.region or account.region)
    return settings
