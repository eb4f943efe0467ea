"""The OpenAI surface through a real HTTP client."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

Start = Callable[..., Awaitable[str]]
INSTANT = ("--profile", "instant")
GUIDE_PROMPT = "What is the warmest city in the USA?"


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def post(
    http: aiohttp.ClientSession, url: str, body: Any, **headers: str
) -> tuple[int, dict[str, Any]]:
    async with http.post(url, json=body, headers=headers) as response:
        return response.status, await response.json(content_type=None)


async def events(http: aiohttp.ClientSession, url: str, body: Any) -> list[Any]:
    async with http.post(url, json=body) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        text = (await response.read()).decode()
    blocks = text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


async def test_the_guides_request_has_the_guides_answer(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start(*INSTANT)
    body = {"model": "m", "prompt": GUIDE_PROMPT, "max_tokens": 100, "temperature": 0.5}
    async with http.post(url + "/v1/completions", json=body) as response:
        answer = await response.json()
        assert response.headers["server"] == "uvicorn"
        assert response.headers["content-type"] == "application/json"
    assert list(answer) == [
        "id", "object", "created", "model", "choices", "service_tier", "system_fingerprint",
        "usage", "kv_transfer_params", "ec_transfer_params", "metrics",
    ]  # fmt: skip
    assert answer["id"].startswith("cmpl-")
    (choice,) = answer["choices"]
    assert "Phoenix, Arizona" in choice.pop("text")
    assert choice == {
        "index": 0, "logprobs": None, "finish_reason": "length", "stop_reason": None,
        "token_ids": None, "prompt_logprobs": None, "prompt_token_ids": None,
        "routed_experts": None,
    }  # fmt: skip
    assert answer["usage"] == {
        "prompt_tokens": 10, "total_tokens": 110, "completion_tokens": 100,
        "prompt_tokens_details": None, "completion_tokens_details": None,
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["instant", "default"])
async def test_a_stream_adds_up_to_the_whole_answer(
    start: Start, http: aiohttp.ClientSession, profile: str
) -> None:
    url = await start("--profile", profile)
    body = {"prompt": "hi", "max_tokens": 7}
    _, whole = await post(http, url + "/v1/completions", body)
    chunks = await events(
        http, url + "/v1/completions",
        {**body, "stream": True, "stream_options": {"include_usage": True}},
    )  # fmt: skip
    *tokens, usage = chunks
    assert "".join(c["choices"][0]["text"] for c in tokens) == whole["choices"][0]["text"]
    assert [c["choices"][0]["finish_reason"] for c in tokens] == [None] * 6 + ["length"]
    assert {c["id"] for c in chunks} == {usage["id"]}
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 1, "total_tokens": 8, "completion_tokens": 7}


async def test_continuous_usage(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await events(
        http, url + "/v1/completions",
        {"prompt": "hi", "max_tokens": 3, "stream": True, "stream_options": options},
    )  # fmt: skip
    assert all(c["usage"]["prompt_tokens"] == 1 for c in chunks)
    assert chunks[-1]["usage"]["completion_tokens"] == 3


async def test_chat(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    body = {"messages": [{"role": "user", "content": GUIDE_PROMPT}], "max_tokens": 20}
    _, answer = await post(http, url + "/v1/chat/completions", body)
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"
    message = answer["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert message["content"].startswith("The warmest")
    assert message["reasoning"] is None
    chunks = await events(http, url + "/v1/chat/completions", {**body, "stream": True})
    assert chunks[0]["choices"][0] == {
        "index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
        "finish_reason": None,
    }  # fmt: skip
    text = "".join(c["choices"][0]["delta"]["content"] for c in chunks)
    assert text == message["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"][0]["stop_reason"] is None
    assert all("usage" not in c for c in chunks)


async def test_a_chat_without_a_limit_ends_by_itself(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start(*INSTANT)
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "more."}]
    body = {"messages": [{"role": "user", "content": parts}]}
    _, answer = await post(http, url + "/v1/chat/completions", body)
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] > 20


@pytest.mark.parametrize(
    ("prompt", "prompts", "tokens"),
    [
        ("one two", 1, 2),
        (["one two", "three"], 2, 3),
        ([1, 2, 3], 1, 3),
        ([[1, 2, 3], [4]], 2, 4),
    ],
)
async def test_prompt_forms_and_choices(
    start: Start, http: aiohttp.ClientSession, prompt: Any, prompts: int, tokens: int
) -> None:
    url = await start(*INSTANT)
    body = {"prompt": prompt, "max_tokens": 5, "n": 2}
    status, answer = await post(http, url + "/v1/completions", body)
    assert status == 200
    assert [c["index"] for c in answer["choices"]] == list(range(2 * prompts))
    assert answer["usage"]["prompt_tokens"] == tokens
    assert answer["usage"]["completion_tokens"] == 10 * prompts
    assert answer["choices"][0]["text"] != answer["choices"][1]["text"]


async def test_echo_logprobs_and_token_ids(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    body = {
        "prompt": "one two", "max_tokens": 3, "echo": True, "logprobs": 2, "return_token_ids": True
    }  # fmt: skip
    _, answer = await post(http, url + "/v1/completions", body)
    (choice,) = answer["choices"]
    assert choice["text"].startswith("one two ")
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["token_logprobs"][0] is None
    assert all(value < 0 for value in logprobs["token_logprobs"][1:])
    assert logprobs["text_offset"][:2] == [0, 3]
    assert all(len(top) == 2 for top in logprobs["top_logprobs"][1:])
    assert (len(choice["token_ids"]), len(choice["prompt_token_ids"])) == (3, 2)
    _, only = await post(
        http, url + "/v1/completions", {"prompt": "one two", "max_tokens": 0, "echo": True}
    )
    assert only["choices"][0]["text"] == "one two"


async def test_stop_texts(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    body = {"prompt": GUIDE_PROMPT, "max_tokens": 100, "stop": ["Arizona"]}
    _, answer = await post(http, url + "/v1/completions", body)
    (choice,) = answer["choices"]
    assert choice["text"].endswith("Phoenix, ")
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", "Arizona")
    assert answer["usage"]["completion_tokens"] < 30
    chunks = await events(http, url + "/v1/completions", {**body, "stream": True})
    assert "".join(c["choices"][0]["text"] for c in chunks) == choice["text"]
    _, kept = await post(
        http, url + "/v1/completions", {**body, "include_stop_str_in_output": True}
    )
    assert kept["choices"][0]["text"].endswith("Phoenix, Arizona")


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "param", "words"),
    [
        # What vLLM answers is in tests/contract; these are limits of this server.
        ("completions", {"prompt": "a", "n": 5000}, 400, "BadRequestError", "n", "4096"),
        ("completions", {"prompt": ["a"] * 50, "n": 100}, 400, "BadRequestError", "n", "4096"),
        ("completions", {"prompt": ["a"] * 1025}, 400, "BadRequestError", "prompt", "1025"),
        ("completions", {"prompt": [1 << 62]}, 400, "BadRequestError", None, "out of vocabulary"),
        ("completions", {"prompt": "a" * 500_000}, 400, "BadRequestError", "input_text",
         "500000 characters"),
        ("chat/completions", {"messages": [{"content": "a"}]}, 400, "Bad Request",
         "body.messages.0.role", "role"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, 400, "Bad Request",
         "body.messages.0.content", "content"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
         400, "BadRequestError", None, "smell"),
        ("responses", {"input": []}, 400, "BadRequestError", None, "empty conversation"),
        ("responses", {"input": [5]}, 400, "Bad Request", "body.input", "objects"),
        ("embeddings", {"input": []}, 400, "BadRequestError", "input", "empty"),
        ("embeddings", {"input": [[1], "a"]}, 400, "Bad Request", "body.input.0", "integer"),
        ("embeddings", {"input": "a", "encoding_format": "x"}, 400, "BadRequestError",
         "encoding_format", "base64"),
    ],
)  # fmt: skip
async def test_errors_have_vllms_shape(
    start: Start, http: aiohttp.ClientSession, path: str, body: Any, status: int, kind: str,
    param: str | None, words: str,
) -> None:  # fmt: skip
    url = await start(*INSTANT)
    found, answer = await post(http, f"{url}/v1/{path}", body)
    assert found == status
    error = answer["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == (kind, param, status)
    assert words in error["message"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"prompt', "JSON decode error"),
        (b"", "Field required"),
        (b'{"prompt": ' + b"[" * 100_000, "nested"),
        (b"[1]", "valid dictionary"),
    ],
)
async def test_bodies_that_are_no_request(
    start: Start, http: aiohttp.ClientSession, raw: bytes, words: str
) -> None:
    url = await start(*INSTANT)
    headers = {"content-type": "application/json"}
    async with http.post(url + "/v1/completions", data=raw, headers=headers) as response:
        answer = await response.json()
        assert response.status == 400
    assert words in answer["error"]["message"]


async def test_other_content_types_methods_and_paths(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start(*INSTANT)
    async with http.post(url + "/v1/completions", data=b"{}") as response:
        assert response.status == 400
        assert "Unsupported Media Type" in await response.text()
    async with http.get(url + "/v1/completions") as response:
        assert response.status == 405
        assert await response.json() == {"detail": "Method Not Allowed"}
        assert response.headers["allow"] == "POST"
    async with http.get(url + "/nothing") as response:
        assert response.status == 404
        assert await response.json() == {"detail": "Not Found"}
    body = {"prompt": "a", "max_tokens": 2}
    async with http.post(url + "/v1/completions/?a=b", json=body) as response:
        assert (response.status, response.url.path) == (200, "/v1/completions")
        assert response.url.query_string == "a=b"


async def test_small_endpoints(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    for path, expected in (
        ("/health", b""),
        ("/ping", b""),
        ("/version", b'{"version":"0.32.0"}'),
        ("/load", b'{"server_load":0}'),
    ):
        async with http.get(url + path) as response:
            assert (response.status, await response.read()) == (200, expected)
    _, tokens = await post(http, url + "/tokenize", {"prompt": "a b", "return_token_strs": True})
    assert (tokens["count"], tokens["max_model_len"]) == (2, 32768)
    assert tokens["token_strs"] == ["a", " b"]
    _, text = await post(http, url + "/detokenize", {"tokens": tokens["tokens"]})
    assert text == {"prompt": "a b"}
    _, chat = await post(
        http, url + "/tokenize", {"messages": [{"role": "user", "content": "a b"}]}
    )
    assert chat["count"] > 2


async def test_embeddings(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT)
    body = {"input": ["the cat sat", "the cat ran", "zebra"], "dimensions": 32}
    _, answer = await post(http, url + "/v1/embeddings", body)
    first, near, far = (item["embedding"] for item in answer["data"])
    assert sum(x * x for x in first) == pytest.approx(1.0)

    def similarity(other: list[float]) -> float:
        return sum(a * b for a, b in zip(first, other, strict=True))

    assert similarity(near) > similarity(far)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 6
    _, packed = await post(http, url + "/v1/embeddings", {**body, "encoding_format": "base64"})
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert struct.unpack("<32f", raw) == pytest.approx(first)


async def test_adapters(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(
        *INSTANT, "--enable-lora", "--lora-modules", "static=there",
        env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true",
             "INFERWAY_SIMULATOR_MISSING_ADAPTERS": "gone/*"},
    )  # fmt: skip

    async def change(verb: str, **body: str) -> tuple[int, str]:
        async with http.post(f"{url}/v1/{verb}_lora_adapter", json=body) as response:
            return response.status, await response.text()

    assert await change("load", lora_name="x", lora_path="y") == (
        200, "Success: LoRA adapter 'x' added successfully.",
    )  # fmt: skip
    status, text = await change("load", lora_name="x", lora_path="y")
    assert status == 400
    assert "The lora adapter 'x' has already been loaded." in text
    status, text = await change("load", lora_name="z", lora_path="gone/z")
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")
    assert (await change("load", lora_name="", lora_path=""))[0] == 400
    assert (await change("load", lora_name="q"))[0] == 400
    async with http.get(url + "/v1/models") as response:
        cards = (await response.json())["data"]
    assert [(c["id"], c["root"], c["parent"], c["max_model_len"]) for c in cards] == [
        ("m", "m", None, 32768), ("static", "there", "m", None), ("x", "y", "m", None),
    ]  # fmt: skip
    assert cards[0]["permission"][0]["object"] == "model_permission"
    _, answer = await post(http, url + "/v1/completions", {"model": "x", "prompt": "a"})
    assert answer["model"] == "x"
    assert await change("unload", lora_name="x") == (
        200, "Success: LoRA adapter 'x' removed successfully.",
    )  # fmt: skip
    status, text = await change("unload", lora_name="x")
    assert status == 404
    assert "The lora adapter 'x' cannot be found." in text


async def test_adapters_cannot_be_changed_unless_allowed(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start(*INSTANT, "--enable-lora")
    status, _ = await post(http, url + "/v1/load_lora_adapter", {"lora_name": "a"})
    assert status == 404
    without = await start(*INSTANT, env={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})
    status, answer = await post(
        http, without + "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "b"}
    )
    assert status == 500
    assert "LoRA is not enabled" in answer["error"]["message"]


async def test_api_keys_guard_v1_only(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT, env={"VLLM_API_KEY": "secret"})
    body = {"prompt": "a"}
    assert await post(http, url + "/v1/completions", body) == (401, {"error": "Unauthorized"})
    status, _ = await post(http, url + "/v1/completions", body, Authorization="Bearer secret")
    assert status == 200
    async with http.get(url + "/health") as response:
        assert response.status == 200


async def test_request_ids_and_root_path(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT, "--root-path", "/llm", "--enable-request-id-headers")
    headers = {"X-Request-Id": "abc"}
    async with http.post(
        url + "/llm/v1/completions", json={"prompt": "a"}, headers=headers
    ) as response:
        assert response.headers["x-request-id"] == "abc"
        assert (await response.json())["id"] == "cmpl-abc"


async def test_several_served_names(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT, "--served-model-name", "one", "two")
    for name in ("one", "two"):
        _, answer = await post(http, url + "/v1/completions", {"model": name, "prompt": "a"})
        assert answer["model"] == name
    status, _ = await post(http, url + "/v1/completions", {"model": "m", "prompt": "a"})
    assert status == 404


async def scrape(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url + "/metrics") as response:
        assert response.headers["content-type"].startswith("text/plain; version=1.0.0")
        text = await response.text()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Any], family: str, sample: str = "", **labels: str) -> float:
    found: list[float] = [
        s.value
        for s in families[family].samples
        if (not sample or s.name == sample) and labels.items() <= s.labels.items()
    ]
    assert len(found) == 1, families[family].samples
    return found[0]


async def test_metrics_are_vllms(start: Start, http: aiohttp.ClientSession) -> None:
    url = await start(*INSTANT, "--enable-prompt-tokens-details")
    prompt = "word " * 40
    body = {"prompt": prompt, "max_tokens": 10}
    await post(http, url + "/v1/completions", body)
    _, second = await post(http, url + "/v1/completions", body)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached == 32
    families = await scrape(http, url)
    tokens = second["usage"]["prompt_tokens"]
    engine = {"model_name": "m", "engine": "0"}
    assert value(families, "vllm:prompt_tokens", "vllm:prompt_tokens_total", **engine) == 2 * tokens
    assert value(families, "vllm:generation_tokens", "vllm:generation_tokens_total") == 20
    assert value(families, "vllm:prefix_cache_hits", "vllm:prefix_cache_hits_total") == cached
    assert (
        value(
            families, "vllm:request_success", "vllm:request_success_total", finished_reason="length"
        )
        == 2
    )
    for name in (
        "time_to_first_token_seconds", "inter_token_latency_seconds",
        "e2e_request_latency_seconds", "request_prompt_tokens", "request_queue_time_seconds",
    ):  # fmt: skip
        family = families[f"vllm:{name}"]
        assert family.type == "histogram"
        assert value(families, f"vllm:{name}", f"vllm:{name}_count") >= 2
        assert value(families, f"vllm:{name}", f"vllm:{name}_bucket", le="+Inf") >= 2
    assert value(families, "vllm:num_requests_running", **engine) == 0
    assert value(families, "vllm:num_requests_waiting", **engine) == 0
    assert value(families, "vllm:kv_cache_usage_perc", **engine) == 0
    info = families["vllm:cache_config_info"].samples[0].labels
    assert (info["block_size"], info["num_gpu_blocks"]) == ("16", "9362")
    assert families["process_cpu_seconds"].samples[0].value > 0
    assert "vllm:lora_requests_info" not in families


async def test_adapters_in_flight_are_in_the_metrics(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start(
        "--enable-lora", "--max-loras", "2", "--max-num-seqs", "1", "--time-scale", "20",
        "--lora-modules", "a=x", "b=y",
    )  # fmt: skip

    async def ask(name: str) -> None:
        body = {"model": name, "prompt": "p", "max_tokens": 10_000}
        await post(http, url + "/v1/completions", body)

    async def look() -> None:
        async with asyncio.timeout(5):
            while True:
                families = await scrape(http, url)
                series = families.get("vllm:lora_requests_info")
                for sample in series.samples if series else ():
                    if sample.labels["waiting_lora_adapters"]:
                        assert sample.labels["max_lora"] == "2"
                        assert sample.labels["running_lora_adapters"] == "a"
                        assert sample.labels["waiting_lora_adapters"] == "b"
                        return

    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask("a"))
        async with asyncio.timeout(5):
            while not value(await scrape(http, url), "vllm:num_requests_running"):
                pass
        second = group.create_task(ask("b"))
        await look()
        first.cancel()
        second.cancel()


async def test_a_client_that_leaves_ends_its_request(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start("--time-scale", "50")
    body = {"prompt": "long", "max_tokens": 5000, "stream": True}
    async with http.post(url + "/v1/completions", json=body) as response:
        await response.content.readline()
        families = await scrape(http, url)
        assert value(families, "vllm:num_requests_running") == 1
        response.close()
    async with asyncio.timeout(5):
        while value(await scrape(http, url), "vllm:num_requests_running"):
            pass
    families = await scrape(http, url)
    assert (
        value(
            families, "vllm:request_success", "vllm:request_success_total", finished_reason="abort"
        )
        == 1
    )
    assert value(families, "vllm:kv_cache_usage_perc") == 0


async def test_many_requests_at_once_are_all_answered(
    start: Start, http: aiohttp.ClientSession
) -> None:
    url = await start("--max-num-seqs", "8", "--num-gpu-blocks-override", "64",
                      "--max-model-len", "1024", "--time-scale", "0.2")  # fmt: skip
    answers: list[dict[str, Any]] = []

    async def ask(number: int) -> None:
        body = {"prompt": f"question {number}", "max_tokens": 60}
        status, answer = await post(http, url + "/v1/completions", body)
        assert status == 200
        answers.append(answer)

    async with asyncio.TaskGroup() as group:
        for number in range(40):
            group.create_task(ask(number))
    assert sum(a["usage"]["completion_tokens"] for a in answers) == 40 * 60
    families = await scrape(http, url)
    assert value(families, "vllm:generation_tokens", "vllm:generation_tokens_total") == 2400
    assert value(families, "vllm:kv_cache_usage_perc") == 0
