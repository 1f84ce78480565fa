"""The broker's settings as pika's connection parameters."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import pika

from lando.errors import UsageError
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls

CONNECT_TIMEOUT = 10.0
"""Seconds from the first packet to an open connection."""


@dataclass(frozen=True)
class Broker(BrokerSettings):
    """The broker and one account on it, as pika connects to it."""

    def parameters(self) -> pika.ConnectionParameters:
        """What pika needs to connect. Certificates are read anew, since they are renewed now and then.

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
            context = ssl.create_default_context(cadata=self.authorities())
        except (ssl.SSLError, ValueError) as error:
            raise UsageError(f"{self.setting('tls.ca')}: contains no PEM certificate: {error}") from error
        if tls.certificate is not None:
            try:
                context.load_cert_chain(tls.certificate, tls.key, password="")
            except (ssl.SSLError, OSError, ValueError) as error:
                where = f"{self.setting('tls.certificate')} and tls.key"
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"{where}: {tls.certificate}: {reason}") from error
        return context
