"""The accounts on the broker, each with the least permissions, and the script that creates them.

The script contains salted hashes instead of passwords.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lando.redaction import Secret
from lando.workqueue.rabbitmq.names import (
    Permissions,
    QueueNames,
    client_permissions,
    daemon_permissions,
    worker_permissions,
)
from lando.workqueue.rabbitmq.settings import BrokerSettings

SALT_BYTES = 4
END = "END_OF_DEFINITIONS"

Definitions = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class BrokerAccount:
    """An account on the broker, with its permissions and its purpose, for people."""

    name: str
    password: Secret
    permissions: Permissions
    purpose: str


def accounts(
    names: QueueNames, daemon: BrokerSettings, client: BrokerSettings, worker: BrokerSettings
) -> tuple[BrokerAccount, BrokerAccount, BrokerAccount]:
    """The daemon's, the clients' and the workers' account.

    Args:
        names: the queues and exchanges they may use.
        daemon: as the daemon connects; likewise ``client`` and ``worker``.
    """
    return (
        BrokerAccount(
            daemon.username,
            daemon.password,
            daemon_permissions(names),
            f"the daemon; makes, reads and writes {names.queue} and what belongs to it",
        ),
        BrokerAccount(
            client.username,
            client.password,
            client_permissions(names),
            f"who submits jobs; may only publish to {names.commands}",
        ),
        BrokerAccount(
            worker.username,
            worker.password,
            worker_permissions(names),
            f"the workers on VMs; may only publish to {names.reports}",
        ),
    )


def password_hash(password: str, salt: bytes | None = None) -> str:
    """A password as the broker stores it, by rabbit_password_hashing_sha256.

    Args:
        password: the password itself.
        salt: four random bytes unless given.

    Source: https://www.rabbitmq.com/docs/passwords#computing-password-hash
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode("ascii")


def definitions(virtual_host: str, accounts: Sequence[BrokerAccount]) -> Definitions:
    """Virtual host, accounts and permissions in the format that the broker imports.

    Source: https://www.rabbitmq.com/docs/definitions
    """
    return {"vhosts": _vhosts(virtual_host), **_users_and_permissions(virtual_host, accounts)}


def script(virtual_host: str, accounts: Sequence[BrokerAccount]) -> str:
    """A POSIX shell script for the broker's machine that imports the same; it can be run repeatedly."""
    return _SCRIPT.format(
        virtual_host=virtual_host,
        quoted_virtual_host=shlex.quote(virtual_host),
        accounts="\n".join(f"#   Account {account.name}: {account.purpose}" for account in accounts),
        vhosts=as_json({"vhosts": _vhosts(virtual_host)}),
        users_and_permissions=as_json(_users_and_permissions(virtual_host, accounts)),
        end=END,
    )


def as_json(definitions: Definitions) -> str:
    """Definitions as JSON, one entry per line. Line breaks inside names are escaped."""
    sections = (
        f"  {json.dumps(name)}: [\n" + ",\n".join(f"    {_on_one_line(entry)}" for entry in entries) + "\n  ]"
        for name, entries in definitions.items()
    )
    return "{\n" + ",\n".join(sections) + "\n}\n"


def _on_one_line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _vhosts(virtual_host: str) -> list[Mapping[str, Any]]:
    return [{"name": virtual_host}]


def _users_and_permissions(virtual_host: str, accounts: Sequence[BrokerAccount]) -> Definitions:
    return {
        "users": [_user(account) for account in accounts],
        "permissions": [_permission(virtual_host, account) for account in accounts],
    }


def _user(account: BrokerAccount) -> Mapping[str, Any]:
    return {
        "name": account.name,
        "password_hash": password_hash(account.password.reveal()),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "",  # not a list: brokers before 3.9 accept only text
    }


def _permission(virtual_host: str, account: BrokerAccount) -> Mapping[str, Any]:
    return {
        "user": account.name,
        "vhost": virtual_host,
        "configure": account.permissions.configure,
        "write": account.permissions.write,
        "read": account.permissions.read,
    }


# Names are passed in files, never as arguments: Debian's rabbitmqctl lets a shell evaluate its arguments.
# The definitions are read from a file: rabbitmqctl of 3.13, and others before 4.0.6, hang when they read them
# from standard input (https://github.com/rabbitmq/rabbitmq-server/issues/13157). Older versions always read
# standard input, which may be this script: hence /dev/null.
_SCRIPT = """\
#!/bin/sh
# Creates the accounts of lando-fsm on a RabbitMQ broker. Run it on the broker's machine, as root or as the
# broker's own account; it can be run again.
#   Virtual host: {virtual_host}
{accounts}
# An existing account gets this password and loses its tags; its permissions in other virtual hosts do not
# change. This script contains salted hashes, no passwords.
set -eu
umask 077

file=
trap 'if [ "$file" ]; then rm -f "$file"; fi' EXIT
trap 'exit 1' HUP INT TERM

import_from_stdin() {{
    file=$(mktemp)
    cat >"$file"
    # When root runs rabbitmqctl, it may read the file as the broker's own account.
    if [ "$(id -u)" = 0 ] && id rabbitmq >/dev/null 2>&1; then chown rabbitmq "$file"; fi
    rabbitmqctl --quiet import_definitions "$file"
    rm -f "$file"
}}

# The virtual host, if it does not exist: importing an existing one resets its description and tags.
virtual_hosts=$(rabbitmqctl --silent list_vhosts name </dev/null)
if ! printf '%s\\n' "$virtual_hosts" | grep -Fqx -e {quoted_virtual_host}; then
    import_from_stdin <<'{end}'
{vhosts}{end}
fi

# The accounts, and regular expressions of the names that they may configure, write and read.
import_from_stdin <<'{end}'
{users_and_permissions}{end}

echo "The accounts are there."
"""
