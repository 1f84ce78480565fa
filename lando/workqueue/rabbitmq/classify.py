"""What pika's exceptions and the broker's errors mean, and which setting to correct."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from pika import exceptions

from lando.errors import LandoError, UsageError
from lando.workqueue.interface import QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.refusals import passing_refusal

GUEST = " (guest may log in only on the broker's own machine)"

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
"""Reply codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants"""


_OUT_OF_DATE = {
    9: "is not valid yet; check the clocks of this machine and of the one that made it",
    10: "has expired; renew it, and restart the broker",
}
"""What to tell of a certificate that cannot be verified now; OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and
X509_V_ERR_CERT_HAS_EXPIRED."""


class QueueTaken(QueueUnavailable):
    """Another connection holds the daemon's exclusive queue."""


def classify(broker: Broker, error: BaseException | None) -> LandoError:
    """The error to raise for a failed connection: UsageError if a setting is wrong, else QueueUnavailable.

    Args:
        broker: where pika connected to.
        error: pika's exception; None if the connection was closed without one.
    """
    causes = list(_causes(error))
    for cause in reversed(causes):
        found = _classify_cause(broker, cause)
        if found is not None:
            return found
    reason = _detail(causes[-1]) if causes else "the connection was closed"
    return QueueUnavailable(f"the broker at {broker} cannot be used: {reason}")


def is_access_refused(error: BaseException) -> bool:
    """Whether the broker has closed a channel because the account lacks a permission."""
    return isinstance(error, exceptions.ChannelClosedByBroker) and error.reply_code == ACCESS_REFUSED


def no_answer(broker: Broker, seconds: float) -> QueueUnavailable:
    """The error to raise when the broker did not answer within ``seconds``."""
    return QueueUnavailable(
        f"the broker at {broker} did not answer within {seconds:g} s; check the broker, or correct "
        f"{broker.setting('host')} and port"
    )


def blocked_message(broker: Broker, reason: str) -> str:
    """What to tell when the broker accepts no messages; ``reason`` is its own, such as "low on memory"."""
    return f"the broker at {broker} accepts no messages at present: {reason}"


def _classify_cause(broker: Broker, error: BaseException) -> LandoError | None:
    if isinstance(error, exceptions.AuthenticationError) or _is_login_refused(error):
        return UsageError(
            f"{broker.setting('password')}: the broker at {broker} refuses the account {broker.username!r} "
            f"with this password{GUEST if broker.username == 'guest' else ''}; "
            "`lando-fsm rabbitmq-setup` prints a script that creates the accounts"
        )
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        return _virtual_host_refused(broker, str(error))
    if isinstance(error, ssl.SSLError):
        return _tls_refused(broker, error)
    if isinstance(error, socket.gaierror):
        return QueueUnavailable(
            f"the name of the broker, {broker.host}, cannot be resolved: {error.strerror}; check DNS, or "
            f"correct {broker.setting('host')}"
        )
    if isinstance(error, exceptions.IncompatibleProtocolError):
        # With TLS 1.3 the broker judges our certificate only after the handshake.
        alert = re.search(
            "ALERT_(CERTIFICATE|BAD_CERTIFICATE|UNKNOWN_CA)[A-Z_]*|CERTIFICATE_REQUIRED", str(error)
        )
        if alert is not None:
            return _client_certificate_refused(broker, alert[0])
        return QueueUnavailable(
            f"{broker.setting('port')}: no AMQP server answers at {broker}; check that this is the broker's "
            f"port, and whether tls must be {'off' if broker.tls else 'on'}"
            f"{_or_certificate(broker)}"
        )
    if isinstance(error, exceptions.StreamLostError):
        return QueueUnavailable(f"the connection to the broker at {broker} was lost")
    if isinstance(error, exceptions.ChannelClosedByBroker):
        return _classify_reply(broker, error.reply_code, error.reply_text)
    if isinstance(error, exceptions.ConnectionClosedByBroker):
        return passing_refusal(broker, error.reply_text) or QueueUnavailable(
            f"the broker at {broker} closed the connection: {error.reply_text}"
        )
    if isinstance(error, OSError):
        return QueueUnavailable(
            f"the broker at {broker} cannot be reached: {_detail(error)}; start it, or correct "
            f"{broker.setting('host')} and port"
        )
    if isinstance(error, exceptions.ConnectionOpenAborted):
        return no_answer(broker, CONNECT_TIMEOUT)
    return None


def _virtual_host_refused(broker: Broker, reason: str) -> LandoError:
    setting, name = broker.setting("virtual_host"), repr(broker.virtual_host)
    passing = passing_refusal(broker, reason)  # its words contain those of a missing permission
    if passing is not None:
        return passing
    if "not found" in reason:
        return UsageError(f"{setting}: the broker at {broker} has no virtual host {name}")
    if "refused for user" in reason:
        return UsageError(
            f"{setting}: the account {broker.username!r} has no permission in the virtual host {name} of "
            f"the broker at {broker}; `lando-fsm rabbitmq-setup` prints a script that grants it"
        )
    return QueueUnavailable(f"the broker at {broker} refuses the virtual host {name} at present: {reason}")


def _tls_refused(broker: Broker, error: ssl.SSLError) -> LandoError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OUT_OF_DATE:
            return QueueUnavailable(
                f"the certificate of the broker at {broker}, or of its authority, "
                f"{_OUT_OF_DATE[error.verify_code]}"
            )
        mismatch = "mismatch" in error.verify_message.lower() or "doesn't match" in error.verify_message
        setting, remedy = (
            ("host", "use a name or address that the certificate contains")
            if mismatch
            else ("tls.ca", "set it to the file with the certificate of the authority that signed it")
        )
        return UsageError(
            f"{broker.setting(setting)}: the certificate of the broker at {broker} cannot be verified: "
            f"{error.verify_message}; {remedy}"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        return UsageError(
            f"{broker.setting('tls')}: the broker does not use TLS at {broker}; check port and tls"
        )
    if "certificate" in reason or "unknown ca" in reason:
        return _client_certificate_refused(broker, reason)
    return None


def _or_certificate(broker: Broker) -> str:
    """The broker may close the connection before its reason is read."""
    has_certificate = broker.tls is not None and broker.tls.certificate is not None
    return ", and whether tls.certificate has expired" if has_certificate else ""


def _client_certificate_refused(broker: Broker, alert: str) -> LandoError:
    """The broker's answer to our certificate, or to its absence: an alert of TLS (RFC 8446, 6.2)."""
    alert = alert.replace("_", " ").lower()
    setting = broker.setting("tls.certificate")
    if "expired" in alert:  # the broker says the same of one that is not valid yet
        return QueueUnavailable(
            f"{setting}: the broker at {broker} refuses the client certificate, since it has expired or is "
            "not valid yet; replace the files of tls.certificate and tls.key; each try reads them"
        )
    return UsageError(f"{setting}: the broker at {broker} requires a client certificate: {alert}")


def _classify_reply(broker: Broker, code: int, text: str) -> LandoError:
    detail = text.partition(" - ")[2] or text
    passing = passing_refusal(broker, detail)
    if passing is not None:
        return passing
    if code == ACCESS_REFUSED:
        return UsageError(
            f"{broker.setting('username')}: the account {broker.username!r} lacks a permission: {detail}; "
            "`lando-fsm rabbitmq-setup` prints a script that grants it"
        )
    if code == NOT_FOUND:
        return QueueAbsent(
            f"{detail}: a daemon creates it when it first starts; check that one was started, and "
            f"{broker.setting('queue_name')}"
        )
    if code == RESOURCE_LOCKED:
        return QueueTaken(
            f"the queue on the broker at {broker} is held by another connection: another daemon's, or an "
            "earlier one of this daemon that the broker has not closed yet"
        )
    if code == PRECONDITION_FAILED and "inequivalent" in detail:
        return _declared_differently(broker, detail)
    return QueueUnavailable(f"the broker at {broker}: {detail}")


def _declared_differently(broker: Broker, detail: str) -> UsageError:
    _, _, current = detail.partition("x-queue-type")[2].partition(" current is ")
    kind = re.match("(?:the value )?'?(quorum|classic|none)", current)
    if kind is not None:
        existing = "quorum" if kind.group(1) == "quorum" else "classic"
        return UsageError(
            f"{broker.setting('queue_type')}: the queue exists already, as a {existing} queue: {detail}; set "
            f"queue_type: {existing}, choose another queue_name, or delete the queue once it is empty"
        )
    return UsageError(
        f"{broker.setting('queue_name')}: the queue or exchange exists already, with other properties: "
        f"{detail}; choose another name, or delete it once it is empty"
    )


def _is_login_refused(error: BaseException) -> bool:
    """Whether the broker said so. pika also guesses it when a broker that stops closes the connection."""
    return isinstance(error, exceptions.ProbableAuthenticationError) and f"({ACCESS_REFUSED})" in str(error)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception of pika, and those it wraps, outermost first."""
    if error is None:
        return
    yield error
    wrapped = [getattr(error, "exception", None), *getattr(error, "exceptions", ()), *error.args]
    for inner in wrapped:
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _detail(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(argument) for argument in error.args if argument)
    return text or type(error).__name__
