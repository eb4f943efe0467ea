"""Probes and hooks against real servers, and a kubelet's words for their failures."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from aiohttp import web

from inferway.api import codec
from inferway.api.pods import Container, LifecycleHandler, Probe
from inferway.local.node.prober import Prober, port_number


class FakeCommands:
    def __init__(self, result: tuple[int, bytes] | None) -> None:
        self.result = result
        self.asked: list[tuple[str, list[str], float]] = []

    async def execute(
        self, container: str, argv: list[str], seconds: float
    ) -> tuple[int, bytes] | None:
        self.asked.append((container, argv, seconds))
        return self.result


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with Prober() as opened:
        yield opened


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """Answers ``/CODE`` with that code, ``/slow`` never, and tells what it was asked."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.Event().wait()
        if request.path == "/header":
            agent = request.headers["User-Agent"].startswith("kube-probe/")
            good = agent and request.headers.get("X-Ask") == "1"
            return web.Response(status=200 if good else 400)
        return web.Response(status=int(request.path[1:] or 200), headers={"Location": "/500"})

    application = web.Application()
    application.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def made(port: int) -> Container:
    ports = [{"name": "web", "containerPort": port}]
    return codec.decode(Container, {"name": "c", "ports": ports})


async def look(prober: Prober, port: int, **probe: Any) -> tuple[bool, str]:
    decoded = codec.decode(Probe, probe)
    return await prober.probe(decoded, made(port), "127.0.0.1", FakeCommands(None))


@pytest.mark.parametrize(
    ("path", "passed", "message"),
    [
        ("/200", True, ""),
        ("/302", True, ""),
        ("/399", True, ""),
        ("/404", False, "HTTP probe failed with statuscode: 404"),
        ("/503", False, "HTTP probe failed with statuscode: 503"),
    ],
)
async def test_http_codes(
    prober: Prober, server: int, path: str, passed: bool, message: str
) -> None:
    found = await look(prober, server, httpGet={"port": "web", "path": path})
    assert found == (passed, message)


async def test_http_headers(prober: Prober, server: int) -> None:
    action = {"port": server, "path": "header", "httpHeaders": [{"name": "X-Ask", "value": "1"}]}
    assert await look(prober, server, httpGet=action) == (True, "")


@pytest.mark.slow
async def test_http_failures(prober: Prober, server: int) -> None:
    port = unused_port()
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await look(prober, port, httpGet={"port": port}) == (
        False,
        f'Get "http://127.0.0.1:{port}/": {refused}',
    )
    slow = await look(prober, server, httpGet={"port": server, "path": "/slow"})
    cause = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    assert slow == (False, f'Get "http://127.0.0.1:{server}/slow": {cause}')
    assert await look(prober, server, httpGet={"port": "nope"}) == (
        False,
        "couldn't find port: nope",
    )


async def test_tcp(prober: Prober, server: int) -> None:
    assert await look(prober, server, tcpSocket={"port": "web"}) == (True, "")
    port = unused_port()
    assert await look(prober, port, tcpSocket={"port": port}) == (
        False,
        f"dial tcp 127.0.0.1:{port}: connect: connection refused",
    )


@pytest.mark.parametrize(
    ("status", "passed", "message"),
    [
        (b"\x08\x01", True, ""),
        (b"\x08\x02", False, 'service unhealthy (responded with "NOT_SERVING")'),
        (b"", False, 'service unhealthy (responded with "UNKNOWN")'),
    ],
)
async def test_grpc(prober: Prober, status: bytes, passed: bool, message: str) -> None:
    asked: list[bytes] = []

    async def check(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        asked.append(request)
        return status

    health = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(check)
    health.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),)
    )
    port = health.add_insecure_port("127.0.0.1:0")
    await health.start()
    try:
        found = await look(prober, port, grpc={"port": port, "service": "readiness"})
    finally:
        await health.stop(None)
    assert found == (passed, message)
    assert asked == [b"\n\x09readiness"]


@pytest.mark.slow
async def test_grpc_failures(prober: Prober) -> None:
    port = unused_port()
    passed, message = await look(prober, port, grpc={"port": port})
    assert not passed
    assert f'failed to connect service "127.0.0.1:{port}" within 1s' in message


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ((0, b"fine"), (True, "fine")),
        ((1, b"broken\n"), (False, "broken\n")),
        (None, (False, 'command timed out: "check it" timed out after 2s')),
    ],
)
async def test_commands(
    prober: Prober, result: tuple[int, bytes] | None, answer: tuple[bool, str]
) -> None:
    probe = codec.decode(Probe, {"exec": {"command": ["check", "it"]}, "timeoutSeconds": 2})
    commands = FakeCommands(result)
    assert await prober.probe(probe, made(1), "127.0.0.1", commands) == answer
    assert commands.asked == [("c", ["check", "it"], 2.0)]


async def test_hooks(prober: Prober, server: int) -> None:
    async def run(**handler: Any) -> tuple[bool, str]:
        decoded = codec.decode(LifecycleHandler, handler)
        commands = FakeCommands((3, b"out"))
        return await prober.hook(decoded, made(server), "127.0.0.1", commands, 5.0)

    assert await run(sleep={"seconds": 0}) == (True, "")
    assert await run(httpGet={"port": "web", "path": "/200"}) == (True, "")
    assert await run(exec={"command": ["x"]}) == (False, "out")


def test_ports_by_name() -> None:
    container = made(8000)
    assert [port_number(port, container) for port in (9, "web", "80", "x")] == [9, 8000, 80, None]
