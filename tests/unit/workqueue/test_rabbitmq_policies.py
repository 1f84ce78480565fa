"""Who gets the password when policies are asked for, and what an answer may do."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lando.redaction import Secret
from lando.workqueue.rabbitmq import policies
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.policies import PoliciesUnseen, harmful_policies
from lando.workqueue.rabbitmq.settings import BrokerSettings

ADDRESS = f"127.{os.getpid() % 250 + 1}.{os.getpid() // 250 % 250 + 1}.8"
BROKER = BrokerSettings(ADDRESS, 5672, "/", "lando", Secret("hunter2"), prefix="c.yml: work_queue.")
NAMES = QueueNames("lando")
SENT = b"Authorization: Basic bGFuZG86aHVudGVyMg=="

# As Linux prints it; a row has more columns than that.
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
ROW = "   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 {uid:5} 0 1 1"
V4, V6 = "0100007F", "0" * 32


def table(*rows: tuple[int, int], address: str = V4, state: str = "0A") -> str:
    """The file's text, of rows with a port and an account."""
    return "\n".join(
        [HEADER, *(ROW.format(address=address, port=port, uid=uid, state=state) for port, uid in rows), ""]
    )


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """What this machine says of its sockets; at first, the broker's account listens at both ports."""
    files = (tmp_path / "tcp", tmp_path / "tcp6")
    files[0].write_text(table((5672, 105), (15672, 105), (25672, 7)))
    monkeypatch.setattr(policies, "SOCKETS", files)
    return files


class Listener:
    """Answers every connection with the same bytes, then with one more byte now and then."""

    def __init__(self) -> None:
        self.answer = b""
        self.drips = False
        self.received = b""
        self._socket = socket.create_server((ADDRESS, policies.PORT))
        self._thread = threading.Thread(target=self._serve)
        self._over = threading.Event()
        self._thread.start()

    def _serve(self) -> None:
        self._socket.settimeout(0.05)
        while not self._over.is_set():
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5.0)
                self.received += connection.recv(10_000)
                connection.sendall(self.answer)
                while self.drips and not self._over.wait(0.05):
                    connection.sendall(b" ")

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


def test_the_account_that_listens_as_the_broker_is_asked(
    sockets: tuple[Path, Path], listener: Listener
) -> None:
    with pytest.raises(PoliciesUnseen, match="no management plugin answers at"):
        harmful_policies(BROKER, NAMES)
    assert SENT in listener.received
    listener.received = b""
    sockets[0].write_text(table())
    sockets[1].write_text(table((5672, 105), (15672, 105), address=V6))
    with pytest.raises(PoliciesUnseen, match="no management plugin answers at"):
        harmful_policies(BROKER, NAMES)
    assert SENT in listener.received


@pytest.mark.parametrize(
    "rows",
    {
        "another account": ((5672, 105), (15672, 1000)),
        "another account as well": ((5672, 105), (15672, 105), (15672, 1000)),
        "another account at both": ((5672, 105), (5672, 1000), (15672, 1000)),
        "both at both": ((5672, 105), (5672, 1000), (15672, 105), (15672, 1000)),
        "no broker": ((15672, 105),),
    }.values(),
)
def test_the_password_is_not_sent_to_strangers(
    sockets: tuple[Path, Path], listener: Listener, rows: tuple[tuple[int, int], ...]
) -> None:
    sockets[0].write_text(table(*rows))
    with pytest.raises(PoliciesUnseen, match="is not known to be the broker's, and the account's password"):
        harmful_policies(BROKER, NAMES)
    assert not listener.received


def test_what_does_not_listen_is_not_counted(sockets: tuple[Path, Path], listener: Listener) -> None:
    sockets[1].write_text(table((15672, 1000), state="01"))
    with pytest.raises(PoliciesUnseen, match="no management plugin answers at"):
        harmful_policies(BROKER, NAMES)
    assert SENT in listener.received
    sockets[0].write_text(table((5672, 105)))
    with pytest.raises(PoliciesUnseen, match="no management plugin listens at"):
        harmful_policies(BROKER, NAMES)


@pytest.mark.parametrize("host", ["192.0.2.7", "nowhere.invalid"])
def test_the_password_is_not_sent_over_the_network_as_clear_text(
    sockets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(policies, "_connect", lambda _: pytest.fail("it is asked"))
    with pytest.raises(PoliciesUnseen, match=f"without `tls` nothing proves that http://{host}:15672 is "):
        harmful_policies(replace(BROKER, host=host), NAMES)


@pytest.mark.usefixtures("sockets")
def test_an_answer_that_does_not_end_is_not_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "LONGEST", 0.5)
    listener.answer, listener.drips = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", True
    begun = time.monotonic()
    with pytest.raises(PoliciesUnseen, match="timed out"):
        harmful_policies(BROKER, NAMES)
    assert time.monotonic() - begun < policies.TIMEOUT


@pytest.mark.usefixtures("sockets")
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.0 302 Found\r\nLocation: http://192.0.2.7/\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + 300_000 * b"[",
        b"HTTP/1.0 200 OK\r\n\r\n\xff\xfe",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
    ],
)
def test_what_is_no_management_plugin_is_no_error_of_ours(listener: Listener, answer: bytes) -> None:
    listener.answer = answer
    with pytest.raises(PoliciesUnseen, match="no management plugin answers at") as unseen:
        harmful_policies(BROKER, NAMES)
    assert "timed out" not in str(unseen.value)
