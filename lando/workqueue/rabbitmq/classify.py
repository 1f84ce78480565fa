"""What pika's exceptions and the broker's refusals mean, and how to correct them."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator

from pika import exceptions

from lando.errors import LandoError, UsageError
from lando.workqueue.interface import QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker

GUEST = " (guest may log in only on the broker's own machine)"

ACCESS_REFUSED, NOT_FOUND, RESOURCE_LOCKED, PRECONDITION_FAILED = 403, 404, 405, 406
"""Reply codes: https://www.rabbitmq.com/amqp-0-9-1-reference#constants"""


class QueueTaken(QueueUnavailable):
    """Another daemon is connected to the queue."""


def classify(broker: Broker, error: BaseException | None) -> LandoError:
    """What a failure of pika means: a UsageError where a setting is wrong, else QueueUnavailable."""
    causes = list(_causes(error))
    for cause in reversed(causes):
        found = _refused(broker, cause)
        if found is not None:
            return found
    words = _words(causes[-1]) if causes else "the connection was closed"
    return QueueUnavailable(f"the broker at {broker} cannot be used: {words}")


def no_answer(broker: Broker, seconds: float) -> QueueUnavailable:
    """What it means that there was no connection after so many seconds."""
    return QueueUnavailable(
        f"the broker at {broker} did not answer within {seconds:g} s; see to it, or correct "
        f"{broker.setting('host')} and port"
    )


def blocked_message(broker: Broker, reason: str) -> str:
    """What it means that the broker accepts no messages: the reason is its own, such as "low on memory"."""
    return f"the broker at {broker} takes no messages just now: {reason}"


def _refused(broker: Broker, error: BaseException) -> LandoError | None:
    if isinstance(error, exceptions.AuthenticationError) or _is_login_refused(error):
        return UsageError(
            f"{broker.setting('password')}: the broker at {broker} refuses the account {broker.username!r} "
            f"with this password{GUEST if broker.username == 'guest' else ''}; "
            "`lando-fsm rabbitmq-setup` prints what makes the accounts"
        )
    if isinstance(error, exceptions.ProbableAccessDeniedError):
        return _virtual_host_refused(broker, str(error))
    if isinstance(error, ssl.SSLError):
        return _tls_refused(broker, error)
    if isinstance(error, socket.gaierror):
        return QueueUnavailable(f"{broker.setting('host')}: {broker.host}: {error.strerror}")
    if isinstance(error, exceptions.IncompatibleProtocolError):
        if "CERTIFICATE_REQUIRED" in str(error):
            return UsageError(
                f"{broker.setting('tls.certificate')}: the broker at {broker} wants one of ours"
            )
        return QueueUnavailable(
            f"{broker.setting('port')}: nobody speaks AMQP at {broker}; is this the broker's port, "
            f"and does it need {'no ' if broker.tls else ''}tls?"
        )
    if isinstance(error, exceptions.StreamLostError):
        return QueueUnavailable(f"the connection to the broker at {broker} was lost")
    if isinstance(error, exceptions.ChannelClosedByBroker):
        return _operation_refused(broker, error.reply_code, error.reply_text)
    if isinstance(error, exceptions.ConnectionClosedByBroker):
        return QueueUnavailable(f"the broker at {broker} closed the connection: {error.reply_text}")
    if isinstance(error, OSError):
        return QueueUnavailable(
            f"the broker at {broker} cannot be reached: {_words(error)}; start it, or correct "
            f"{broker.setting('host')} and port"
        )
    if isinstance(error, exceptions.ConnectionOpenAborted):
        return no_answer(broker, CONNECT_TIMEOUT)
    return None


def _virtual_host_refused(broker: Broker, words: str) -> LandoError:
    setting, name = broker.setting("virtual_host"), repr(broker.virtual_host)
    if "not found" in words:
        return UsageError(f"{setting}: the broker at {broker} has no virtual host {name}")
    if "refused for user" in words:
        return UsageError(
            f"{setting}: the account {broker.username!r} has no permission in the virtual host {name} of "
            f"the broker at {broker}; `lando-fsm rabbitmq-setup` prints what gives it"
        )
    return QueueUnavailable(f"the broker at {broker} refuses the virtual host {name} just now: {words}")


def _tls_refused(broker: Broker, error: ssl.SSLError) -> LandoError | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        mismatch = "mismatch" in error.verify_message.lower() or "doesn't match" in error.verify_message
        setting, remedy = (
            ("host", "use a name or address that the certificate is for")
            if mismatch
            else ("tls.ca", "name the file with the certificate of the authority that signed it")
        )
        return UsageError(
            f"{broker.setting(setting)}: the certificate of the broker at {broker} does not hold: "
            f"{error.verify_message}; {remedy}"
        )
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason:
        return UsageError(
            f"{broker.setting('tls')}: the broker speaks no TLS at {broker}; is port or tls wrong?"
        )
    if "certificate" in reason:
        return UsageError(
            f"{broker.setting('tls.certificate')}: the broker at {broker} wants one of ours: {reason}"
        )
    return None


def _operation_refused(broker: Broker, code: int, words: str) -> LandoError:
    said = words.partition(" - ")[2] or words
    if code == ACCESS_REFUSED:
        return UsageError(
            f"{broker.setting('username')}: the account {broker.username!r} lacks a permission: {said}; "
            "`lando-fsm rabbitmq-setup` prints what gives it"
        )
    if code == NOT_FOUND:
        return QueueAbsent(
            f"{said}: a daemon makes it at its first start; has one been started, and is "
            f"{broker.setting('queue_name')} right?"
        )
    if code == RESOURCE_LOCKED:
        return QueueTaken(
            f"the queue on the broker at {broker} is held by another connection: another daemon's, or an "
            "earlier one of this daemon, which the broker has not given up yet"
        )
    if code == PRECONDITION_FAILED and "inequivalent" in said:
        return _another_kind(broker, said)
    return QueueUnavailable(f"the broker at {broker}: {said}")


def _another_kind(broker: Broker, said: str) -> UsageError:
    kind = re.search("x-queue-type.* current is (?:the value )?'?(quorum|classic|none)", said)
    if kind is not None:
        there = "quorum" if kind.group(1) == "quorum" else "classic"
        return UsageError(
            f"{broker.setting('queue_type')}: the queue is there already, as a {there} one: {said}; set "
            f"queue_type: {there}, choose another queue_name, or delete it once it is empty"
        )
    return UsageError(
        f"{broker.setting('queue_name')}: what is there already is of another kind: {said}; choose another "
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
