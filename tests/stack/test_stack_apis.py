"""Every API through the gateway, by the clients that users have.

One stack for the file, with a name that a rewrite adds. What the picker answers itself is told in
the words that the client knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from harness import Stack, run, start

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
ADAPTER = "food-review-0"
ALIAS = "chat-best"
OBJECTS = f"""
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: best}}
spec:
  poolRef: {{name: vllm-qwen}}
  rules:
  - matches: [{{model: {{value: {ALIAS}}}}}]
    targets: [{{modelRewrite: {ADAPTER}}}]
---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {{name: gold}}
spec: {{priority: 10, poolRef: {{name: vllm-qwen}}}}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Stack]:
    stack = start(tmp_path_factory.mktemp("apis") / "state")
    stack.wait_for("Ctrl-C stops it all.")
    stack.kubectl(kubectl, "apply", "-f", "-", text=OBJECTS)
    for kind in ("inferencemodelrewrite.llm-d.ai/best", "inferenceobjective.llm-d.ai/gold"):
        stack.kubectl(kubectl, "wait", kind, "--for=condition=Accepted", "--timeout=60s")
    yield stack
    if stack.process.poll() is None:
        stack.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url()}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=stack.url(), api_key="none", max_retries=0) as made:
        yield made


def post(stack: Stack, path: str, body: Any, *options: str) -> tuple[int, Any]:
    result = run(
        ["curl", "-s", "-w", "\n%{http_code}", f"{stack.url()}{path}", *options,
         "-H", "Content-Type: application/json", "--data-binary", json.dumps(body)]
    )  # fmt: skip
    text, _, status = result.stdout.rpartition("\n")
    return int(status), json.loads(text)


def test_models_have_adapters_and_names_of_rewrites(client: openai.OpenAI) -> None:
    cards = {card.id: card.to_dict() for card in client.models.list()}
    assert {MODEL, ADAPTER, ALIAS} <= set(cards)
    assert cards[ALIAS]["parent"] == cards[ADAPTER]["parent"] == MODEL
    assert cards[ALIAS]["root"] == cards[ADAPTER]["root"]


@pytest.mark.parametrize("model", [MODEL, ADAPTER])
def test_completions(client: openai.OpenAI, model: str) -> None:
    for prompt in ("hello", ["hello", "there"], [5, 6, 7], [[5, 6], [7]]):
        found = client.completions.create(model=model, prompt=prompt, max_tokens=3)
        assert found.model == model
        assert all(choice.text for choice in found.choices)


def test_a_name_of_a_rewrite_is_another_model(client: openai.OpenAI) -> None:
    found = client.completions.create(model=ALIAS, prompt="hello", max_tokens=3)
    assert found.model == ADAPTER


def test_chat_streams(client: openai.OpenAI) -> None:
    said: Any = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    stream = client.chat.completions.create(
        model=MODEL, messages=said, max_tokens=5, stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-gateway-inference-objective": "gold", "x-slo-ttft-ms": "500"},
    )  # fmt: skip
    chunks = list(stream)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


def test_responses(client: openai.OpenAI) -> None:
    found = client.responses.create(
        model=MODEL, input="hello", instructions="be", max_output_tokens=5
    )
    assert found.output_text
    with client.responses.stream(model=MODEL, input="hello", max_output_tokens=5) as events:
        assert events.get_final_response().output_text


def test_embeddings(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model=MODEL, input=["one", "two"])
    assert [one.index for one in found.data] == [0, 1]


def test_errors_of_the_picker_are_those_of_openai(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=f"does not exist.*{ADAPTER}") as missing:
        client.completions.create(model="nobody", prompt="x")
    assert missing.value.code == "model_not_found"
    parts: Any = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    said: Any = [{"role": "user", "content": parts}]
    with pytest.raises(openai.BadRequestError, match="not a multimodal model"):
        client.chat.completions.create(model=MODEL, messages=said, max_tokens=3)


def test_messages(claude: anthropic.Anthropic) -> None:
    said: Any = [{"role": "user", "content": "hello"}]
    found = claude.messages.create(model=MODEL, max_tokens=5, system="be", messages=said)
    assert found.content[0].type == "text"
    assert found.usage.output_tokens == 5
    counted = claude.messages.count_tokens(model=MODEL, system="be", messages=said)
    assert counted.input_tokens == found.usage.input_tokens
    with claude.messages.stream(model=MODEL, max_tokens=5, messages=said) as stream:
        assert "".join(stream.text_stream)


def test_errors_of_the_picker_are_those_of_anthropic(claude: anthropic.Anthropic) -> None:
    said: Any = [{"role": "user", "content": "hello"}]
    with pytest.raises(anthropic.NotFoundError) as missing:
        claude.messages.create(model="nobody", max_tokens=5, messages=said)
    assert isinstance(missing.value.body, dict)
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert ADAPTER in missing.value.body["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "part"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["a", "b"]}, "results"),
        ("/v1/score", {"queries": "a", "documents": ["a", "b"]}, "data"),
        ("/pooling", {"input": "a"}, "data"),
        ("/classify", {"input": "a"}, "data"),
        ("/tokenize", {"prompt": "a b"}, "tokens"),
        ("/detokenize", {"tokens": [5, 6]}, "prompt"),
        ("/inference/v1/generate",
         {"token_ids": [5, 6], "sampling_params": {"max_tokens": 3}}, "choices"),
    ],
)  # fmt: skip
def test_calls_of_vllm(stack: Stack, path: str, body: Any, part: str) -> None:
    status, answer = post(stack, path, {"model": MODEL, **body})
    assert (status, bool(answer[part])) == (200, True)


def test_a_path_that_nobody_knows_reaches_a_server(stack: Stack) -> None:
    status, answer = post(stack, "/v1/surprises", {"model": MODEL})
    assert (status, answer) == (404, {"detail": "Not Found"})


def test_a_header_names_the_model_of_the_server(stack: Stack) -> None:
    header = f"x-llm-d-model-name-rewrite: {ADAPTER}"
    body = {"model": MODEL, "prompt": "x", "max_tokens": 2}
    status, answer = post(stack, "/v1/completions", body, "-H", header)
    assert (status, answer["model"]) == (200, ADAPTER)


def test_a_server_without_the_prompt_in_its_cache_is_not_preferred(stack: Stack) -> None:
    body = {"model": MODEL, "prompt": "a prompt that nobody has sent before " * 20, "max_tokens": 2}
    prefer = ("-H", "Prefer: if-available")
    status, answer = post(stack, "/v1/completions", body, *prefer)
    assert (status, answer["error"]["code"]) == (412, "not_cached")
    assert post(stack, "/v1/completions", body)[0] == 200
    assert post(stack, "/v1/completions", body, *prefer)[0] == 200
