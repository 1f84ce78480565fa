"""OpenStack: servers of Nova and floating IPs of Neutron, through python-novaclient and keystoneauth1.

``account`` says how to log in, ``wire`` sends, ``failures`` says what a failed call means, ``names`` turns
names into ids, ``marks`` are what ours are known by, ``driver`` is the cloud, and ``checks`` looks whether
the settings fit it.
"""

from lando.cloud.nova.account import (
    Account,
    from_clouds_yaml,
    from_environment,
    with_application_credential,
    with_password,
)
from lando.cloud.nova.driver import NovaCloud, ServerSettings, connect

__all__ = [
    "Account",
    "NovaCloud",
    "ServerSettings",
    "connect",
    "from_clouds_yaml",
    "from_environment",
    "with_application_credential",
    "with_password",
]
