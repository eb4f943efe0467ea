"""The pick callout's server: connections on a Unix socket and on TCP, and who is at the other end.

A pump: bytes go to the machine, callouts to the service, answers back. A proxy is known by its
process (Unix socket) or its address (TCP); when the last connection of a proxy is gone for a
while, so is the proxy.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from inferway.picker.machine import CalloutMachine, Command, Malformed
from inferway.picker.service import Later, PickService, Reply

# A proxy that restarts its connections is back long before this.
PROXY_GONE_SECONDS = 5.0
# A connection that closes this soon after an answer most often belongs to a client that left.
DOUBT_WINDOW_SECONDS = 1.0
_BACKLOG = 1024


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


class CalloutProtocol(asyncio.Protocol):
    """One connection of a proxy."""

    def __init__(self, server: CalloutServer) -> None:
        self._server = server
        self._machine = CalloutMachine()
        self._transport: asyncio.Transport | None = None
        self._proxy = ""
        self._waiting: deque[Command] = deque()
        self._held = False
        self._bodiless = False
        self._last_pick = ""
        self._last_at = 0.0
        self._time = server.loop.time

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._proxy = peer_of(self._transport)
        self._server.connected(self, self._proxy)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._last_pick and self._time() - self._last_at < DOUBT_WINDOW_SECONDS:
            self._server.doubted(self._last_pick)
        self._server.disconnected(self, self._proxy)

    def data_received(self, data: bytes) -> None:
        for command in self._machine.handle(data):
            if self._held:
                self._waiting.append(command)
            else:
                self._run(command)

    def close_when_idle(self) -> None:
        """Closes, after the answer that is under way."""
        if self._transport is not None and not self._held:
            self._transport.close()

    def _run(self, command: Command) -> None:
        if isinstance(command, Malformed):
            if self._transport is not None:
                self._transport.write(self._server.service.malformed(command))
                self._transport.close()
            return
        self._bodiless = command.method == b"HEAD"
        reply = self._server.service.answer(command, self._proxy)
        if isinstance(reply, Later):
            self._held = True
            if reply.start(self._resume):
                return
            self._held = False
            reply = reply.otherwise
        self._write(reply)

    def _write(self, reply: Reply) -> None:
        if self._transport is None:
            if reply.pick:
                self._server.doubted(reply.pick)
            return
        data = reply.data
        if self._bodiless:
            # An answer to HEAD says how long its body would be and has none.
            data = data[: data.index(b"\r\n\r\n") + 4]
        self._transport.write(data)
        self._last_pick = reply.pick
        self._last_at = self._time()
        if self._server.draining:
            self._transport.close()

    def _resume(self, reply: Reply) -> None:
        self._held = False
        self._write(reply)
        while self._waiting and not self._held:
            self._run(self._waiting.popleft())


class CalloutServer:
    """Listens; ``doubted`` and ``gone`` are told what the connections say about requests."""

    def __init__(
        self,
        service: PickService,
        *,
        doubted: Callable[[str], None],
        gone: Callable[[str], None],
    ) -> None:
        self.service = service
        self.loop = asyncio.get_running_loop()
        self.doubted = doubted
        self.draining = False
        self.port = 0
        self._proxies = Proxies(self.loop, gone)
        self._connections: set[CalloutProtocol] = set()
        self._servers: list[asyncio.Server] = []
        self._socket_path: Path | None = None

    async def listen_tcp(self, address: str, port: int) -> None:
        """Raises OSError if the port is taken."""
        server = await self.loop.create_server(
            lambda: CalloutProtocol(self), address, port, backlog=_BACKLOG
        )
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def listen_unix(self, path: str) -> None:
        """Takes the place of a socket that a process before left behind. Raises OSError."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        server = await self.loop.create_unix_server(
            lambda: CalloutProtocol(self), path, backlog=_BACKLOG
        )
        # Proxies may run as another user.
        place.chmod(0o666)
        self._socket_path = place
        self._servers.append(server)

    def connected(self, connection: CalloutProtocol, proxy: str) -> None:
        """A proxy has opened a connection."""
        self._connections.add(connection)
        self._proxies.opened(proxy)

    def disconnected(self, connection: CalloutProtocol, proxy: str) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._proxies.closed(proxy)

    async def drain(self) -> None:
        """Takes no new connections and closes the others as they have been answered."""
        self.draining = True
        for server in self._servers:
            server.close()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
        for connection in list(self._connections):
            connection.close_when_idle()
        self._proxies.close()


def peer_of(transport: asyncio.Transport) -> str:
    """``unix:<pid>`` or the address at the other end."""
    peer = transport.get_extra_info("socket")
    if peer is not None and peer.family == socket.AF_UNIX:
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return f"unix:{struct.unpack('3i', credentials)[0]}"
    address = transport.get_extra_info("peername")
    return str(address[0]) if isinstance(address, tuple) else "unknown"
