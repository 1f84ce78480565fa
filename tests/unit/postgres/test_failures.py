"""What is waited for and what is not, by libpq's words: a connection that was not made has no code."""

from __future__ import annotations

import psycopg
import pytest

from lando.postgres.address import Address
from lando.postgres.failures import failure

ONE = Address(("h:5432",), "d", "u")
TWO = Address(("h:5432", "i:5432"), "d", "u")
AT = 'connection failed: connection to server at "192.0.2.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("words", "kind", "advice"),
    [
        (f'{AT}FATAL:  password authentication failed for user "u"', "forbidden", "password in database.url"),
        (f"{AT}fe_sendauth: no password supplied", "forbidden", "or set PGPASSWORD"),
        (f'{AT}FATAL:  Peer authentication failed for user "u"', "forbidden", "the account or the password"),
        (f'{AT}FATAL:  role "u" does not exist', "forbidden", "the account or the password"),
        (f'{AT}FATAL:  role "u" is not permitted to log in', "forbidden", "the account or the password"),
        (f'{AT}FATAL:  no pg_hba.conf entry for host "h"', "forbidden", "pg_hba.conf of the server must"),
        (f'{AT}FATAL:  database "d" does not exist', "forbidden", "create it"),
        (f'{AT}FATAL:  permission denied for database "d"', "forbidden", "needs more rights"),
        (f"{AT}SSL error: certificate verify failed", "forbidden", "correct sslmode and sslrootcert"),
        (f'{AT}server certificate for "h" does not match host name "i"', "forbidden", "correct sslmode"),
        (f"{AT}session is read-only", "forbidden", "name the primary"),
        (f"{AT}SSL error: unexpected eof while reading", "outage", ""),
        (f"{AT}FATAL:  sorry, too many clients already", "outage", "max_connections"),
        (
            f"{AT}FATAL:  remaining connection slots are reserved for non-replication superuser connections",
            "outage",
            "max_connections",
        ),
        (f"{AT}FATAL:  the database system is starting up", "outage", "starting or stopping"),
        (f"{AT}FATAL:  the database system is in recovery mode", "outage", "starting or stopping"),
        (f"{AT}Connection refused\n\tIs the server running on that host?", "outage", "is it running"),
        ("connection timeout expired", "outage", "is it running"),
        ("failed to resolve host 'certificate.example.org': [Errno -2] ...", "outage", "is it running"),
        (f"{AT}server closed the connection unexpectedly", "outage", "is it running"),
        (
            'connection to server on socket "/run/.s.PGSQL.5432" failed: No such file',
            "outage",
            "is it running",
        ),
        (f"{AT}FATAL:  Passwort-Authentifizierung fehlgeschlagen", "outage", ""),
        ("the connection is lost", "outage", ""),
    ],
)
def test_a_connection_that_is_not_made_or_lost(words: str, kind: str, advice: str) -> None:
    found = failure(psycopg.OperationalError(words), ONE)
    assert found is not None and found.kind == kind
    assert found.sentence.startswith("database 'd' at h:5432, account u: ")
    assert advice in found.sentence and (advice or "(" not in found.sentence)
    assert "\n" not in found.sentence and "FATAL" not in found.sentence


def test_of_several_servers_each_is_told_and_a_promotion_is_waited_for() -> None:
    host = "\n- host: '{0}', port: '5432', hostaddr: '192.0.2.{1}': connection failed: {2}"
    words = (
        f"{AT}session is read-only\nMultiple connection attempts failed. All failures were:"
        + host.format("h", 1, f"{AT}session is read-only")
        + host.format("i", 2, 'connection to server at "192.0.2.2", port 5432 failed: session is read-only')
    )
    found = failure(psycopg.OperationalError(words), TWO)
    assert found is not None and found.kind == "outage"
    assert found.sentence.count("session is read-only") == 2
    assert found.sentence.startswith("database 'd' at h:5432 or i:5432, account u: ")


def test_what_is_wrong_with_a_statement_says_nothing_of_the_database() -> None:
    assert failure(psycopg.errors.UniqueViolation("x"), ONE) is None
    assert failure(psycopg.errors.NumericValueOutOfRange("x"), ONE) is None
    assert failure(ValueError("x"), ONE) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.SerializationFailure, "conflict"),
        (psycopg.errors.DeadlockDetected, "conflict"),
        (psycopg.errors.DiskFull, "outage"),
        (psycopg.errors.IoError, "outage"),
        (psycopg.errors.AdminShutdown, "outage"),
        (psycopg.errors.IdleInTransactionSessionTimeout, "outage"),
        (psycopg.errors.LockNotAvailable, "outage"),
        (psycopg.errors.ReadOnlySqlTransaction, "forbidden"),
        (psycopg.errors.InsufficientPrivilege, "forbidden"),
        (psycopg.errors.UndefinedTable, "unusable"),
        (psycopg.errors.IndexCorrupted, "unusable"),
    ],
)
def test_by_code(error: type[psycopg.Error], kind: str) -> None:
    found = failure(error("x"), ONE)
    assert found is not None and found.kind == kind
