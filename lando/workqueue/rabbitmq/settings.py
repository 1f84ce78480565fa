"""Where the broker is, and one account on it: records that the configuration fills, without pika."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lando.errors import UsageError
from lando.redaction import Secret

QueueType = Literal["quorum", "classic"]


@dataclass(frozen=True)
class Tls:
    """TLS; the broker's certificate is always verified. Paths are absolute."""

    ca: Path | None = None
    """Certificates in PEM of the authorities to trust; None: the system's."""
    certificate: Path | None = None
    """The client certificate, where the broker asks for one; together with ``key`` or not at all."""
    key: Path | None = None
    authorities: str | None = None
    """The text of ``ca``, in place of it: VMs have no such file, their start-up script contains the text."""


@dataclass(frozen=True)
class BrokerSettings:
    """The broker and one account on it."""

    host: str
    port: int
    virtual_host: str
    username: str
    password: Secret
    heartbeat: int = 30
    """Seconds between AMQP heartbeats."""
    tls: Tls | None = None
    """None: not encrypted."""
    prefix: str = field(default="", compare=False)
    """What the names of settings begin with in messages: ``landoconfig.yml: work_queue.``."""
    account_prefix: str = field(default="", compare=False)
    """What the names of the account's settings begin with: ``worker_`` for the workers' account."""
    from_url: bool = field(default=False, compare=False)
    """The address and the account were given as one setting, ``url``."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def setting(self, name: str) -> str:
        """A setting's full name, which messages begin with."""
        if self.from_url and name in ("host", "port", "virtual_host", "username", "password"):
            return f"{self.prefix}url"
        return f"{self.prefix}{self.account_prefix if name in ('username', 'password') else ''}{name}"

    def authorities(self) -> str | None:
        """Read the certificates of the authorities to trust, in PEM; None: the system's.

        Raises:
            UsageError: the file cannot be read, or does not consist of certificates: it may be half written.
        """
        if self.tls is None or self.tls.ca is None:
            return None if self.tls is None else self.tls.authorities
        try:
            text = self.tls.ca.read_text(encoding="ascii")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self.setting('tls.ca')}: {self.tls.ca}: {error}") from error
        self._refuse_unless_certificates(text)
        return text

    def _refuse_unless_certificates(self, text: str) -> None:
        import ssl  # noqa: PLC0415 - only where TLS is used

        try:
            # An empty text would be taken for "the system's authorities" by whoever trusts it.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text or "\n")
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(
                f"{self.setting('tls.ca')}: contains no PEM certificate, or only a part of one: {error}"
            ) from error
