"""Whatever a body says, the answer is 200 or an error of the client, and the server goes on."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferway.simulator import flags
from inferway.simulator.app import App
from inferway.simulator.http import HttpServer

NUMBERS = st.integers(-5, 60) | st.integers() | st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = (
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "n", "stop", "stream",
    "stream_options", "echo", "logprobs", "top_logprobs", "temperature", "top_p", "input",
    "dimensions", "encoding_format", "tokens", "lora_name", "lora_path", "load_inplace",
    "truncate_prompt_tokens", "return_token_ids", "cache_salt", "request_id", "min_tokens",
    "include_stop_str_in_output", "kv_transfer_params", "add_generation_prompt", "top_k", "min_p",
    "seed", "suffix", "presence_penalty", "repetition_penalty", "logit_bias", "allowed_token_ids",
    "prompt_logprobs", "response_format", "ignore_eos", "tools", "tool_choice", "reasoning_effort",
    "continue_final_message", "instructions", "max_output_tokens", "metadata",
)  # fmt: skip
# Bodies that would be right, with some fields replaced by anything.
RIGHT: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a b", "max_tokens": 4},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 4},
    "/v1/embeddings": {"input": "a b"},
    "/v1/responses": {"input": "a b", "max_output_tokens": 4},
    "/invocations": {"prompt": "a b", "max_tokens": 4},
    "/tokenize": {"prompt": "a"},
    "/detokenize": {"tokens": [97]},
    "/v1/load_lora_adapter": {"lora_name": "a", "lora_path": "b"},
    "/v1/unload_lora_adapter": {"lora_name": "a"},
}


async def ask(path: str, body: bytes) -> int:
    loop = asyncio.get_running_loop()
    options = flags.parse(
        ["m", "--profile", "instant", "--enable-lora", "--max-model-len", "64"],
        {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
    )
    app = App(options, loop, lambda line: None)
    http = HttpServer(app.handle)
    server = await loop.create_server(http, "127.0.0.1", 0)
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        writer.write(
            b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
        )
        answer = await reader.read()
        writer.close()
    server.close()
    assert app.in_flight == 0
    assert app.engine.idle
    assert app.engine.pool.used == 0
    return int(answer.split(b" ", 2)[1])


@pytest.mark.slow
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    path=st.sampled_from(sorted(RIGHT)),
    changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
)
def test_any_field_may_be_anything(path: str, changes: dict[str, Any]) -> None:
    body = json.dumps({**RIGHT[path], **changes}).encode()
    assert asyncio.run(ask(path, body)) in (200, 400, 404)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(sorted(RIGHT)), body=st.binary(max_size=40))
def test_any_bytes_may_be_a_body(path: str, body: bytes) -> None:
    assert asyncio.run(ask(path, body)) in (200, 400)
