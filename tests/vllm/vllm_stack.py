"""A stack on real vLLM, what is asked of it, and load that counts failures.

Knows the harness of the stack tests, kubectl and helm, and OpenAI's own client.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import harness
from openai import AsyncOpenAI, OpenAIError

from inferway.cli.vllm.home import engine_home

ROOT = Path(__file__).resolve().parents[2]
APP = "vllm-llama3-8b-instruct"
MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
ADAPTER_SOURCE = "SriSanth2345/Qwen-1.5B-Tweet-Generations"
# A server starts in 40 to 100 s on two free cores; three at a time on busy ones take longer.
SERVER_SECONDS_MAX = 1800
LOOK_AGAIN_SECONDS = 0.5
REQUEST_SECONDS_MAX = 120
PAUSE_SECONDS = 0.5
# A change of the ConfigMap is visible through the gateway within this.
ADAPTER_SECONDS_MAX = 15.0


@dataclass
class VllmStack:
    """A running stack and its door."""

    state: Path
    kubectl_program: Path
    models: Path

    @property
    def url(self) -> str:
        """Where the Gateway is."""
        return str(self.status()["gateways"][0]["url"])

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    def status(self) -> dict[str, Any]:
        """What ``inferway status`` says."""
        words = [*harness.inferway_command(), "status", "--state", str(self.state), "-o", "json"]
        loaded: dict[str, Any] = json.loads(harness.run(words).stdout)
        return loaded

    def kubectl(self, *words: str, text: str | None = None) -> str:
        result = subprocess.run(
            [str(self.kubectl_program), *words],
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            input=text, capture_output=True, text=True, timeout=SERVER_SECONDS_MAX + 60,
            check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"kubectl {' '.join(words)}: {result.stderr}"
        return result.stdout

    def get(self, *words: str) -> Any:
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def servers(self) -> list[Any]:
        """The model servers' Pods that are not on their way out."""
        pods = self.get("pods", "-l", f"app={APP}")["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def wait_available(self, name: str = APP) -> None:
        words = f"deployment/{name}", "--for=condition=Available"
        try:
            self.kubectl("wait", *words, f"--timeout={SERVER_SECONDS_MAX}s")
        except AssertionError as error:
            seen = self.kubectl("get", "pods,events", "-o", "wide")
            logs = self.kubectl("logs", f"deployment/{name}", "--all-containers", "--tail=40")
            raise AssertionError(f"{error}\n{seen}\n{logs}") from None

    def rolled_out(self, name: str = APP) -> None:
        """Waits until all replicas are of the current template and the older ones have gone."""
        timeout = f"--timeout={SERVER_SECONDS_MAX}s"
        self.kubectl("rollout", "status", f"deployment/{name}", timeout)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncOpenAI]:
        """The official client, without the retries that would hide a failure."""
        async with AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=REQUEST_SECONDS_MAX,
        ) as client:
            yield client

    async def listed(self) -> set[str]:
        """The models and adapters that the gateway names."""
        async with self.client() as client:
            return {model.id async for model in client.models.list()}


@contextmanager
def started(folder: Path, kubectl: Path, helm: Path) -> Iterator[VllmStack]:
    """A stack from nothing to the guide's last step."""
    models = engine_home(os.environ).models
    there = os.environ.get("INFERWAY_VLLM_STATE")
    if there:
        # Servers take minutes to start: who writes tests keeps a stack of this kind running.
        yield VllmStack(Path(there), kubectl, models)
        return
    stack = harness.start(
        folder / "state", "--empty", "--engine", "vllm",
        "--node-capacity", "cpu=64,memory=128Gi",
        "--model", f"{MODEL}={models / 'random-qwen2'}",
        "--model", f"{ADAPTER_SOURCE}={models / 'random-0'}",
    )  # fmt: skip
    try:
        stack.wait_for("An empty cluster is up.")
        found = VllmStack(stack.state, kubectl, models)
        _follow_the_guide(found, helm)
        yield found
    finally:
        if stack.process.poll() is None:
            stack.stop()


def _follow_the_guide(stack: VllmStack, helm: Path) -> None:
    stack.kubectl("apply", "-f", "-", text=model_servers(replicas=2))
    env = os.environ | {
        "KUBECONFIG": str(stack.kubeconfig),
        "HELM_CACHE_HOME": str(stack.state.parent / "helm"),
    }
    labels = f"inferencePool.modelServers.matchLabels.app={APP}"
    for words in (
        ["inferway-crds", "charts/inferway-crds"],
        ["inferway", "charts/inferway"],
        [APP, "charts/inferencepool", "--set", labels],
    ):
        subprocess.run(
            [str(helm), "upgrade", "-i", *words],
            cwd=ROOT, env=env, check=True, capture_output=True, timeout=60,
        )  # fmt: skip
    stack.kubectl("apply", "-f", str(ROOT / "examples" / "guide" / "5-gateway.yaml"))
    gateway = "gateway/inference-gateway"
    stack.kubectl("wait", gateway, "--for=condition=Programmed", "--timeout=60s")
    stack.wait_available()
    stack.rolled_out()


def model_servers(*, replicas: int) -> str:
    """The guide's Deployment and ConfigMap, of a size for tests."""
    text = (ROOT / "examples" / "guide" / "1-model-server.yaml").read_text()
    changes = {
        "  replicas: 1": f"  replicas: {replicas}\n  progressDeadlineSeconds: 3600",
        "initialDelaySeconds: 180": "initialDelaySeconds: 1",
        'VLLM_CPU_KVCACHE_SPACE\n              value: "4"': (
            'VLLM_CPU_KVCACHE_SPACE\n              value: "1"'
        ),
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


async def eventually(
    look: Callable[[], Any], good: Callable[[Any], bool], seconds: float
) -> tuple[Any, float]:
    """What ``look`` saw when it was good, and after how many seconds."""
    begin = time.monotonic()
    never = asyncio.Event()
    while True:
        seen = look()
        if asyncio.iscoroutine(seen):
            seen = await seen
        passed = time.monotonic() - begin
        if good(seen):
            return seen, passed
        assert passed < seconds, f"not within {seconds} s; last: {seen}"
        waiting = asyncio.wait_for(never.wait(), LOOK_AGAIN_SECONDS)
        await asyncio.gather(waiting, return_exceptions=True)


@dataclass
class Load:
    """What a load saw."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    first: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def under_load(stack: VllmStack, streams: int = 3) -> AsyncIterator[Load]:
    """Requests of several clients one after the other, while the block runs; half are streamed."""
    load = Load()
    over = asyncio.Event()

    async def work(client: AsyncOpenAI, number: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            prompt = f"client {number} asks for the {count}. time"
            try:
                await ask(client, prompt, stream=(count + number) % 2 == 0)
                load.answered += 1
            except (OpenAIError, AssertionError) as error:
                load.failures.append(f"{type(error).__name__}: {error}")
            load.first.set()
            # A pause, since a server that computes all the time leaves none of two cores to others.
            waiting = asyncio.wait_for(over.wait(), PAUSE_SECONDS)
            await asyncio.gather(waiting, return_exceptions=True)

    async with stack.client() as client, asyncio.TaskGroup() as group:
        for number in range(streams):
            group.create_task(work(client, number), name=f"client {number}")
        try:
            await load.first.wait()
            yield load
        finally:
            over.set()


async def ask(client: AsyncOpenAI, prompt: str, *, stream: bool) -> None:
    """One completion of 16 tokens; an assertion fails where the answer is not whole."""
    words: dict[str, Any] = {"model": MODEL, "prompt": prompt, "max_tokens": 16}
    words["extra_body"] = {"ignore_eos": True}
    if not stream:
        answer = await client.completions.create(**words)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 16
        return
    reasons = [
        part.choices[0].finish_reason
        async for part in await client.completions.create(**words, stream=True)
        if part.choices
    ]
    assert reasons[-1:] == ["length"]
