"""How streams and connections behave on the wire, and what a client that leaves causes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import contract_wire
import pytest
from contract_target import Target
from contract_wire import begin, chunks, encode, opened, post
from test_contract_metrics import value

# Longer than any answer to a question of this suite, shorter than a whole long answer.
ABORT_SECONDS_MAX = 20.0
TOKENS = 24
LONG = 1800
COMPLETION = {"model": "tiny-base", "prompt": [5, 6, 7], "ignore_eos": True}
CHAT = {"model": "tiny-base", "messages": [{"role": "user", "content": "a"}], "ignore_eos": True}
RUNNING = "vllm:num_requests_running"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT)]
)
async def test_a_stream_tells_tokens_as_they_come(
    target: Target, path: str, body: dict[str, Any]
) -> None:
    options = {"include_usage": True}
    whole = {**body, "max_tokens": TOKENS, "stream": True, "stream_options": options}
    answer = await post(target.url, path, whole)
    events = [data for _, data in answer.events()]
    assert events[-1] == "[DONE]"
    values = [json.loads(data) for data in events[:-1]]
    assert values[-1]["choices"] == []
    assert values[-1]["usage"]["completion_tokens"] == TOKENS
    assert len({(v["id"], v["created"], v["model"]) for v in values}) == 1
    # Tokens that come while the server is busy may share an event, so there can be fewer.
    assert TOKENS // 4 < len(values) <= TOKENS + 2
    reasons = [v["choices"][0]["finish_reason"] for v in values[:-1]]
    assert reasons == [None] * (len(reasons) - 1) + ["length"]


async def test_pieces_on_the_wire_are_whole_events(target: Target) -> None:
    body = {**COMPLETION, "max_tokens": TOKENS, "stream": True}
    reader, writer = await begin(target.url, "/v1/completions", body)
    pieces = [piece async for piece in chunks(reader)]
    writer.close()
    assert len(pieces) > 1
    for piece in pieces:
        assert piece.startswith(b"data: ")
        assert piece.endswith(b"\n\n")


async def test_a_connection_is_kept_after_a_stream(target: Target) -> None:
    body = json.dumps({**COMPLETION, "max_tokens": 2, "stream": True}).encode()
    words = encode("POST", "/v1/completions", {"Content-Type": "application/json"}, body)
    async with (
        asyncio.timeout(contract_wire.ANSWER_SECONDS_MAX),
        opened(target.url) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(words)
            await reader.readuntil(b"\r\n\r\n")
            pieces = [piece async for piece in chunks(reader)]
            assert b"".join(pieces).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (b"GET /health HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request"),
    ],
)
async def test_connections_that_end(target: Target, words: bytes, status: bytes) -> None:
    async with (
        asyncio.timeout(contract_wire.ANSWER_SECONDS_MAX),
        opened(target.url) as (reader, writer),
    ):
        writer.write(words)
        answer = await reader.read()
    head = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
    assert head[0] == status
    assert b"connection: close" in [line.lower() for line in head[1:]]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_request(target: Target, stream: bool) -> None:
    tokens = "vllm:generation_tokens_total"
    before = await value(target, tokens)
    body = {**COMPLETION, "max_tokens": LONG, "stream": stream}
    if stream:
        reader, writer = await begin(target.url, "/v1/completions", body)
        await anext(chunks(reader))
    else:
        words = {"Content-Type": "application/json"}
        reader, writer = await asyncio.open_connection(*_address(target.url))
        writer.write(encode("POST", "/v1/completions", words, json.dumps(body).encode()))
        async with asyncio.timeout(ABORT_SECONDS_MAX):
            while await value(target, tokens) == before:
                pass
    writer.close()
    async with asyncio.timeout(ABORT_SECONDS_MAX):
        while await value(target, RUNNING):
            pass
    assert 0 < await value(target, tokens) - before < LONG


def _address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)
