"""The section ``work_queue`` of the configuration: the message broker and the accounts on it."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from lando.config.section import Section, beside, kind
from lando.redaction import Secret
from lando.workqueue.rabbitmq.settings import BrokerSettings, QueueType, Tls

AMQP_URL = re.compile(
    r"(?P<scheme>amqps?)://(?P<username>[^:/]+):(?P<password>[^/]+)"
    r"@(?:\[(?P<ipv6>[^]/@]+)\]|(?P<name>[^:/@]+))(?::(?P<port>[^:/@]*))?(?:/(?P<virtual_host>[^/]*|/))?",
    re.IGNORECASE,
)
"""Source: https://www.rabbitmq.com/docs/uri-spec. The path ``//``, as in Celery's URLs, means ``/``."""
MAX_QUEUE_NAME = 200
"""Bytes: AMQP's short strings have at most 255, and the other names are longer than the queue's."""

DEFAULT_QUEUE_NAME = "lando"
PORT, TLS_PORT = 5672, 5671

KEYS = (
    *("url", "host", "username", "password", "worker_username", "worker_password", "queue_name", "port"),
    *("virtual_host", "tls", "worker_host", "heartbeat", "queue_type"),
)
TLS_KEYS = ("ca", "certificate", "key")
IN_URL = ("host", "username", "password", "port", "virtual_host")
"""The keys of ``work_queue`` that ``url`` replaces."""


@dataclass(frozen=True)
class WorkQueueConfig:
    """The message broker and the accounts on it."""

    broker: BrokerSettings
    """With the daemon's account; in a client's file, with the client's."""
    worker_username: str | None
    """The account of the workers on VMs; None only in a client's file."""
    worker_password: Secret | None
    worker_host: str
    """The broker as VMs see it."""
    queue_name: str = DEFAULT_QUEUE_NAME
    queue_type: QueueType | None = None
    """None: quorum, where the broker has it."""


def read(section: Section, path: Path, client: bool) -> WorkQueueConfig:
    """Read the section; mistakes are noted in its document.

    Args:
        section: ``work_queue``.
        path: the file; relative paths in it start from its directory.
        client: the file holds only what a client needs.
    """
    from_url = section.get("url") is not None
    address = _address_of_url(section) if from_url else _address_of_keys(section)
    tls = _tls(section, path, address.tls)
    worker_username, worker_password = _worker_account(section, client)
    queue_name = _queue_name(section)
    worker_host = _host(section, "worker_host") or address.host
    return WorkQueueConfig(
        BrokerSettings(
            host=address.host,
            port=address.port or (TLS_PORT if tls else PORT),
            virtual_host=address.virtual_host or "/",
            username=address.username,
            password=address.password,
            heartbeat=_heartbeat(section),
            tls=tls,
            prefix=f"{path}: work_queue.",
            from_url=from_url,
        ),
        worker_username,
        worker_password,
        worker_host,
        queue_name,
        _queue_type(section),
    )


@dataclass(frozen=True)
class _Address:
    """Where the broker is, and the account; None: not given."""

    host: str
    username: str
    password: Secret
    port: int | None = None
    virtual_host: str | None = None
    tls: bool | None = None


def _address_of_keys(section: Section) -> _Address:
    section.require("host", "the broker's host name or address; or write url")
    return _Address(
        host=_host(section, "host") or "",
        username=section.required_text("username", "the daemon's, or the client's, account on the broker"),
        password=Secret(section.required_text("password", "the password of username")),
        port=section.integer("port", 1, 65535),
        virtual_host=section.text("virtual_host"),
    )


def _address_of_url(section: Section) -> _Address:
    for key in IN_URL:
        if section.get(key) is not None:
            section.complain(key, "is in url, too; keep one")
    url = section.text("url") or ""
    parts = AMQP_URL.fullmatch(url)
    mistake = _mistake_in_url(url, parts)
    if parts is None or mistake:
        section.complain("url", mistake)
        return _Address("", "", Secret(""))
    return _Address(
        host=unquote(parts["ipv6"] or parts["name"]),
        username=unquote(parts["username"]),
        password=Secret(unquote(parts["password"])),
        port=int(parts["port"]) if parts["port"] else None,
        # By the specification, a path of "/" alone is the virtual host ""; it is treated as "/".
        virtual_host=unquote(parts["virtual_host"] or "/"),
        tls=parts["scheme"].lower() == "amqps",
    )


def _mistake_in_url(url: str, parts: re.Match[str] | None) -> str:
    """What is wrong, without a part of the url, which may be the password; "" if nothing is wrong."""
    if re.search("[?#]", url):
        return "may have no ? and no #; options are keys of their own, in a password write %3F and %23"
    if parts is None or not _is_host(unquote(parts["ipv6"] or parts["name"])):
        return (
            "expected amqp://USER:PASSWORD@HOST[:PORT][/VIRTUAL_HOST] or amqps://…; "
            "within a name or password write %2F for /, %3A for : and %40 for @"
        )
    if parts["port"] and not (re.fullmatch("[0-9]{1,5}", parts["port"]) and 1 <= int(parts["port"]) <= 65535):
        return "has no valid port; expected a whole number from 1 to 65535"
    if re.search("%(?![0-9A-Fa-f]{2})", url):
        return "has a % that two hexadecimal digits do not follow; write %25 for the character %"
    if re.search("[\0-\x1f\x7f\ufffd]", unquote(url)):
        return "has a % code that is no character of UTF-8 text, or a control character"
    return ""


def _tls(section: Section, path: Path, of_url: bool | None) -> Tls | None:
    """Read ``tls``; ``of_url``: whether the url is amqps, None without a url."""
    given = section.get("tls")
    if given is not None and not isinstance(given, (bool, dict)):
        section.complain("tls", f"expected true, false, or ca, certificate and key, found {kind(given)}")
        return None
    wanted = of_url if given is None else given is not False
    if of_url is not None and wanted != of_url:
        scheme, other = ("amqps", "amqp") if of_url else ("amqp", "amqps")
        section.complain("tls", f"contradicts url, which says {scheme}; write {other} there, or remove tls")
    files = section.section("tls", TLS_KEYS) if isinstance(given, dict) else None
    if files is None:
        return Tls() if wanted else None
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if files.get(one) is not None and files.get(other) is None:
            files.complain(one, f"is of use only together with {other}, which is missing")
    ca, certificate, key = (_file(files, name, path) for name in TLS_KEYS)
    return Tls(ca, certificate, key)


def _file(section: Section, key: str, path: Path) -> Path | None:
    """Read the path of a readable file, made absolute."""
    written = section.text(key)
    if written is None:
        return None
    file = beside(path, written)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            section.complain(key, "names something that is not a file")
        else:
            file.open("rb").close()
    except OSError as error:
        # Without the path: somebody may have written the key itself there.
        place = path.parent.absolute()
        section.complain(
            key, f"names a file that cannot be read ({error.strerror}); expected a path from {place}"
        )
    return file


def _worker_account(section: Section, client: bool) -> tuple[str | None, Secret | None]:
    if client:
        password = section.text("worker_password")
        return section.text("worker_username"), None if password is None else Secret(password)
    return (
        section.required_text("worker_username", "the account of the VMs on the broker"),
        Secret(section.required_text("worker_password", "the password of worker_username")),
    )


def _queue_name(section: Section) -> str:
    name = section.text("queue_name") or DEFAULT_QUEUE_NAME
    if len(name.encode()) > MAX_QUEUE_NAME:
        section.complain("queue_name", f"must be at most {MAX_QUEUE_NAME} bytes of UTF-8")
    if name.startswith("amq."):
        section.complain("queue_name", "may not begin with amq., which the broker keeps for itself")
    return name


def _heartbeat(section: Section) -> int:
    seconds = section.duration("heartbeat") or BrokerSettings.heartbeat
    if not 5 <= seconds <= 3600 or seconds != int(seconds):
        section.complain("heartbeat", "expected whole seconds from 5 to 3600")
    return int(seconds)


def _queue_type(section: Section) -> QueueType | None:
    queue_type = section.text("queue_type")
    if queue_type not in (None, "quorum", "classic"):
        section.complain("queue_type", "expected quorum or classic")
    return "classic" if queue_type == "classic" else "quorum" if queue_type else None


def _host(section: Section, key: str) -> str | None:
    host = section.text(key)
    if host and not _is_host(host):
        section.complain(key, "expected a host name or address alone; port and account are keys of their own")
    return host


def _is_host(text: str) -> bool:
    """Whether it is a name or an address: one colon precedes a port, IPv6 addresses have at least two."""
    return not re.search(r"[]/@\s[]", text) and text.count(":") != 1
