"""Where the broker is, how to log in, and how its refusals read to whoever has to mend them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field

import pika

from lando.errors import UsageError
from lando.redaction import Secret

CONNECT_TIMEOUT = 10.0
"""Seconds from the first packet to an open connection."""


@dataclass(frozen=True)
class Tls:
    """TLS, always with verification.

    Args:
        authorities: certificates in PEM that may have signed the broker's; None: the system's.
        certificate: the file of our own certificate, where the broker asks for one; ``key`` is its key's.
    """

    authorities: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Broker:
    """The broker and one account on it.

    Args:
        heartbeat: seconds of silence that may pass between two signs of life on a connection.
        settings: what the names of settings begin with in messages, as ``landoconfig.yml: work_queue.``.
        from_url: the settings were given as one, ``url``.
    """

    host: str
    port: int
    virtual_host: str
    username: str
    password: Secret
    heartbeat: int = 30
    tls: Tls | None = None
    settings: str = field(default="", compare=False)
    from_url: bool = field(default=False, compare=False)
    account: str = field(default="", compare=False)
    """What the names of the account's settings begin with: ``worker_`` for the workers' account."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def setting(self, name: str) -> str:
        """A setting's full name, as messages begin with it."""
        if self.from_url and name in ("host", "port", "virtual_host", "username", "password"):
            return f"{self.settings}url"
        return f"{self.settings}{self.account if name in ('username', 'password') else ''}{name}"

    def parameters(self) -> pika.ConnectionParameters:
        """What pika needs to connect.

        Raises:
            UsageError: a certificate or key cannot be used.
        """
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(self.username, self.password.reveal()),
            heartbeat=self.heartbeat,
            socket_timeout=CONNECT_TIMEOUT,
            stack_timeout=CONNECT_TIMEOUT,
            ssl_options=None if self.tls is None else pika.SSLOptions(self._context(self.tls), self.host),
            client_properties={"product": "lando-fsm", "connection_name": f"lando-fsm {self.username}"},
        )

    def _context(self, tls: Tls) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cadata=tls.authorities)
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(f"{self.setting('tls.ca')}: holds no certificate in PEM: {error}") from error
        if tls.certificate is not None:
            try:
                context.load_cert_chain(tls.certificate, tls.key, password="")
            except (ssl.SSLError, OSError, ValueError) as error:
                where = f"{self.setting('tls.certificate')} and tls.key"
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"{where}: {tls.certificate}: {reason}") from error
        return context
