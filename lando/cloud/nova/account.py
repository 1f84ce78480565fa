"""The OpenStack account: from landoconfig.yml, from clouds.yaml, or from the OS_* variables.

All three name the options of a keystoneauth plugin:
https://docs.openstack.org/keystoneauth/latest/plugin-options.html. The configuration fills this record, so
keystoneauth is imported only to log in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lando.errors import UsageError
from lando.redaction import Secret

if TYPE_CHECKING:
    from keystoneauth1.plugin import BaseAuthPlugin

CLOUDS_FILE = "clouds.yaml"
SECURE_FILE = "secure.yaml"
APPLICATION_CREDENTIAL = "v3applicationcredential"

_OLD_NAMES = {"tenant_name": "project_name", "tenant_id": "project_id", "user_name": "username"}


@dataclass(frozen=True)
class Account:
    """How to log in to a cloud, and which of its endpoints to use."""

    where: str = field(compare=False)
    """What an administrator corrects when it is wrong: ``cloud_settings in landoconfig.yml``."""
    auth_type: str
    """The name of a keystoneauth plugin."""
    options: Mapping[str, Any] = field(repr=False)
    """The plugin's options. A password may be a ``Secret``."""
    region: str | None = None
    """None: the only one. A service that is in several regions is used in none of them."""
    interface: str = "public"
    cacert: Path | None = None
    """Certificates to trust instead of the system's."""
    verify: bool = True
    """Whether the cloud's certificate is checked."""

    @property
    def auth_url(self) -> str:
        """Keystone's address."""
        return str(self.options.get("auth_url") or "")

    @property
    def who(self) -> str:
        """User or credential, and project, for messages; never the password."""
        options = self.options
        user = options.get("username") or options.get("user_id")
        credential = options.get("application_credential_name") or options.get("application_credential_id")
        project = options.get("project_name") or options.get("project_id")
        parts = (
            credential and f"application credential {credential}",
            user and f"user {user}",
            project and f"project {project}",
        )
        return ", ".join(part for part in parts if part) or f"the account of {self.where}"

    def check(self) -> None:
        """See that the account can be used, as far as this machine can tell.

        Raises:
            UsageError: auth_url is no address, or cacert no file.
        """
        if not self.auth_url.startswith(("http://", "https://")):
            raise UsageError(f"{self.where}: auth_url: expected an address such as https://cloud:5000/v3")
        if self.cacert is not None and not os.path.isfile(self.cacert):
            raise UsageError(f"{self.where}: cacert: {self.cacert}: no such file")

    def plugin(self) -> BaseAuthPlugin:
        """The keystoneauth plugin, which logs in, and logs in again when the token has expired.

        Raises:
            UsageError: as for ``check``; or the plugin is unknown, or lacks an option.
        """
        from keystoneauth1 import loading  # noqa: PLC0415 - only to log in
        from keystoneauth1.exceptions import ClientException  # noqa: PLC0415
        from keystoneauth1.plugin import BaseAuthPlugin  # noqa: PLC0415

        self.check()
        try:
            loader: Any = loading.get_plugin_loader(self.auth_type)
            known = {option.dest for option in loader.get_options()}
            options = {name: _revealed(value) for name, value in self.options.items() if name in known}
            plugin = loader.load_from_options(**options)
        except ClientException as error:
            raise UsageError(f"{self.where}: {error}") from error
        assert isinstance(plugin, BaseAuthPlugin)
        return plugin


def _revealed(value: Any) -> Any:
    return value.reveal() if isinstance(value, Secret) else value


def with_password(
    where: str,
    auth_url: str,
    username: str,
    password: Secret,
    project_name: str,
    user_domain_name: str,
    project_domain_name: str,
    **endpoint: Any,
) -> Account:
    """An account with a password.

    Args:
        where: see ``Account.where``.
        endpoint: region, interface, cacert, verify of ``Account``.
    """
    options = {
        "auth_url": auth_url,
        "username": username,
        "password": password,
        "project_name": project_name,
        "user_domain_name": user_domain_name,
        "project_domain_name": project_domain_name,
    }
    return Account(where, "password", options, **endpoint)


def with_application_credential(
    where: str, auth_url: str, credential_id: str, secret: Secret, **endpoint: Any
) -> Account:
    """An account with an application credential, which belongs to one project and can be revoked alone.

    Args:
        where: see ``Account.where``.
        endpoint: region, interface, cacert, verify of ``Account``.
    """
    options = {
        "auth_url": auth_url,
        "application_credential_id": credential_id,
        "application_credential_secret": secret,
    }
    return Account(where, APPLICATION_CREDENTIAL, options, **endpoint)


def from_environment(environment: Mapping[str, str] | None = None) -> Account:
    """The account of the OS_* variables, as an openrc file sets them; OS_CLOUD names one of clouds.yaml.

    Raises:
        UsageError: there is none, or it is incomplete.
    """
    environment = os.environ if environment is None else environment
    if environment.get("OS_CLOUD"):
        return from_clouds_yaml(environment["OS_CLOUD"], environment=environment)
    options = {
        name[3:].lower(): value for name, value in environment.items() if name.startswith("OS_") and value
    }
    where = "the OS_* environment variables"
    if "auth_url" not in options:
        raise UsageError(
            f"{where}: OS_AUTH_URL is not set; source the project's openrc file, or set OS_CLOUD"
        )
    insecure = options.get("insecure", "").lower() in ("1", "true", "yes")
    return _account(where, options, options | {"verify": not insecure}, beside=Path.cwd())


def from_clouds_yaml(
    cloud: str, path: Path | None = None, environment: Mapping[str, str] | None = None
) -> Account:
    """The account of a cloud in clouds.yaml, with the passwords of the secure.yaml beside it.

    Places and format of the files:
    https://docs.openstack.org/openstacksdk/latest/user/config/configuration.html

    Args:
        cloud: its name.
        path: the file; if None, the one that OS_CLIENT_CONFIG_FILE names, else the first of the usual places.

    Raises:
        UsageError: there is no such file or cloud, or it is incomplete.
    """
    environment = os.environ if environment is None else environment
    path = path or _clouds_file(environment)
    settings = _cloud(path, cloud)
    secure = path.with_name(SECURE_FILE)
    if os.path.isfile(secure):
        settings = _merged(settings, _clouds(secure).get(cloud) or {})
    where = f"the cloud {cloud} in {path}"
    if settings.get("profile"):
        raise UsageError(f"{where}: profile: vendor profiles are not read; write out what it stands for")
    auth = settings.get("auth")
    if not isinstance(auth, dict) or not auth.get("auth_url"):
        raise UsageError(
            f"{where}: auth.auth_url: missing; Keystone's address, such as https://cloud:5000/v3"
        )
    return _account(where, auth, settings, beside=path.parent)


def _account(where: str, auth: Mapping[str, Any], settings: Mapping[str, Any], beside: Path) -> Account:
    """The account that clouds.yaml or the variables give; both use the same names.

    Args:
        where: see ``Account.where``.
        auth: the plugin's options.
        settings: the endpoints' options.
        beside: the directory that a relative cacert starts from.

    Raises:
        UsageError: see ``Account.check``.
    """
    options = {_OLD_NAMES.get(name, name): value for name, value in auth.items()}
    credential = any(name.startswith("application_credential_") for name in options)
    interface = settings.get("interface") or settings.get("endpoint_type") or "public"
    cacert = settings.get("cacert")
    account = Account(
        where=where,
        auth_type=settings.get("auth_type") or (APPLICATION_CREDENTIAL if credential else "password"),
        options=options,
        region=settings.get("region_name"),
        interface=str(interface).removesuffix("URL"),
        cacert=beside / Path(cacert).expanduser() if cacert else None,
        verify=settings.get("verify") is not False,
    )
    account.check()
    return account


def _clouds_file(environment: Mapping[str, str]) -> Path:
    named = environment.get("OS_CLIENT_CONFIG_FILE")
    if named:
        return Path(named)
    directories = (Path.cwd(), Path("~/.config/openstack").expanduser(), Path("/etc/openstack"))
    paths = [directory / CLOUDS_FILE for directory in directories]
    found = next((path for path in paths if os.path.isfile(path)), None)
    if found is None:
        raise UsageError(f"no {CLOUDS_FILE}: looked for {', '.join(map(str, paths))}")
    return found


def _cloud(path: Path, cloud: str) -> dict[str, Any]:
    clouds = _clouds(path)
    settings = clouds.get(cloud)
    if not isinstance(settings, dict):
        raise UsageError(
            f"{path}: has no cloud named {cloud}; it has {', '.join(map(str, clouds)) or 'none'}"
        )
    return settings


def _clouds(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        # Its message may quote the line, and a password with it.
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise UsageError(f"{path}{'' if line is None else f':{line + 1}'}: is not YAML") from error
    clouds = document.get("clouds") if isinstance(document, dict) else None
    if not isinstance(clouds, dict):
        raise UsageError(f"{path}: expected the key clouds with a mapping")
    return clouds


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
