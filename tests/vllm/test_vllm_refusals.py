"""What is said of servers that cannot start: at once where it can be known, else in vLLM's words.

Method: Pods in the three forms that manifests start vLLM in; the reason stands in the container's
last state, where `kubectl describe pod` shows it, and a Warning Event says that it is started
again. What works beside them goes on working.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vllm_stack import MODEL, SERVER_SECONDS_MAX, VllmStack, ask, eventually

pytestmark = pytest.mark.timeout(2 * SERVER_SECONDS_MAX)
NAME = "refused"


async def last_words(stack: VllmStack, container: dict[str, Any]) -> str:
    """How a Pod of this container ended."""
    spec = {
        "containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.10.2", **container}],
        "terminationGracePeriodSeconds": 1,
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": NAME}, "spec": spec}
    stack.kubectl("apply", "-f", "-", text=json.dumps(pod))
    try:

        def ended() -> str:
            status = stack.get("pod", NAME)["status"]
            found = status.get("containerStatuses", [{}])[0]
            for state in (found.get("state", {}), found.get("lastState", {})):
                if "terminated" in state:
                    return str(state["terminated"].get("message", "no message"))
            return ""

        words, _ = await eventually(ended, bool, SERVER_SECONDS_MAX)
        await eventually(
            lambda: stack.kubectl("events", "--for", f"pod/{NAME}"),
            lambda text: "BackOff" in text,
            60,
        )
        assert isinstance(words, str)
        return words
    finally:
        stack.kubectl("delete", "pod", NAME, "--wait")


@pytest.mark.parametrize(
    "container",
    [
        {"args": ["--model", "nobody/knows-it"]},
        {"command": ["vllm", "serve"], "args": ["nobody/knows-it", "--port", "8000"]},
        {"command": ["sh", "-c", "exec vllm serve nobody/knows-it"]},
        {"command": ["sh", "-c"], "args": ["vllm serve --model=nobody/knows-it --port 8000"]},
        {
            "command": ["python3", "-m", "vllm.entrypoints.openai.api_server"],
            "args": ["--model", "nobody/knows-it"],
        },
    ],
    ids=["args", "serve", "shell", "shell-args", "module"],
)
async def test_a_model_that_is_not_here_is_said_with_the_way_to_map_it(
    stack: VllmStack, container: dict[str, Any]
) -> None:
    words = await last_words(stack, container)
    assert "the model nobody/knows-it is not on this machine [INFERWAY0129]" in words
    assert "--model nobody/knows-it=FOLDER" in words


async def test_a_machine_that_is_too_small_is_said_in_numbers(stack: VllmStack) -> None:
    env = [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "9000"}]
    words = await last_words(stack, {"args": ["--model", MODEL], "env": env})
    assert "vLLM needs about 9002.0 GiB of memory for random-qwen2" in words
    assert "INFERWAY0126" in words


async def test_a_folder_that_is_no_model_is_said(stack: VllmStack, tmp_path: Path) -> None:
    words = await last_words(stack, {"args": ["--model", str(tmp_path)]})
    assert "it has no config.json" in words


async def test_a_model_that_breaks_while_it_loads_ends_in_vllms_words(
    stack: VllmStack, tmp_path: Path
) -> None:
    for file in (stack.models / "random-qwen2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + bytes(40))
    words = await last_words(stack, {"args": ["--model", str(tmp_path)]})
    assert "Error" in words
    async with stack.client() as client:
        await ask(client, "the others go on", stream=False)
