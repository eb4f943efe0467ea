"""The guide's Deployment with real vLLM in it, through Gateway, HTTPRoute and picker.

Method: one stack for all; the client is OpenAI's own, without retries. Tests change the stack and
leave it with at least one replica ready; they run in the order of this file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid
from typing import Any

import aiohttp
import harness
import pytest
import yaml
from vllm_stack import (
    ADAPTER_SECONDS_MAX,
    APP,
    MODEL,
    SERVER_SECONDS_MAX,
    VllmStack,
    eventually,
    model_servers,
    under_load,
)

pytestmark = pytest.mark.timeout(3 * SERVER_SECONDS_MAX)

GUIDE_ADAPTERS = {"food-review-0", "food-review-1"}
SYNCED_ADAPTERS = {"food-review", "cad-fabricator"}
QUESTION = "What is the warmest city in the USA?"


async def test_completions_and_chat(stack: VllmStack) -> None:
    async with stack.client() as client:
        text = await client.completions.create(
            model=MODEL, prompt=QUESTION, max_tokens=20, temperature=0.5,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=20
        )
    assert text.object == "text_completion"
    assert text.model == MODEL
    assert text.usage is not None
    assert text.usage.completion_tokens == 20
    assert raw.headers["x-went-into-resp-headers"] == "true"
    assert raw.headers["x-request-id"]
    chat = raw.parse()
    assert chat.choices[0].message.role == "assistant"
    assert chat.usage is not None
    assert chat.usage.prompt_tokens > 10


async def test_streams_come_in_parts_and_end_with_usage(stack: VllmStack) -> None:
    async with stack.client() as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": QUESTION}], max_tokens=20,
            stream=True, stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        parts = [part async for part in stream]
    # Random text is full of broken characters, which are held back until they are whole.
    assert len(parts) > 2
    assert parts[-1].usage is not None
    assert parts[-1].usage.completion_tokens == 20
    assert parts[-2].choices[0].finish_reason == "length"


async def test_adapters_answer_by_name_and_differ_from_their_base(stack: VllmStack) -> None:
    await eventually(stack.listed, GUIDE_ADAPTERS.union(SYNCED_ADAPTERS).issubset, 60)
    said = {}
    async with stack.client() as client:
        for name in (MODEL, "food-review-0", "food-review"):
            answer = await client.completions.create(
                model=name, prompt=QUESTION, max_tokens=16, temperature=0,
                extra_body={"ignore_eos": True},
            )  # fmt: skip
            assert answer.model == name
            said[name] = answer.choices[0].text
    assert said["food-review-0"] == said["food-review"], "both have the same source"
    assert said["food-review-0"] != said[MODEL]


async def test_a_wrong_model_is_refused_as_openai_does(stack: VllmStack) -> None:
    from openai import NotFoundError

    async with stack.client() as client:
        with pytest.raises(NotFoundError) as caught:
            await client.completions.create(model="nobody", prompt="x")
    assert "nobody" in str(caught.value)


async def test_models_are_the_union_of_all_replicas(stack: VllmStack) -> None:
    addresses = [pod["status"]["podIP"] for pod in stack.servers()]
    assert len(addresses) == 2
    adapter = {"lora_name": "only-here", "lora_path": str(stack.models / "random-2")}
    async with aiohttp.ClientSession() as session:
        path = f"http://{addresses[0]}:8000/v1"
        async with session.post(f"{path}/load_lora_adapter", json=adapter) as response:
            assert response.status == 200, await response.text()
        await eventually(stack.listed, lambda names: "only-here" in names, ADAPTER_SECONDS_MAX)
        async with stack.client() as client:
            for _ in range(4):
                answer = await client.completions.create(
                    model="only-here", prompt=QUESTION, max_tokens=4
                )
                assert answer.model == "only-here"
        async with session.post(f"{path}/unload_lora_adapter", json=adapter) as response:
            assert response.status == 200, await response.text()
    await eventually(stack.listed, lambda names: "only-here" not in names, ADAPTER_SECONDS_MAX)


def config_map(change: dict[str, Any]) -> str:
    """The guide's ConfigMap with other keys in its vLLMLoRAConfig."""
    documents = list(yaml.safe_load_all(model_servers(replicas=2)))
    found = next(item for item in documents if item["kind"] == "ConfigMap")
    config = yaml.safe_load(found["data"]["configmap.yaml"])
    config["vLLMLoRAConfig"] |= change
    found["data"]["configmap.yaml"] = yaml.safe_dump(config)
    return yaml.safe_dump(found)


async def test_an_edited_config_map_adds_and_removes_an_adapter(stack: VllmStack) -> None:
    source = str(stack.models / "random-1")
    kept = [{"id": name, "source": source} for name in sorted(SYNCED_ADAPTERS)]
    entry = {"id": "late-comer", "source": source}
    stack.kubectl("apply", "-f", "-", text=config_map({"ensureExist": {"models": [*kept, entry]}}))
    _, passed = await eventually(
        stack.listed, lambda names: "late-comer" in names, ADAPTER_SECONDS_MAX
    )
    print(f"added within {passed:.1f} s")
    async with stack.client() as client:
        answer = await client.completions.create(model="late-comer", prompt=QUESTION, max_tokens=4)
    assert answer.model == "late-comer"
    change = {"ensureExist": {"models": kept}, "ensureNotExist": {"models": [entry]}}
    stack.kubectl("apply", "-f", "-", text=config_map(change))
    names, passed = await eventually(
        stack.listed, lambda names: "late-comer" not in names, ADAPTER_SECONDS_MAX
    )
    print(f"removed within {passed:.1f} s")
    assert names >= GUIDE_ADAPTERS | SYNCED_ADAPTERS | {MODEL}


def server_process(stack: VllmStack, pod: Any) -> int:
    """The API server of a Pod: the one below the stack whose environment has its address."""
    address = f"INFERWAY_POD_IP={pod['status']['podIP']}\0".encode()
    for pid in harness.descendants(stack.status()["pid"]):
        words = harness.proc(pid, "cmdline")
        if b"openai.api_server" in words and address in harness.proc(pid, "environ"):
            return pid
    raise AssertionError(f"no process of {pod['metadata']['name']}")


async def test_a_killed_replica_fails_no_request_that_had_no_answer_yet(stack: VllmStack) -> None:
    pod = stack.servers()[0]
    name = pod["metadata"]["name"]
    async with under_load(stack) as load:
        before = load.answered
        os.kill(server_process(stack, pod), signal.SIGKILL)

        def restarted() -> Any:
            return stack.get("pod", name)["status"]["containerStatuses"][0]

        await eventually(
            restarted,
            lambda status: status["restartCount"] > 0 and status["ready"],
            SERVER_SECONDS_MAX,
        )
        assert load.answered > before + 10
    # A stream that had begun cannot be begun again; three clients have three at most.
    broken = [text for text in load.failures if "APIStatusError" not in text]
    assert len(load.failures) == len(broken), load.failures
    assert len(broken) <= 3, broken


async def test_scaling_out_and_in_fails_no_request(stack: VllmStack) -> None:
    async with under_load(stack) as load:
        for count in (3, 1):
            stack_scale = ["scale", f"deployment/{APP}", f"--replicas={count}"]
            await asyncio.to_thread(stack.kubectl, *stack_scale)
            await asyncio.to_thread(stack.rolled_out)
            await eventually(lambda: len(stack.servers()), lambda found, n=count: found == n, 120)
            before = load.answered
            await eventually(lambda: load.answered, lambda now, old=before: now > old + 10, 120)
    assert load.failures == []
    assert load.answered > 50


async def test_a_rolling_update_fails_no_request(stack: VllmStack) -> None:
    """To a template that starts the server by a shell, as many manifests do."""
    names = {pod["metadata"]["name"] for pod in stack.servers()}
    words = (
        f"exec vllm serve {MODEL} --port 8000 --enable-lora --max-loras 4 "
        f"--lora-modules food-review-0={stack.models / 'random-0'} "
        f"food-review-1={stack.models / 'random-0'}"
    )
    container = {"name": "lora", "command": ["sh", "-c", words], "args": None}
    change = {"metadata": {"annotations": {"changed": str(uuid.uuid4())}}}
    patch = {"spec": {"template": change | {"spec": {"containers": [container]}}}}
    async with under_load(stack) as load:
        await asyncio.to_thread(
            stack.kubectl, "patch", f"deployment/{APP}", "-p", json.dumps(patch)
        )
        await asyncio.to_thread(stack.rolled_out)
        before = load.answered
        await eventually(lambda: load.answered, lambda now: now > before + 10, 120)
    assert names.isdisjoint({pod["metadata"]["name"] for pod in stack.servers()})
    assert load.failures == []
    await eventually(stack.listed, {MODEL}.union(GUIDE_ADAPTERS, SYNCED_ADAPTERS).issubset, 60)
