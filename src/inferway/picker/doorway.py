"""Listens for proxies on a Unix socket and on TCP, and gives each connection what it speaks.

A connection that greets as a native pick filter speaks the pick channel; every other one speaks
HTTP. A proxy is known by its process (Unix socket) or its address (TCP); when the last connection
of a proxy is gone for a while, so is the proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

from inferway.picker.callout import CalloutProtocol
from inferway.picker.channel import ChannelProtocol
from inferway.picker.frames import GREETING
from inferway.picker.peers import Answers, Connection, Proxies
from inferway.scheduling.events import Event, ProxyGone

_BACKLOG = 1024
# Open requests are counted this often while the picker stops.
IDLE_LOOK_SECONDS = 0.05


class Doorway(asyncio.Protocol):
    """A connection before its first bytes."""

    def __init__(self, server: PickServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.entered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.left(self)

    def data_received(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        self._server.left(self)
        if not self._server.ready():
            # The proxy asks another picker, or does as the pool's failure mode says.
            transport.abort()
            return
        native = data.startswith(GREETING[: len(data)])
        chosen = (ChannelProtocol if native else CalloutProtocol)(self._server)
        transport.set_protocol(chosen)
        chosen.connection_made(transport)
        chosen.data_received(data)

    @property
    def open(self) -> int:
        """Nothing was asked."""
        return 0

    @property
    def picks(self) -> Iterable[str]:
        """Nothing was chosen."""
        return ()

    def close_when_idle(self) -> None:
        """Nothing is under way."""
        if self._transport is not None:
            self._transport.close()


class PickServer:
    """Listens; ``settle`` is told what the connections say about requests.

    While it is not ``ready`` it hangs up on whoever asks: a picker that has just started knows
    nothing of its pools, and others may.
    """

    def __init__(
        self,
        service: Answers,
        settle: Callable[[Event], None],
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.ready = ready
        self.service = service
        self.settle = settle
        self.draining = False
        self.port = 0
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._proxies = Proxies(self._loop, lambda proxy: settle(ProxyGone(proxy)))
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._socket_path: Path | None = None

    async def listen_tcp(self, address: str, port: int) -> None:
        """Raises OSError if the port is taken."""
        server = await self._loop.create_server(
            lambda: Doorway(self), address, port, backlog=_BACKLOG
        )
        self.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)

    async def listen_unix(self, path: str) -> None:
        """Takes the place of a socket that a process before left behind. Raises OSError."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        server = await self._loop.create_unix_server(lambda: Doorway(self), path, backlog=_BACKLOG)
        # Proxies may run as another user.
        place.chmod(0o666)
        self._socket_path = place
        self._servers.append(server)

    def entered(self, connection: Connection) -> None:
        """Somebody has connected and not said what it speaks."""
        self._connections.add(connection)

    def left(self, connection: Connection) -> None:
        """It is gone, or has said it."""
        self._connections.discard(connection)

    def connected(self, connection: Connection, proxy: str) -> None:
        """A proxy has opened a connection."""
        self._connections.add(connection)
        self._proxies.opened(proxy)

    def disconnected(self, connection: Connection, proxy: str) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._proxies.closed(proxy)

    def picks(self) -> set[str]:
        """Choices whose end is told over a connection that is here."""
        return {pick for one in self._connections for pick in one.picks}

    async def idle(self, seconds: float) -> None:
        """Waits until nothing is open that this picker was asked for, or the time is over."""
        end = self.time() + seconds
        while True:
            if self.time() >= end or not any(one.open for one in self._connections):
                return
            await asyncio.sleep(IDLE_LOOK_SECONDS)

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
