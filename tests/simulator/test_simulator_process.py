"""The server as a process: start, stop, a port that is taken."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from pathlib import Path

import aiohttp
import pytest

DEADLINE_SECONDS = 20.0
# The promise is 400 ms on an idle machine; tests share theirs.
START_SECONDS_MAX = 4.0


async def begin(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "inferway.simulator.main", "m", "--host", "127.0.0.1", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )  # fmt: skip


async def url_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if found := re.search(r"server on (\S+)", line):
            return found.group(1)
    raise AssertionError("the server ended before it listened")


@pytest.mark.slow
async def test_it_starts_quickly_and_finishes_what_it_began_when_told_to_stop() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.timeout(DEADLINE_SECONDS), aiohttp.ClientSession() as session:
        process = await begin("--port", "0", "--time-scale", "5")
        url = await url_of(process)
        async with session.get(url + "/health") as response:
            assert response.status == 200
        assert loop.time() - started < START_SECONDS_MAX
        body = {"prompt": "p", "max_tokens": 60, "stream": True}
        async with session.post(url + "/v1/completions", json=body) as response:
            await response.content.readline()
            process.send_signal(signal.SIGTERM)
            rest = await response.content.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        output, errors = await process.communicate()
    assert process.returncode == 0
    assert errors == b""
    assert b'"POST /v1/completions HTTP/1.1" 200 OK' in output
    assert output.endswith(b"Application shutdown complete.\n")


@pytest.mark.slow
async def test_a_port_that_is_taken_is_one_clear_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with asyncio.timeout(DEADLINE_SECONDS):
            process = await begin("--port", str(port))
            _, errors = await process.communicate()
    assert process.returncode == 1
    text = errors.decode()
    assert "INFERWAY0506" in text
    assert f"127.0.0.1:{port}" in text
    assert "Traceback" not in text


@pytest.mark.slow
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "vllm.sock"
    client = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)))
    async with asyncio.timeout(DEADLINE_SECONDS), client as http:
        process = await begin("--uds", str(path))
        await url_of(process)
        async with http.get("http://vllm/health") as response:
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0
        process = await begin("--uds", str(tmp_path / "no" / "folder"))
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert "INFERWAY0506" in errors.decode()
