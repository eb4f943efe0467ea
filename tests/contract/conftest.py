"""The server that the contract is held against."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import contract_target
import pytest
from contract_target import Target

from inferway.simulator import flags
from inferway.simulator.main import serve

DEADLINE_SECONDS = 10.0


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where models and adapters are."""
    return tmp_path_factory.mktemp("contract")


@pytest.fixture(scope="session")
def real_vllm(folder: Path) -> Iterator[Target | None]:
    """A real server for the whole session, where the environment asks for one."""
    if not contract_target.real_wanted():
        yield None
        return
    with contract_target.real(folder) as found:
        yield found


@pytest.fixture(scope="session")
def adapters(folder: Path, real_vllm: Target | None) -> str:
    """The folder of adapters."""
    return real_vllm.adapters if real_vllm else contract_target.simulated_adapters(folder)


@asynccontextmanager
async def simulated(*arguments: str, env: dict[str, str]) -> AsyncIterator[str]:
    """A simulated server in this very loop; yields its URL."""
    options = flags.parse([*arguments, "--host", "127.0.0.1", "--port", "0"], env)
    stop = asyncio.Event()
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(options, stop, lambda *at: address.set_result(at)), name="server")
        async with asyncio.timeout(DEADLINE_SECONDS):
            host, port = await address
        try:
            yield f"http://{host}:{port}"
        finally:
            stop.set()


@pytest.fixture
async def target(real_vllm: Target | None, adapters: str, folder: Path) -> AsyncIterator[Target]:
    """The server to ask: real, or simulated and fresh."""
    if real_vllm is not None:
        yield real_vllm
        return
    model = str(folder / "model")
    words = contract_target.arguments(model, adapters)
    env = {**contract_target.ENVIRONMENT, "INFERWAY_SIMULATOR_MISSING_ADAPTERS": "nobody/*"}
    async with simulated(
        *words, "--profile", "default", "--disable-uvicorn-access-log", env=env
    ) as url:
        yield Target(url, model, adapters, real=False)
