"""An HTTP/1.1 server protocol that is quick and small: httptools parses, callbacks answer.

Knows connections, requests and responses; knows nothing of models. Requests of one connection
are handled one after the other, so pipelining is safe; responses are whole or chunked streams.
A handler gets an ``Exchange`` and answers it at once or later.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from typing import cast

import httptools

# A prompt of a million tokens is about 4 MB; 64 MiB is what the gateway lets through.
BODY_BYTES_MAX = 64 * 1024 * 1024
# uvicorn's own limit for the head of a request is of the same order.
HEAD_BYTES_MAX = 64 * 1024
# Requests that may wait behind the current one of a connection before reading stops; each may hold
# a body of the size above.
PIPELINED_REQUESTS_MAX = 2

_REASONS = {
    200: b"OK",
    204: b"No Content",
    307: b"Temporary Redirect",
    400: b"Bad Request",
    401: b"Unauthorized",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Request Entity Too Large",
    415: b"Unsupported Media Type",
    422: b"Unprocessable Entity",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}
JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
EVENTS = b"text/event-stream; charset=utf-8"
# What vLLM's CORS middleware adds to every answer.
VARY = b"vary: Origin\r\n"

Handler = Callable[["Exchange"], None]


class Dates:
    """The ``Date`` header, formatted once a second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = 0
        self._text = b""

    def now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._text = formatdate(second, usegmt=True).encode()
        return self._text


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_connection",
        "_done",
        "_headers",
        "_keep_alive",
        "_legacy",
        "_streaming",
        "body",
        "extra_headers",
        "method",
        "on_close",
        "path",
        "query",
        "target",
    )

    def __init__(
        self, connection: HttpConnection, method: str, target: bytes, keep_alive: bool
    ) -> None:
        self._connection = connection
        self._headers = connection.headers
        self._keep_alive = keep_alive
        # HTTP/1.0 knows no chunks, and keeps a connection only if both sides say so.
        self._legacy = connection.legacy
        self._streaming = False
        self._done = False
        self.method = method
        self.target = target
        path, _, query = target.partition(b"?")
        self.path = path.decode("latin-1")
        self.query = query.decode("latin-1")
        self.body = b""
        self.extra_headers = VARY
        # Called when the client leaves before the response is complete.
        self.on_close: Callable[[], None] | None = None

    def header(self, name: bytes) -> bytes:
        """The value of a request header by its lower-case name, empty where it is missing."""
        for key, value in self._headers:
            if key.lower() == name:
                return value
        return b""

    @property
    def closed(self) -> bool:
        return self._done

    def respond(self, status: int, body: bytes, content_type: bytes = JSON) -> None:
        """Sends a whole response; an empty content type leaves the header out."""
        if self._done:
            return
        head = (
            b"HTTP/1.1 %d %s\r\ndate: %s\r\nserver: uvicorn\r\ncontent-length: %d\r\n%s%s%s\r\n"
        ) % (
            status,
            _REASONS.get(status, b"Unknown"),
            self._connection.server.dates.now(),
            len(body),
            b"content-type: %s\r\n" % content_type if content_type else b"",
            self.extra_headers,
            self._connection_header(),
        )
        self._connection.write(head if self.method == "HEAD" else head + body)
        self._finish(status)

    def stream(self, chunk: bytes) -> None:
        """Sends a piece of a streamed response, its head before the first."""
        if self._done or not chunk:
            return
        framed = chunk if self._legacy else b"%x\r\n%s\r\n" % (len(chunk), chunk)
        if not self._streaming:
            self._streaming = True
            framed = self._stream_head() + framed
        self._connection.write(framed)

    def end_stream(self, chunk: bytes = b"") -> None:
        """Sends the last piece and the end of a streamed response."""
        if self._done:
            return
        if self._legacy:
            framed = chunk
        else:
            framed = b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunk else b""
            framed += b"0\r\n\r\n"
        if not self._streaming:
            framed = self._stream_head() + framed
        self._connection.write(framed)
        self._finish(200)

    def _connection_header(self) -> bytes:
        if not self._keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self._legacy else b""

    def _stream_head(self) -> bytes:
        if self._legacy:
            # The end of the connection is the end of the stream.
            self._keep_alive = False
        return (
            b"HTTP/1.1 200 OK\r\ndate: %s\r\nserver: uvicorn\r\ncontent-type: %s\r\n%s%s%s\r\n"
        ) % (
            self._connection.server.dates.now(),
            EVENTS,
            self.extra_headers,
            b"" if self._legacy else b"transfer-encoding: chunked\r\n",
            self._connection_header(),
        )

    def _finish(self, status: int) -> None:
        self._done = True
        self.on_close = None
        self._connection.finished(self, status, self._keep_alive)

    def abandon(self) -> None:
        """The client has left."""
        if self._done:
            return
        self._done = True
        callback, self.on_close = self.on_close, None
        if callback is not None:
            callback()


class HttpServer:
    """All connections of a listener. ``log`` gets one line per response."""

    def __init__(self, handler: Handler, log: Callable[[str], None] | None = None) -> None:
        self.handler = handler
        self.log = log
        self.dates = Dates()
        self.connections: set[HttpConnection] = set()
        self.draining = False
        self._quiet: asyncio.Event | None = None

    def __call__(self) -> HttpConnection:
        return HttpConnection(self)

    async def drain(self) -> None:
        """Closes idle connections, lets the others finish, returns when none is left."""
        self.draining = True
        self._quiet = asyncio.Event()
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            await self._quiet.wait()

    def abort(self) -> None:
        """Cuts what is left."""
        for connection in list(self.connections):
            connection.cut()

    def forget(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)
        if self._quiet is not None and not self.connections:
            self._quiet.set()


class HttpConnection(asyncio.Protocol):
    """One connection: parses, queues, hands requests to the handler one by one."""

    __slots__ = (
        "_body",
        "_body_bytes",
        "_current",
        "_head_bytes",
        "_parser",
        "_paused",
        "_peer",
        "_pending",
        "_refused",
        "_target",
        "_transport",
        "headers",
        "legacy",
        "server",
    )

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.legacy = False
        self.headers: list[tuple[bytes, bytes]] = []
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._current: Exchange | None = None
        self._pending: deque[Exchange] = deque()
        self._paused = False
        self._refused = False
        self._peer = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop has its own class, so the type cannot be asserted.
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "local:0"
        self.server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.server.forget(self)
        current, self._current = self._current, None
        self._pending.clear()
        if current is not None:
            current.abandon()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, b"Upgrade is not supported.")
        except httptools.HttpParserError:
            self._refuse(400, b"Invalid HTTP request received.")

    def eof_received(self) -> bool:
        # A client that half-closes has left; uvicorn sees it the same way.
        return False

    # httptools

    def on_message_begin(self) -> None:
        self._target = b""
        self.headers = []
        self._body = []
        self._body_bytes = 0
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self.legacy = self._parser.get_http_version() == "1.0"
        if self._current is not None:
            # An interim response here would land inside of another one.
            return
        for name, value in self.headers:
            if len(name) == 6 and name.lower() == b"expect" and value.lower() == b"100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > BODY_BYTES_MAX:
            self._refuse(413, b"Request body is too large.")
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._refused:
            return
        keep_alive = self._parser.should_keep_alive() and not self.server.draining
        exchange = Exchange(self, self._parser.get_method().decode(), self._target, keep_alive)
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        if self._current is None:
            self._start(exchange)
            return
        self._pending.append(exchange)
        if len(self._pending) >= PIPELINED_REQUESTS_MAX and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    # for Exchange and HttpServer

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def finished(self, exchange: Exchange, status: int, keep_alive: bool) -> None:
        """The response of ``exchange`` is complete; the next request may start."""
        log = self.server.log
        if log is not None:
            target = exchange.target.decode("latin-1")
            phrase = _REASONS.get(status, b"").decode()
            log(f'INFO:     {self._peer} - "{exchange.method} {target} HTTP/1.1" {status} {phrase}')
        self._current = None
        if self._transport is None:
            return
        if not keep_alive or (self.server.draining and not self._pending):
            self._transport.close()
        elif self._pending:
            self._start(self._pending.popleft())
        elif self._paused:
            self._paused = False
            self._transport.resume_reading()

    def close_when_idle(self) -> None:
        if self._current is None and self._transport is not None:
            self._transport.close()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # inside

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self.server.handler(exchange)

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(431, b"Request headers are too large.")

    def _refuse(self, status: int, message: bytes) -> None:
        if self._refused:
            return
        self._refused = True
        if self._transport is None:
            return
        if self._current is None:
            self._transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n"
                b"connection: close\r\n\r\n%s"
                % (status, _REASONS[status], TEXT, len(message), message)
            )
        self._transport.close()
