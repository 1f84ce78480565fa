"""Where the broker is, how to log in, and how its refusals read to whoever has to mend them."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field

import pika
from pika import exceptions

from lando.errors import LandoError, UsageError
from lando.redaction import Secret
from lando.workqueue.interface import QueueAbsent, QueueUnavailable

GUEST = " (guest may log in only on the broker's own machine)"
CONNECT_TIMEOUT = 10.0
"""Seconds from the first packet to an open connection."""

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
"""Reply codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants"""


class QueueTaken(QueueUnavailable):
    """Another daemon is connected to the queue."""


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
                raise UsageError(f"{where}: {tls.certificate}: {_words(error)}") from error
        return context

    # refusals

    def trouble(self, error: BaseException | None) -> LandoError:
        """What a failure of pika means: a UsageError where a setting is wrong, else QueueUnavailable."""
        causes = list(_causes(error))
        for cause in reversed(causes):
            found = self._refused(cause)
            if found is not None:
                return found
        words = _words(causes[-1]) if causes else "the connection was closed"
        return QueueUnavailable(f"the broker at {self} cannot be used: {words}")

    def silence(self, seconds: float) -> QueueUnavailable:
        """What it means that there was no connection after so many seconds."""
        return QueueUnavailable(
            f"the broker at {self} did not answer within {seconds:g} s; see to it, or correct "
            f"{self.setting('host')} and port"
        )

    def _refused(self, error: BaseException) -> LandoError | None:
        if isinstance(error, exceptions.AuthenticationError) or _is_login_refused(error):
            return UsageError(
                f"{self.setting('password')}: the broker at {self} refuses the account {self.username!r} "
                f"with this password{GUEST if self.username == 'guest' else ''}; "
                "`lando-fsm rabbitmq-setup` prints what makes the accounts"
            )
        if isinstance(error, exceptions.ProbableAccessDeniedError):
            return self._virtual_host_refused(str(error))
        if isinstance(error, ssl.SSLError):
            return self._tls_refused(error)
        if isinstance(error, socket.gaierror):
            return QueueUnavailable(f"{self.setting('host')}: {self.host}: {error.strerror}")
        if isinstance(error, exceptions.IncompatibleProtocolError):
            if "CERTIFICATE_REQUIRED" in str(error):
                return UsageError(
                    f"{self.setting('tls.certificate')}: the broker at {self} wants one of ours"
                )
            return QueueUnavailable(
                f"{self.setting('port')}: nobody speaks AMQP at {self}; is this the broker's port, "
                f"and does it need {'no ' if self.tls else ''}tls?"
            )
        if isinstance(error, exceptions.StreamLostError):
            return QueueUnavailable(f"the connection to the broker at {self} was lost")
        if isinstance(error, exceptions.ChannelClosedByBroker):
            return self._operation_refused(error.reply_code, error.reply_text)
        if isinstance(error, exceptions.ConnectionClosedByBroker):
            return QueueUnavailable(f"the broker at {self} closed the connection: {error.reply_text}")
        if isinstance(error, OSError):
            return QueueUnavailable(
                f"the broker at {self} cannot be reached: {_words(error)}; start it, or correct "
                f"{self.setting('host')} and port"
            )
        if isinstance(error, exceptions.ConnectionOpenAborted):
            return self.silence(CONNECT_TIMEOUT)
        return None

    def _virtual_host_refused(self, words: str) -> LandoError:
        setting, name = self.setting("virtual_host"), repr(self.virtual_host)
        if "not found" in words:
            return UsageError(f"{setting}: the broker at {self} has no virtual host {name}")
        if "refused for user" in words:
            return UsageError(
                f"{setting}: the account {self.username!r} has no permission in the virtual host {name} of "
                f"the broker at {self}; `lando-fsm rabbitmq-setup` prints what gives it"
            )
        return QueueUnavailable(f"the broker at {self} refuses the virtual host {name} just now: {words}")

    def _tls_refused(self, error: ssl.SSLError) -> LandoError | None:
        if isinstance(error, ssl.SSLCertVerificationError):
            mismatch = "mismatch" in error.verify_message.lower() or "doesn't match" in error.verify_message
            setting, remedy = (
                ("host", "use a name or address that the certificate is for")
                if mismatch
                else ("tls.ca", "name the file with the certificate of the authority that signed it")
            )
            return UsageError(
                f"{self.setting(setting)}: the certificate of the broker at {self} does not hold: "
                f"{error.verify_message}; {remedy}"
            )
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "wrong version" in reason or "record layer" in reason:
            return UsageError(
                f"{self.setting('tls')}: the broker speaks no TLS at {self}; is port or tls wrong?"
            )
        if "certificate" in reason:
            return UsageError(
                f"{self.setting('tls.certificate')}: the broker at {self} wants one of ours: {reason}"
            )
        return None

    def _operation_refused(self, code: int, words: str) -> LandoError:
        said = words.partition(" - ")[2] or words
        if code == ACCESS_REFUSED:
            return UsageError(
                f"{self.setting('username')}: the account {self.username!r} lacks a permission: {said}; "
                "`lando-fsm rabbitmq-setup` prints what gives it"
            )
        if code == NOT_FOUND:
            return QueueAbsent(
                f"{said}: a daemon makes it at its first start; has one been started, and is "
                f"{self.setting('queue_name')} right?"
            )
        if code == RESOURCE_LOCKED:
            return QueueTaken(
                f"the queue on the broker at {self} is held by another connection: another daemon's, or an "
                "earlier one of this daemon, which the broker has not given up yet"
            )
        if code == PRECONDITION_FAILED and "inequivalent" in said:
            return self._another_kind(said)
        return QueueUnavailable(f"the broker at {self}: {said}")

    def _another_kind(self, said: str) -> UsageError:
        kind = re.search("x-queue-type.* current is (?:the value )?'?(quorum|classic|none)", said)
        if kind is not None:
            there = "quorum" if kind.group(1) == "quorum" else "classic"
            return UsageError(
                f"{self.setting('queue_type')}: the queue is there already, as a {there} one: {said}; set "
                f"queue_type: {there}, choose another queue_name, or delete it once it is empty"
            )
        return UsageError(
            f"{self.setting('queue_name')}: what is there already is of another kind: {said}; choose another "
            "name, or delete it on the broker once it is empty"
        )


def _is_login_refused(error: BaseException) -> bool:
    """Whether the broker said so; pika only guesses, also where a broker that stops cuts a login short."""
    return isinstance(error, exceptions.ProbableAuthenticationError) and f"({ACCESS_REFUSED})" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception of pika and those it wraps, outermost first."""
    if error is None:
        return
    yield error
    wrapped = [getattr(error, "exception", None), *getattr(error, "exceptions", ()), *error.args]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(argument) for argument in error.args if argument)
    return text or type(error).__name__
