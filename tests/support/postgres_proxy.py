"""Stands between a daemon and its PostgreSQL, and loses the connection at a chosen COMMIT, or its answer."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Literal

from tests.support.local_site import wait_for

HOST = "127.0.0.1"
Moment = Literal["before", "after"]
"""The connection is lost before the server got the COMMIT, or after it was done."""


class PostgresProxy:
    """A running proxy on a free port of loopback; ``close`` ends it.

    Args:
        port: PostgreSQL's.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: dict[socket.socket, bytes] = {}
        """What each client has sent since its last BEGIN."""
        self._fault: tuple[Moment, Callable[[bytes], bool]] | None = None
        self._losing: set[socket.socket] = set()
        """Servers whose next answer is lost."""
        self.accepted = 0
        self.commits: list[bytes] = []
        """What each transaction sent that was committed, or tried to be."""
        self.is_held = False
        """Nothing is passed on any more, and connections stay open."""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="postgres proxy")
        self._thread.start()

    def lose(self, moment: Moment, which: Callable[[bytes], bool]) -> None:
        """Lose the connection at the COMMIT of the next transaction of a kind; once.

        Args:
            moment: before or after it is done.
            which: chooses by what was sent in the transaction.
        """
        self._fault = moment, which

    def wait_until_lost(self) -> None:
        """Wait until that has happened."""
        wait_for(lambda: self._fault is None, "the COMMIT that is to be lost")

    def cut(self) -> None:
        """Close all connections to clients; PostgreSQL's stay open, as after a cut of the network."""
        for client in list(self._clients):
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        self._end.set()
        self._thread.join(10)
        for each in (self._listener, *self._peers):
            each.close()

    def _run(self) -> None:
        while not self._end.is_set():
            for key, _ in self._selector.select(0.02):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                if end is self._listener:
                    self._accept()
                elif end in self._peers and not self.is_held:
                    self._pass_on(end)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection((HOST, self._to))
        except OSError:
            near.close()
            return
        self.accepted += 1
        self._peers[near], self._peers[far] = far, near
        self._clients[near] = b""
        for each in (near, far):
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        peer = self._peers[end]
        try:
            data = end.recv(1 << 16)
            if not data or end in self._losing:
                self._drop(end, peer)
                return
            if end in self._clients and not self._sees(end, peer, data):
                return
            peer.sendall(data)
        except OSError:
            self._drop(end, peer)

    def _sees(self, client: socket.socket, server: socket.socket, data: bytes) -> bool:
        """Whether to pass on what a client sends."""
        sent = self._clients[client] = self._clients[client] + data
        if b"BEGIN" in data:
            self._clients[client] = data
        if not _is_commit(data):
            return True
        self.commits.append(sent)
        fault = self._fault
        if fault is None or not fault[1](sent):
            return True
        self._fault = None
        if fault[0] == "before":
            self._drop(client, server)
            return False
        self._losing.add(server)
        return True

    def _drop(self, *ends: socket.socket) -> None:
        for end in ends:
            with contextlib.suppress(KeyError):
                self._selector.unregister(end)
            self._peers.pop(end, None)
            self._clients.pop(end, None)
            self._losing.discard(end)
            end.close()


def _is_commit(data: bytes) -> bool:
    return b"COMMIT" in data[:64]
