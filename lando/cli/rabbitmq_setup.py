"""``lando-fsm rabbitmq-setup``: the script that creates the broker's accounts."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from lando.app.rabbitmq import worker_settings
from lando.cli.common import load_app
from lando.cli.output import note, result_bytes
from lando.config.site_config import load
from lando.config.work_queue import WorkQueueConfig
from lando.errors import LandoError, UsageError
from lando.redaction import Secret
from lando.workqueue.rabbitmq.accounts import accounts, as_json, definitions, script
from lando.workqueue.rabbitmq.names import QueueNames

CLIENT_CONFIG_NAME = "workerconfig.yml"
ADMINISTRATOR = "guest"
"""The account that every new broker has. Never restrict this account: it is the administrator."""


@click.command("rabbitmq-setup")
@click.option(
    "--client-config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"The clients' configuration file, created if missing; default: {CLIENT_CONFIG_NAME} beside "
    "landoconfig.yml.",
)
@click.option(
    "--definitions",
    "definitions_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write a definitions file to import instead; - for stdout. Importing it resets the description and "
    "tags of the virtual host. It contains no administrator, which a new broker needs.",
)
@click.pass_context
def command(ctx: click.Context, client_config: Path | None, definitions_file: Path | None) -> None:
    """Print the script that creates the broker's accounts: the daemon's, the clients' and the workers'.

    Each account has only the permissions that it needs. Passwords are printed as salted hashes. The command
    prints the same accounts every time.

    \b
    lando-fsm rabbitmq-setup                           print the script
    lando-fsm rabbitmq-setup | sudo sh                 run it on the broker's machine
    lando-fsm rabbitmq-setup | ssh broker sudo sh      run it from another machine
    lando-fsm rabbitmq-setup --definitions FILE        for `rabbitmqctl import_definitions FILE`
    """
    config = load_app(ctx).config
    if config.work_queue is None:
        raise UsageError(f"{config.source}: work_queue: missing; the embedded queue needs no accounts")
    source = Path(config.source)
    client = _client(client_config or source.with_name(CLIENT_CONFIG_NAME), config.work_queue, source)
    made = accounts(
        QueueNames(config.work_queue.queue_name),
        config.work_queue.broker,
        client.broker,
        worker_settings(config.work_queue),
    )
    virtual_host = config.work_queue.broker.virtual_host
    if definitions_file is None:
        _print(script(virtual_host, made))
    elif str(definitions_file) == "-":
        _print(as_json(definitions(virtual_host, made)))
    else:
        _write_private(definitions_file, as_json(definitions(virtual_host, made)))
        note(
            f"wrote {definitions_file}; to import it, run as root on the broker's machine:",
            "  install -o rabbitmq -m 600 FILE /var/lib/rabbitmq/lando.json",
            "  rabbitmqctl import_definitions /var/lib/rabbitmq/lando.json",
        )


def _print(text: str) -> None:
    """Print in UTF-8, whatever the terminal's encoding: the broker reads it."""
    result_bytes(text.encode())


def _client(path: Path, work_queue: WorkQueueConfig, source: Path) -> WorkQueueConfig:
    """The clients' configuration; its file is created where there is none."""
    if os.path.lexists(path):
        client = load(path, client=True).work_queue
        if client is None:
            raise UsageError(f"{path}: work_queue: missing; a client's file names the broker and its account")
        _refuse_another_broker(path, client, source, work_queue)
        _refuse_shared_accounts(
            *_settings(source, work_queue), (f"{path}: {_key(client, 'username')}", client.broker.username)
        )
        return client
    client = _new_client(work_queue)
    _refuse_shared_accounts(("the clients' account", client.broker.username), *_settings(source, work_queue))
    _write_private(path, _client_text(client))
    _say_what_was_written(path, client)
    return client


def _new_client(work_queue: WorkQueueConfig) -> WorkQueueConfig:
    username, password = f"{work_queue.queue_name}-client", Secret(secrets.token_urlsafe(24))
    broker = replace(work_queue.broker, username=username, password=password, from_url=False)
    return replace(work_queue, broker=broker, worker_username=None, worker_password=None)


def _client_text(client: WorkQueueConfig) -> str:
    """The text of a clients' file. Values are JSON, which is YAML, too, and quotes all text."""
    broker = client.broker
    ca = broker.tls.ca if broker.tls else None
    values = {
        "host": broker.host,
        "port": broker.port,
        "virtual_host": broker.virtual_host,
        **({"tls": {"ca": str(ca)} if ca else True} if broker.tls else {}),
        "username": broker.username,
        "password": broker.password.reveal(),
        "queue_name": client.queue_name,
    }
    lines = [f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(("# For people who submit jobs. Contains a password.", "work_queue:", *lines, ""))


def _say_what_was_written(path: Path, client: WorkQueueConfig) -> None:
    note(f"wrote {path} with the clients' account: give it to those who submit jobs; it contains a password")
    host, tls = client.broker.host, client.broker.tls
    if _is_loopback(host):
        note(f"its host is {host}; clients on other machines need the broker's name instead")
    if tls and tls.ca:
        note(f"its tls.ca is {tls.ca}; clients on other machines need a copy of it, and its path there")


def _refuse_another_broker(
    path: Path, client: WorkQueueConfig, source: Path, work_queue: WorkQueueConfig
) -> None:
    problems = [
        f"{path}: {_key(client, key)}: is {theirs}, but {source} has {ours}; "
        "correct one of them, or choose another file with --client-config"
        for key, theirs, ours in _differences(client, work_queue)
    ]
    if problems:
        raise UsageError("\n".join(problems))


def _differences(client: WorkQueueConfig, work_queue: WorkQueueConfig) -> list[tuple[str, object, object]]:
    """The keys by which a client would reach another queue than the daemon, with both values.

    A broker may have several addresses, such as the loopback address, which works on its machine only.
    """
    theirs, ours = client.broker, work_queue.broker
    same_address = theirs.host == ours.host and bool(theirs.tls) == bool(ours.tls)
    same_host = theirs.host in (ours.host, work_queue.worker_host) or _is_loopback(ours.host)
    compared = (
        *(() if same_host else (("host", theirs.host, ours.host),)),
        *((("port", theirs.port, ours.port),) if same_address else ()),
        ("virtual_host", theirs.virtual_host, ours.virtual_host),
        ("queue_name", client.queue_name, work_queue.queue_name),
    )
    return [each for each in compared if each[1] != each[2]]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _settings(source: Path, work_queue: WorkQueueConfig) -> tuple[tuple[str, str], tuple[str, str]]:
    """The accounts of landoconfig.yml, as (setting, name)."""
    assert work_queue.worker_username is not None
    return (
        (f"{source}: {_key(work_queue, 'username')}", work_queue.broker.username),
        (f"{source}: work_queue.worker_username", work_queue.worker_username),
    )


def _refuse_shared_accounts(*settings: tuple[str, str]) -> None:
    """``settings``: of each account the setting that names it, and the name."""
    settings_of: dict[str, str] = {}
    for setting, name in settings:
        if name == ADMINISTRATOR:
            raise UsageError(f"{setting}: is {name}, the broker's administrator; use a separate account")
        if name in settings_of:
            raise UsageError(
                f"{setting}: is {name}, as is {settings_of[name]}; each needs its own account, "
                "because their permissions differ"
            )
        settings_of[name] = setting


def _key(work_queue: WorkQueueConfig, key: str) -> str:
    in_url = work_queue.broker.from_url and key in ("host", "port", "virtual_host", "username")
    return "work_queue.url" if in_url else f"work_queue.{key}"


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, completely or not at all."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise UsageError(f"{path}: is not a regular file")
    try:
        _replace(target, text)
    except OSError as error:
        raise LandoError(f"{path}: {error.strerror}; nothing was written") from error


def _replace(target: Path, text: str) -> None:
    handle, new = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # 0600
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, target)
    except BaseException:
        os.unlink(new)
        raise
