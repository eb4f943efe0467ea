"""A picker that dies, hangs or is missing: what clients see in each failure mode.

Method: one stack with the demo; real kubectl and signals. A hung picker is one that is stopped,
as the kernel stops it: it keeps its connections and says nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from harness import run, start
from watching import MODEL, Counts, Watch, ask, eventually

from inferway.base.native import module_folder
from inferway.bench.answers import read_stream

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

STREAMS = 8
# About four seconds of the simulated server: longer than it takes to kill a picker.
STREAM_TOKENS = 4_000
PICK_SECONDS = 1.0
# What an answer may take beyond the deadline on a busy machine.
SLACK_SECONDS = 2.5
# Envoy counts its deadline from the time at which its loop woke, a little before the request.
EARLY_SECONDS = 0.05
PICKER = "deployment/vllm-qwen-epp"


@pytest.fixture(scope="module", params=["native", "callout"])
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kubectl: Path
) -> Iterator[Watch]:
    if request.param == "native" and not module_folder():
        pytest.skip("the native pick filter is not built: there is no C compiler")
    env = {**os.environ, "INFERWAY_PICK_MODULE": "on" if request.param == "native" else "off"}
    stack = start(tmp_path_factory.mktemp("picker") / "state", env=env)
    stack.wait_for("Ctrl-C stops it all.")
    watch = Watch(stack, kubectl)
    watch.kubectl(
        "annotate", "inferencepool/vllm-qwen", f"inferway.dev/pick-timeout={PICK_SECONDS:g}s"
    )
    told = "timeout_ms=1000" if request.param == "native" else '"timeout": "1s"'
    eventually(lambda: told in proxy_config(watch), "the deadline in the proxy")
    yield watch
    assert stack.stop() == 0


def proxy_config(demo: Watch) -> str:
    """What the proxy was told, from its own page for administrators."""
    proxy = demo.pods("gateway.networking.k8s.io/gateway-name=inference-gateway")[0]
    socket = f"inferway-envoy-{proxy['metadata']['name']}"
    return run(["curl", "-s", "--abstract-unix-socket", socket, "http://x/config_dump"]).stdout


def fail(demo: Watch, mode: str) -> None:
    """Sets the pool's failure mode and waits until the proxy has it."""
    patch = {"spec": {"endpointPickerRef": {"failureMode": mode}}}
    demo.kubectl(
        "patch", "inferencepool/vllm-qwen", "--type=merge", "-p", json.dumps(patch)
    )  # fmt: skip
    closed = mode == "FailClose"
    # Only a pool that fails closed has a balancer that finds nobody.
    eventually(lambda: ("inferway-nobody" in proxy_config(demo)) is closed, mode)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def timed(url: str) -> tuple[int, Any, float]:
    began = time.monotonic()
    status, body = ask(url)
    return status, body, time.monotonic() - began


def is_unavailable(status: int, body: Any, code: str) -> None:
    assert status == 503, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["code"] == code, body


async def test_a_picker_that_dies_cuts_no_stream(demo: Watch) -> None:
    url = demo.stack.url()
    pod = demo.picker()
    pid = demo.pid(pod, "inferway picker")
    begun = [asyncio.Event() for _ in range(STREAMS)]
    body = {"model": MODEL, "prompt": "Tell me a long story.", "max_tokens": STREAM_TOKENS,
            "stream": True, "stream_options": {"include_usage": True}}  # fmt: skip

    async def stream(session: aiohttp.ClientSession, number: int) -> int:
        async with session.post(f"{url}/v1/completions", json=body) as response:
            assert response.status == 200
            begun[number].set()
            return (await read_stream(response.content)).completion_tokens

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        streams = [group.create_task(stream(session, number)) for number in range(STREAMS)]
        for event in begun:
            await event.wait()
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(
            demo.kubectl, "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force"
        )
        assert not any(task.done() for task in streams), "the streams were too short"
    assert [task.result() for task in streams] == [STREAM_TOKENS] * STREAMS
    demo.wait_rollout("vllm-qwen-epp")
    normal_again(demo, url)


def normal_again(demo: Watch, url: str) -> None:
    """Answers are picked again."""
    picker = demo.picker()["status"]["podIP"]
    before = Counts.read(picker).total("decisions_total", outcome="chosen")

    def picked() -> bool:
        assert ask(url)[0] == 200
        return Counts.read(picker).total("decisions_total", outcome="chosen") > before

    eventually(picked, "picks again")


def nothing_in_flight(demo: Watch) -> None:
    """What the picker answered into connections that were given up is let go after 30 s."""
    picker = demo.picker()["status"]["podIP"]
    eventually(lambda: Counts.read(picker).total("in_flight") == 0, "nothing in flight", 40)


def test_a_hung_picker_that_fails_open_costs_its_deadline(demo: Watch) -> None:
    url = demo.stack.url()
    fail(demo, "FailOpen")
    pod = demo.picker()
    with stopped(demo.pid(pod, "inferway picker")):
        status, _, seconds = timed(url)
        assert status == 200
        assert PICK_SECONDS - EARLY_SECONDS <= seconds < PICK_SECONDS + SLACK_SECONDS
        demo.kubectl(
            "wait", f"pod/{pod['metadata']['name']}", "--for=condition=Ready=false",
            "--timeout=30s",
        )  # fmt: skip
        # Known to hang, it is not asked.
        eventually(lambda: timed(url)[2] < PICK_SECONDS / 2, "no more waiting")
    demo.wait_rollout("vllm-qwen-epp")
    normal_again(demo, url)


def test_a_hung_picker_that_fails_closed_is_503_in_time(demo: Watch) -> None:
    url = demo.stack.url()
    fail(demo, "FailClose")
    with stopped(demo.pid(demo.picker(), "inferway picker")):
        status, body, seconds = timed(url)
        is_unavailable(status, body, "picker_unavailable")
        assert PICK_SECONDS - EARLY_SECONDS <= seconds < PICK_SECONDS + SLACK_SECONDS
    demo.wait_rollout("vllm-qwen-epp")
    normal_again(demo, url)
    nothing_in_flight(demo)


def test_a_missing_picker(demo: Watch) -> None:
    url = demo.stack.url()
    fail(demo, "FailClose")
    demo.kubectl("scale", PICKER, "--replicas=0")
    demo.kubectl(
        "wait", "pods", "-l", "inferencepool=vllm-qwen-epp", "--for=delete", "--timeout=60s"
    )
    status, body, seconds = timed(url)
    is_unavailable(status, body, "picker_unavailable")
    assert seconds < PICK_SECONDS
    fail(demo, "FailOpen")
    status, body, _ = timed(url)
    assert (status, body["model"]) == (200, MODEL)
    demo.kubectl("scale", PICKER, "--replicas=1")
    demo.wait_rollout("vllm-qwen-epp")
    normal_again(demo, url)


@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
def test_no_ready_server_is_said(demo: Watch, mode: str) -> None:
    url = demo.stack.url()
    fail(demo, mode)
    picker = demo.picker()["status"]["podIP"]
    demo.kubectl("scale", "deployment/vllm-qwen", "--replicas=0")
    eventually(lambda: Counts.read(picker).total("endpoints_ready") == 0, "no endpoint")
    status, body = ask(url)
    is_unavailable(status, body, "no_endpoint")
    assert "ready" in body["error"]["message"]
    demo.kubectl("scale", "deployment/vllm-qwen", "--replicas=3")
    # From nothing to an answer: the start of a server, its probe, and the news of it.
    eventually(lambda: ask(url)[0] == 200, "served again", seconds=10)
    demo.wait_rollout()
