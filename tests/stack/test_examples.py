"""The pages about versions and scaling, pasted block by block into a shell on a running stack.

Method: one stack for all pages, each in a namespace of its own; the commands are those of the page,
with real kubectl and helm. While models change and servers come and go, a load runs through the
gateway, and no request of it may fail.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml
from harness import Stack, start
from loading import CLIENTS, load

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "how-to"
# The reader of pages stands with the tests of the guide.
sys.path.append(str(ROOT / "tests" / "guide"))
from commands import Outcome, Shell, fenced, pasted  # noqa: E402

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
# A block waits up to two minutes itself; a busy machine takes its time besides.
BLOCK_SECONDS_MAX = 200.0
READ_AGAIN_SECONDS = 0.25
COUNTED = re.compile(r"(\d+) \"(?:root|model)\": ?\"([^\"]+)\"")


@dataclass(frozen=True)
class Place:
    """A running stack and a shell's environment beside it."""

    stack: Stack
    env: dict[str, str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, kubectl: Path, helm: Path) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("examples")
    stack = start(folder / "state", "--node-capacity", "cpu=16,memory=64Gi")
    try:
        stack.wait_for("Inferway is up.")
        path = os.pathsep.join([str(kubectl.parent), str(helm.parent), os.environ["PATH"]])
        env = {
            "KUBECONFIG": str(stack.kubeconfig),
            "PATH": path,
            "HOME": str(folder),
            "HELM_CACHE_HOME": str(folder / "helm"),
        }
        yield Place(stack, env)
    finally:
        if stack.process.poll() is None:
            stack.stop()


@dataclass
class Reader:
    """Pastes a page's blocks in their order."""

    shell: Shell
    blocks: list[str]
    output: list[str] = field(default_factory=list)

    async def through(self, text: str) -> str:
        """All blocks up to the first one that holds the text; the output of that one."""
        while self.blocks:
            block = self.blocks.pop(0)
            said = (await self.shell.paste(block, seconds=BLOCK_SECONDS_MAX)).succeeded()
            if "URL=http" in block:
                await self._with_port()
            if text in block:
                return said
        raise AssertionError(f"no further block holds {text!r}")

    async def end(self) -> None:
        """All blocks that are left."""
        while self.blocks:
            block = self.blocks.pop(0)
            (await self.shell.paste(block, seconds=BLOCK_SECONDS_MAX)).succeeded()

    async def say(self, command: str) -> str:
        """A command that is not on the page."""
        outcome: Outcome = await self.shell.paste(command, seconds=BLOCK_SECONDS_MAX)
        return outcome.succeeded().strip()

    async def url(self) -> str:
        return await self.say("echo $URL")

    async def url_of(self, namespace: str, gateway: str) -> str:
        """The address of a Gateway that the page does not ask."""
        path = "jsonpath='{.status.addresses[0].value}'"
        await self.say(f"URL=http://$(kubectl get -n {namespace} gateway/{gateway} -o {path})")
        await self._with_port()
        return await self.url()

    async def _with_port(self) -> None:
        """Where port 80 was refused the page tells to add the port to the address."""
        low = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        if os.geteuid() != 0 and low > 80:
            await self.say("URL=$URL:8080")


@asynccontextmanager
async def page(place: Place, name: str) -> AsyncIterator[Reader]:
    async with Shell(ROOT, place.env) as shell:
        yield Reader(shell, pasted((PAGES / name).read_text()))


def counts(output: str) -> dict[str, int]:
    """``uniq -c`` of models."""
    return {model: int(number) for number, model in COUNTED.findall(output)}


async def eventually(reader: Reader, command: str, wanted: Callable[[str], object]) -> None:
    """Until a command says something that is as wanted."""
    said = ""
    try:
        async with asyncio.timeout(BLOCK_SECONDS_MAX):
            while not wanted(said := await reader.say(command)):
                never = asyncio.Event()
                waiting = asyncio.wait_for(never.wait(), READ_AGAIN_SECONDS)
                await asyncio.gather(waiting, return_exceptions=True)
    except TimeoutError:
        raise AssertionError(f"{command!r} last said: {said}") from None


def holds(text: str) -> Callable[[str], object]:
    """Whether an output holds a regular expression."""
    return re.compile(text, re.MULTILINE).search


V1, V2 = "Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-3B-Instruct"


async def test_canary_of_a_base_model(place: Place) -> None:
    async with page(place, "canary-base-model.md") as reader:
        seen = counts(await reader.through("uniq -c"))
        assert sum(seen.values()) == 100
        # Six standard deviations and more of a hundred draws at one tenth.
        assert 70 < seen[V1] < 100
        assert '"model":"chat"' in await reader.through('"prompt"')
        split = "for i in $(seq 60); do curl -s $URL/v1/models; echo; done"
        split += ' | grep -o \'"root": *"[^"]*"\' | sort | uniq -c'
        async with load(await reader.url(), "chat") as clients:
            await reader.through('"value": 50')
            await clients.more(30)
            half = counts(await reader.say(split))
            assert min(half[V1], half[V2]) > 5
            await reader.through('"value": 100')
            await eventually(reader, split, lambda said: counts(said) == {V2: 60})
            await clients.more(30)
            await reader.through("helm uninstall")
            await clients.more(30)
        await reader.end()


async def test_other_servers_prefill(place: Place) -> None:
    async with page(place, "prefill-decode.md") as reader:
        said = await reader.through("disagg_decision_total")
        counted = dict(re.findall(r'decision_type="([^"]+)".*} (\S+)$', said, re.MULTILINE))
        assert counted == {"prefill-decode": "5.0", "decode-only": "5.0"}, said
        await reader.end()


async def test_canary_of_an_adapter(place: Place) -> None:
    async with page(place, "canary-adapter.md") as reader:
        await reader.through("URL=")
        url = await reader.url()
        async with load(url, "summary") as clients:
            versions = next(block for block in reader.blocks if "uniq -c" in block)
            seen = counts(await reader.through("uniq -c"))
            assert sum(seen.values()) == 100
            assert 70 < seen["summary-v1"] < 100
            await reader.through('"value": 50')
            before = clients.models.copy()
            await clients.more(100)
            grown = clients.models - before
            assert grown["summary-v2"] > 15
            await reader.through('"op": "remove"')
            await eventually(reader, versions, lambda said: counts(said) == {"summary-v2": 100})
            await clients.more(CLIENTS)
            before = clients.models.copy()
            await clients.more(50)
            assert set(clients.models - before) == {"summary-v2"}
        # By its own name each version is there, and a chat is rewritten as a completion is.
        async with aiohttp.ClientSession() as session:
            for asked, wanted in (("summary-v1", "summary-v1"), ("summary", "summary-v2")):
                body = {
                    "messages": [{"role": "user", "content": 'say "model": "summary"'}],
                    "model": asked,
                    "max_tokens": 3,
                }
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    assert (await answer.json())["model"] == wanted
        await reader.end()


METRICS = "curl -s localhost:9090/metrics"


async def test_blue_green(place: Place) -> None:
    async with page(place, "blue-green.md") as reader:
        assert V1 in await reader.through("URL=")
        async with load(await reader.url(), "chat") as clients:
            await reader.through('"colour": "green"')
            assert V2 in await reader.through("grep -q 3B")
            await clients.more(50)
            await reader.through('"colour": "blue"')
            await eventually(reader, "curl -s $URL/v1/models", holds(V1))
            await clients.more(50)
            await reader.through("--replicas=0")
            await clients.more(50)
        await reader.end()


async def test_scale_out_and_in(place: Place) -> None:
    async with page(place, "scale-out-and-in.md") as reader:
        await reader.through('"prompt"')
        async with load(await reader.url(), "chat") as clients:
            await reader.through("--replicas=3")
            await clients.more(100)
            await reader.through("--replicas=1")
            await clients.more(100)
        await reader.end()


async def test_scale_from_zero(place: Place) -> None:
    async with page(place, "scale-from-zero.md") as reader:
        refused = await reader.through("curl -si")
        assert "503 Service Unavailable" in refused
        assert "retry-after: 1" in refused
        assert '"code":"no_endpoint"' in refused
        assert "held_requests" in await reader.through("grep '^inferway_pool")
        metrics = await reader.say(METRICS)
        triggers = written("scale-from-zero/scaled-object.yaml")["spec"]["triggers"]
        query = triggers[0]["metadata"]["query"]
        name, pool = re.findall(r'sum\((\w+)\{pool="(.*)"\}\)', query)[0]
        assert re.search(rf'^{name}{{.*pool="{pool}"}} 1.0$', metrics, re.MULTILINE)
        answer = await reader.through("--replicas=1")
        found = answer[answer.index("{") : answer.rindex("}") + 1]
        assert json.loads(found)["model"] == "rare"
        # Back to nothing under load: whoever comes then waits again, and nobody fails.
        async with load(await reader.url(), "rare") as clients:
            await clients.more(20)
            await reader.say("kubectl scale -n zero deployment/rare --replicas=0")
            await eventually(reader, METRICS, holds(r"held_requests\{.*\} [1-9]"))
            await reader.say("kubectl scale -n zero deployment/rare --replicas=2")
            await clients.more(20)
        # Waiting has an end.
        await reader.say("kubectl scale -n zero deployment/rare --replicas=0")
        await reader.say(
            "kubectl annotate -n zero inferencepool rare --overwrite inferway.dev/hold-timeout=1s"
        )
        await eventually(reader, METRICS, holds(r"pool_ready_endpoints\{.*\} 0.0"))
        ask = """curl -si $URL/v1/completions -d '{"model": "rare", "prompt": "x"}'"""
        await eventually(reader, ask, holds("no ready endpoint for 1"))
        assert "retry-after: 5" in await reader.say(ask)
        await reader.end()


async def test_autoscale(place: Place) -> None:
    async with page(place, "autoscale.md") as reader:
        metrics = await reader.through("grep -E")
        await reader.through("hpa chat")
        metric = written("autoscale/hpa.yaml")["spec"]["metrics"][0]["external"]["metric"]
        labels = metric["selector"]["matchLabels"]
        assert f'{metric["name"]}{{name="{labels["name"]}",pool="autoscale/chat"}} 0.0' in metrics
        async with load(await reader.url_of("autoscale", "chat"), "chat") as clients:
            await clients.more(20)
        await reader.end()


def shown(name: str) -> list[object]:
    """The YAML that a page shows."""
    text = (PAGES / name).read_text()
    return [yaml.safe_load(block) for info, block in fenced(text) if info == "yaml"]


def written(name: str) -> Any:
    return yaml.safe_load((ROOT / "examples" / name).read_text())


def test_pages_show_what_the_files_say() -> None:
    assert shown("canary-adapter.md") == [written("canary-adapter/rewrite.yaml")]
    assert shown("autoscale.md") == [
        written("autoscale/prometheus-adapter-values.yaml"),
        {"triggers": written("autoscale/scaled-object.yaml")["spec"]["triggers"]},
    ]


def test_the_scaler_is_what_a_cluster_takes() -> None:
    kubernetes_validate.validate(written("autoscale/hpa.yaml"), "1.37", strict=True)
