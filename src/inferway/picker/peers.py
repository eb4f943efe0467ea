"""Who is at the other end of pick connections, and what a connection needs of its server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Protocol

from inferway.picker.machine import Callout, Malformed
from inferway.picker.replies import Later, Refused, Reply
from inferway.scheduling.events import Event

# A proxy that restarts its connections is back long before this.
PROXY_GONE_SECONDS = 5.0


class Answers(Protocol):
    """The service of one pool, or of several."""

    @property
    def declared(self) -> frozenset[bytes]:
        """Lower-case names of all headers that policies of the pools read."""
        ...

    def answer(self, call: Callout, proxy: str) -> Reply | Later:
        """The answer, or how to get it a little later."""
        ...

    def malformed(self, problem: Malformed) -> Refused:
        """The last answer on a connection that can not go on."""
        ...


class Connection(Protocol):
    """One connection of a proxy, whatever it speaks."""

    @property
    def open(self) -> int:
        """Questions without an answer, and answers whose request has not ended as far as it is
        told here."""
        ...

    @property
    def picks(self) -> Iterable[str]:
        """Choices whose end will be told over this connection, or the connection ends."""
        ...

    def close_when_idle(self) -> None:
        """Closes, after the answer that is under way."""
        ...


class PickPeers(Protocol):
    """The server as its connections see it."""

    service: Answers
    draining: bool
    time: Callable[[], float]
    settle: Callable[[Event], None]

    def connected(self, connection: Connection, proxy: str) -> None:
        """A proxy has opened a connection."""
        ...

    def disconnected(self, connection: Connection, proxy: str) -> None:
        """A connection is gone."""
        ...


class Proxies:
    """Counts the connections of each proxy and tells when one is gone."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        gone: Callable[[str], None],
        *,
        seconds: float = PROXY_GONE_SECONDS,
    ) -> None:
        self._seconds = seconds
        self._loop = loop
        self._gone = gone
        self._connections: dict[str, int] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def opened(self, proxy: str) -> None:
        """One more connection."""
        self._connections[proxy] = self._connections.get(proxy, 0) + 1
        timer = self._leaving.pop(proxy, None)
        if timer is not None:
            timer.cancel()

    def closed(self, proxy: str) -> None:
        """One connection less."""
        self._connections[proxy] -= 1
        if self._connections[proxy] == 0:
            del self._connections[proxy]
            self._leaving[proxy] = self._loop.call_later(self._seconds, self._left, proxy)

    def _left(self, proxy: str) -> None:
        del self._leaving[proxy]
        self._gone(proxy)

    def close(self) -> None:
        """Forgets everything that is under way."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()


def peer_of(transport: asyncio.Transport) -> str:
    """``unix:<pid>`` or the address at the other end."""
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family == socket.AF_UNIX:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"unix:{struct.unpack('3i', credentials)[0]}"
    address = transport.get_extra_info("peername")
    return str(address[0]) if isinstance(address, tuple) else "unknown"
