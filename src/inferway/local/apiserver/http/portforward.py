"""``pods/NAME/portforward``: TCP connections to a Pod through one WebSocket.

kubectl opens an error stream and a data stream for each connection; here each pair becomes a TCP
connection to the Pod's address. Only kubectl's tunnel form is spoken; the older forms get a Status.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from inferway.local.apiserver.http.handler import Asked
from inferway.local.apiserver.http.spdy import (
    Event,
    GoneAway,
    Opened,
    Pinged,
    Received,
    Reset,
    Session,
    SpdyError,
)
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.registry import Registry

TUNNEL = "SPDY/3.1+portforward.k8s.io"
READ_BYTES_MAX = 32 * 1024
# Connections of one kubectl port-forward; browsers open about six to a port.
CONNECTIONS_MAX = 256
CONNECT_SECONDS_MAX = 10.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PortForward:
    """Answers port forwarding."""

    registry: Registry

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        request = asked.request
        if request.method not in ("GET", "POST"):
            raise errors.method_not_allowed()
        pod = self.registry.get(asked.target)
        status = pod.get("status") or {}
        address = status.get("podIP")
        if status.get("phase") != "Running" or not address:
            phase = status.get("phase", "Pending")
            raise errors.bad_request(
                f"unable to forward port because pod is not running. Current status={phase}"
            )
        offered = [
            protocol.strip()
            for protocol in request.headers.get("Sec-WebSocket-Protocol", "").split(",")
        ]
        if request.headers.get("Upgrade", "").lower() != "websocket" or TUNNEL not in offered:
            raise errors.bad_request(
                f"port forwarding is spoken over WebSocket with the protocol {TUNNEL} only "
                "(kubectl 1.31 and newer)"
            )
        socket = web.WebSocketResponse(
            protocols=(TUNNEL,), max_msg_size=MESSAGE_BYTES_MAX, compress=False
        )
        await socket.prepare(request)
        async with asyncio.TaskGroup() as group:
            tunnel = _Tunnel(socket, str(address), group)
            await tunnel.run()
            tunnel.close()
        return socket


@dataclass(slots=True)
class _Connection:
    """One forwarded connection: its two streams and, once it is there, the way to the Pod."""

    port: int
    error_stream: int = 0
    data_stream: int = 0
    waiting: list[bytes] = field(default_factory=list)
    finished: bool = False
    writer: asyncio.StreamWriter | None = None
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Tunnel:
    socket: web.WebSocketResponse
    address: str
    group: asyncio.TaskGroup
    session: Session = field(default_factory=Session)
    by_request: dict[str, _Connection] = field(default_factory=dict)
    by_stream: dict[int, _Connection] = field(default_factory=dict)

    async def run(self) -> None:
        """Reads the client until it leaves."""
        async for message in self.socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                continue
            try:
                events = self.session.receive(message.data)
            except SpdyError:
                await self.socket.close(code=aiohttp.WSCloseCode.PROTOCOL_ERROR)
                return
            for event in events:
                if isinstance(event, GoneAway):
                    return
                await self._handle(event)

    def close(self) -> None:
        """Ends every connection; the task group then has nothing to wait for."""
        for connection in self.by_request.values():
            if connection.task is not None:
                connection.task.cancel()

    async def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            await self._open(event)
        elif isinstance(event, Pinged):
            await self._send(event.answer)
        elif isinstance(event, Received):
            connection = self.by_stream.get(event.stream)
            if connection is not None and event.stream == connection.data_stream:
                await self._forward(connection, event)
        elif isinstance(event, Reset):
            connection = self.by_stream.pop(event.stream, None)
            if connection is not None and connection.task is not None:
                connection.task.cancel()

    async def _open(self, event: Opened) -> None:
        request = event.headers.get("requestid", "")
        kind = event.headers.get("streamtype", "")
        port = event.headers.get("port", "")
        full = request not in self.by_request and len(self.by_request) >= CONNECTIONS_MAX
        if kind not in ("error", "data") or not port.isdigit() or int(port) > 65535 or full:
            await self._send(self.session.reset(event.stream))
            return
        await self._send(self.session.reply(event.stream))
        connection = self.by_request.setdefault(request, _Connection(int(port)))
        self.by_stream[event.stream] = connection
        if kind == "error":
            connection.error_stream = event.stream
            return
        connection.data_stream = event.stream
        connection.task = self.group.create_task(
            self._carry(request, connection), name=f"port-forward {port}"
        )

    async def _forward(self, connection: _Connection, event: Received) -> None:
        connection.finished = connection.finished or event.finished
        if connection.writer is None:
            connection.waiting.append(event.data)
            return
        try:
            connection.writer.write(event.data)
            await connection.writer.drain()
            if event.finished and connection.writer.can_write_eof():
                connection.writer.write_eof()
        except (ConnectionError, RuntimeError):
            # The reading side tells the client.
            return

    async def _carry(self, request: str, connection: _Connection) -> None:
        """Brings the Pod's bytes to the client; ends both streams at the end."""
        trouble = ""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(self.address, connection.port)
            for data in connection.waiting:
                writer.write(data)
            connection.waiting.clear()
            if connection.finished:
                writer.write_eof()
            connection.writer = writer
            while data := await reader.read(READ_BYTES_MAX):
                await self._send(self.session.data(connection.data_stream, data))
        except (OSError, TimeoutError) as error:
            trouble = (
                f"failed to connect to {self.address}:{connection.port} of the pod: "
                f"{error or 'timed out'}"
            )
        finally:
            if writer is not None:
                writer.close()
            self.by_request.pop(request, None)
            self.by_stream.pop(connection.data_stream, None)
            self.by_stream.pop(connection.error_stream, None)
        await self._send(self.session.data(connection.data_stream, b"", finished=True))
        text = trouble.encode()
        await self._send(self.session.data(connection.error_stream, text, finished=True))

    async def _send(self, data: bytes) -> None:
        if not self.socket.closed:
            try:
                await self.socket.send_bytes(data)
            except ConnectionError:
                # The reader of the socket meets the same end.
                return
