"""Clients that speak HTTP/1.0 are served by real Envoy as others are."""

from __future__ import annotations

import asyncio

import pytest
from gateway_rig import DEADLINE_SECONDS, Server, json_backend, own_address, rig
from test_gateway_refusals import GOOD, gateway

pytestmark = pytest.mark.slow


async def test_http_10_is_served_with_a_host_and_without() -> None:
    server = Server(json_backend("a"))
    await server.start(own_address(30))
    async with rig() as made, asyncio.timeout(DEADLINE_SECONDS):
        await made.publish(gateway(server, GOOD))
        for host in (b"host: example.com\r\n", b""):
            reader, writer = await asyncio.open_connection(made.host, 8080)
            writer.write(b"GET /x HTTP/1.0\r\n" + host + b"\r\n")
            answered = await reader.read()
            writer.close()
            assert answered.split(b"\r\n")[0].split(b" ")[1:2] == [b"200"], answered
            assert b'"server": "a"' in answered
    server.stop()
