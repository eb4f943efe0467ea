"""Calls beside OpenAI's: scores, ranks, vectors, classes, Anthropic's messages, tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

Start = Callable[..., Awaitable[str]]
INSTANT = ("--profile", "instant")
ASKED = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(http: aiohttp.ClientSession, url: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with http.post(url, json=body) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_documents_are_ranked(start: Start, http: aiohttp.ClientSession, path: str) -> None:
    url = await start(*INSTANT)
    documents = ["cars and roads", "the capital of France is Paris", "Paris"]
    body = {"model": "m", "query": "capital of France", "documents": documents, "top_n": 2}
    status, answer = await post(http, url + path, body)
    assert (status, list(answer)) == (200, ["id", "model", "usage", "results"])
    first, second = answer["results"]
    assert first["index"] == 1
    assert first["document"] == {"text": documents[1], "multi_modal": None}
    assert first["relevance_score"] > second["relevance_score"]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("names", [("queries", "documents"), ("text_1", "text_2")])
async def test_scores(start: Start, http: aiohttp.ClientSession, names: tuple[str, str]) -> None:
    url = await start(*INSTANT)
    body = {names[0]: "one text", names[1]: ["one text", "another"]}
    status, answer = await post(http, url + "/score", body)
    assert status == 200
    same, other = answer["data"]
    assert (same["index"], same["object"], other["index"]) == (0, "score", 1)
    assert same["score"] == pytest.approx(1.0)
    assert other["score"] < 1.0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"queries": ["a", "b"], "documents": ["a", "b", "c"]}, "must be either 1:1, 1:N or N:N"),
        ({"queries": "a", "documents": []}, "At least one text_pair element"),
        ({"queries": [], "documents": ["a"]}, "At least one text element"),
        ({"queries": "a"}, "Field required"),
    ],
)
async def test_scores_that_can_not_be(
    start: Start, http: aiohttp.ClientSession, body: Any, said: str
) -> None:
    url = await start(*INSTANT)
    status, answer = await post(http, url + "/score", body)
    assert status == 400
    assert said in answer["error"]["message"]


async def test_vectors_and_classes(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    status, answer = await post(http, url + "/pooling", {"model": "m", "input": ["a", "b"]})
    assert (status, [one["object"] for one in answer["data"]]) == (200, ["pooling"] * 2)
    status, answer = await post(http, url + "/classify", {"model": "m", "input": "a"})
    (found,) = answer["data"]
    assert (status, found["num_classes"], sum(found["probs"])) == (200, 2, pytest.approx(1.0))
    status, answer = await post(http, url + "/pooling", {"model": "gone", "input": "a"})
    assert (status, answer["error"]["type"]) == (404, "NotFoundError")


async def test_a_message(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    status, answer = await post(http, url + "/v1/messages", {"model": "m", **ASKED, "system": "be"})
    assert status == 200
    assert list(answer) == ["id", "type", "role", "content", "model", "stop_reason", "usage"]
    assert (answer["type"], answer["role"], answer["stop_reason"]) == (
        "message",
        "assistant",
        "max_tokens",
    )
    assert answer["content"][0]["text"]
    assert answer["usage"]["output_tokens"] == 8
    count = {"model": "m", "messages": ASKED["messages"], "system": "be"}
    status, counted = await post(http, url + "/v1/messages/count_tokens", count)
    assert (status, counted["input_tokens"]) == (200, answer["usage"]["input_tokens"])


async def test_a_stream_of_a_message_adds_up(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    body = {"model": "m", **ASKED}
    _, whole = await post(http, url + "/v1/messages", body)
    async with http.post(url + "/v1/messages", json={**body, "stream": True}) as response:
        blocks = (await response.text()).strip().split("\n\n")
    events = [json.loads(block.partition("\ndata: ")[2]) for block in blocks]
    kinds = [event["type"] for event in events]
    assert kinds == [block.partition("\n")[0].removeprefix("event: ") for block in blocks]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event["delta"]["text"] for event in events[2:-3])
    assert text == whole["content"][0]["text"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"]
    assert events[-2]["usage"] == whole["usage"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"model": "gone", **ASKED}, 404, "NotFoundError"),
        ({"model": "m", "messages": [], "max_tokens": 8}, 400, "BadRequestError"),
    ],
)
async def test_a_message_that_can_not_be(
    start: Start, http: aiohttp.ClientSession, body: Any, status: int, kind: str
) -> None:
    url = await start(*INSTANT)
    found, answer = await post(http, url + "/v1/messages", body)
    assert (found, answer["type"], answer["error"]["type"]) == (status, "error", kind)


@pytest.mark.parametrize("body", [{"model": "m"}, {"model": "m", **ASKED, "max_tokens": 0}])
async def test_fields_of_a_message_are_refused_in_vllms_words(
    start: Start, http: aiohttp.ClientSession, body: Any
) -> None:
    url = await start(*INSTANT)
    status, answer = await post(http, url + "/v1/messages", body)
    assert (status, answer["error"]["code"]) == (400, 400)


async def test_tokens_in_and_out(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    _, told = await post(http, url + "/tokenize", {"prompt": "hello there"})
    body: dict[str, Any] = {
        "token_ids": told["tokens"],
        "sampling_params": {"max_tokens": 5},
        "model": "m",
    }
    status, answer = await post(
        http, url + "/inference/v1/generate", {**body, "output_mode": "text"}
    )
    (choice,) = answer["choices"]
    assert (status, answer["output_mode"], len(choice["token_ids"])) == (200, "text", 5)
    _, back = await post(http, url + "/detokenize", {"tokens": choice["token_ids"]})
    assert back["prompt"] == choice["text"]
    assert answer["usage"]["prompt_tokens"] == len(told["tokens"])
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
    async with http.post(url + "/inference/v1/generate", json=streamed) as response:
        blocks = (await response.text()).strip().split("\n\n")
    assert blocks[-1] == "data: [DONE]"
    events = [json.loads(block.removeprefix("data: ")) for block in blocks[:-1]]
    tokens = [t for event in events[:-1] for t in event["choices"][0]["token_ids"]]
    assert tokens == choice["token_ids"]
    assert events[-1]["usage"]["completion_tokens"] == 5


async def test_tokens_that_can_not_be(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    path = url + "/inference/v1/generate"
    bodies: list[dict[str, Any]] = [
        {"token_ids": []},
        {"token_ids": [1]},
        {"token_ids": ["x"], "sampling_params": {}},
    ]
    for body in bodies:
        status, answer = await post(http, path, body)
        assert (status, answer["error"]["code"]) == (400, 400)
