"""The load generator against a server that answers rightly and wrongly by turns.

Method: a small real HTTP server plays a list of answers; the tally must name each of them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from inferway.bench.answers import Answer, BadAnswerError, read_stream, read_whole
from inferway.bench.load import LoadOptions, Mode, main, parse, quantile, question, run

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
WHOLE = json.dumps({"choices": [{"text": "x", "finish_reason": "length"}], "usage": USAGE})
CHUNKS = [
    {"choices": [{"text": "a", "finish_reason": None}]},
    {"choices": [{"text": "b", "finish_reason": "length"}]},
    {"choices": [], "usage": USAGE},
]


def events(*chunks: object, end: str = "[DONE]") -> list[bytes]:
    lines = [f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks]
    return [*lines, f"data: {end}\n\n".encode()] if end else lines


async def lines_of(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        for line in part.splitlines(True):
            yield line


@asynccontextmanager
async def server(handler: web.RequestHandler) -> AsyncIterator[str]:  # type: ignore[type-arg]
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def answer_rightly(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        return web.Response(text=WHOLE, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for line in events(*CHUNKS):
        await response.write(line)
    return response


@pytest.mark.parametrize(("mode", "streamed"), [("whole", 0), ("stream", 40), ("mixed", 20)])
async def test_right_answers_are_counted_with_their_usage(mode: str, streamed: int) -> None:
    seen: list[int] = []
    async with server(answer_rightly) as url:
        options = LoadOptions(url, requests=40, connections=4, mode=Mode(mode))
        result = await run(options, seen.append)
    assert result.errors == {}
    assert (result.succeeded, result.streamed) == (40, streamed)
    assert (result.prompt_tokens, result.completion_tokens) == (400, 120)
    assert sorted(seen) == list(range(1, 41))
    assert 0 < result.first_byte_p50_ms <= result.p50_ms <= result.p99_ms


async def test_wrong_answers_are_counted_by_kind() -> None:
    turn = iter(range(100))

    async def handler(request: web.Request) -> web.StreamResponse:
        number = next(turn)
        if number == 0:
            return web.Response(status=503, text="no endpoint")
        if number == 1:
            return web.Response(text="{}", content_type="application/json")
        if number == 2:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if number == 3:
            response = web.StreamResponse(headers={"Content-Length": "100"})
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport is not None
            request.transport.abort()
            return response
        return web.Response(text=WHOLE, content_type="application/json")

    async with server(handler) as url:
        result = await run(LoadOptions(url, requests=6, connections=1, mode=Mode.WHOLE))
    assert result.succeeded == 2
    assert result.errors == {
        "answer cut": 1,
        "connection lost": 1,
        "not a completion": 1,
        "status 503": 1,
    }
    assert result.examples["status 503"] == ["no endpoint"]


async def test_nobody_there() -> None:
    result = await run(LoadOptions("http://127.0.0.1:9", requests=3, connections=1))
    assert result.errors == {"no connection": 3}
    assert result.succeeded == 0
    assert result.p99_ms == 0.0


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        (events(*CHUNKS, end=""), "stream cut"),
        (events(CHUNKS[0], CHUNKS[2]), "stream cut"),
        (events(*CHUNKS[:2]), "no usage"),
        (events({"error": {"message": "x"}}), "error in the stream"),
        ([b"data: {\n\n"], "not a completion"),
        ([*events(*CHUNKS), *events(CHUNKS[0], end="")], "chunk after the end"),
        ([], "stream cut"),
    ],
)
async def test_wrong_streams(parts: list[bytes], kind: str) -> None:
    with pytest.raises(BadAnswerError) as caught:
        await read_stream(lines_of(parts))
    assert caught.value.kind == kind


async def test_a_right_stream_may_hold_comments_and_usage_in_its_last_choice() -> None:
    last = {"choices": [{"text": "b", "finish_reason": "stop"}], "usage": USAGE}
    assert await read_stream(lines_of([b": ping\n\n", *events(last)])) == Answer(10, 3)


def test_a_whole_answer_needs_usage() -> None:
    with pytest.raises(BadAnswerError, match="finish_reason") as caught:
        read_whole(b'{"choices": [{"text": "x", "finish_reason": "stop"}]}')
    assert caught.value.kind == "no usage"


def test_questions_repeat_and_models_take_turns() -> None:
    options = LoadOptions("", models=("a", "b"), mode=Mode.MIXED)
    assert question(options, 7) == question(options, 7)
    assert [question(options, n)["model"] for n in range(3)] == ["a", "b", "a"]
    assert ["stream" in question(options, n) for n in range(3)] == [False, True, False]
    assert len(str(question(options, 0)["prompt"])) > options.prompt_bytes


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0)],
)
def test_quantile(values: list[float], share: float, expected: float) -> None:
    assert quantile(values, share) == expected


def test_the_command_line() -> None:
    options = parse(["http://x/", "--requests", "5", "--mode", "stream", "--model", "m"])
    assert options == LoadOptions("http://x", requests=5, mode=Mode.STREAM, models=("m",))
    with pytest.raises(SystemExit) as caught:
        parse(["http://x", "--mode", "odd"])
    assert caught.value.code == 2


def test_errors_end_in_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["http://127.0.0.1:9", "--requests", "1", "--connections", "1"]) == 1
    assert json.loads(capsys.readouterr().out)["errors"] == {"no connection": 1}
