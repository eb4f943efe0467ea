"""Simulated servers inside the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from inferway.simulator import flags
from inferway.simulator.main import serve

# Nothing here takes long; a test that waits this long has found a fault.
DEADLINE_SECONDS = 10.0

Start = Callable[..., Awaitable[str]]


@asynccontextmanager
async def running(*arguments: str, env: dict[str, str] | None = None) -> AsyncIterator[str]:
    """A server with these flags; yields its base URL."""
    options = flags.parse(["m", "--host", "127.0.0.1", "--port", "0", *arguments], env or {})
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    address: asyncio.Future[tuple[str, int]] = loop.create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(options, stop, lambda *at: address.set_result(at)), name="server")
        async with asyncio.timeout(DEADLINE_SECONDS):
            host, port = await address
        try:
            yield f"http://{host}:{port}"
        finally:
            stop.set()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts servers that end with the test."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str, env: dict[str, str] | None = None) -> str:
            return await stack.enter_async_context(running(*arguments, env=env))

        yield begin
