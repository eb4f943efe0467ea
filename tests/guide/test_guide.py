"""The published guide and our tutorial of it, pasted into a shell against an empty stack.

Method: blocks are taken from the text, sources on the internet are replaced by files and charts
of this repository, and the answers are compared with what the guide promises. The probes of the
guide wait 180 s before their first look; that number alone is shortened, unless
INFERWAY_GUIDE_EXACT=1 (``make test-guide-exact``).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from commands import Shell, pasted, replaced
from harness import Stack, start
from test_guide_files import SOURCES

EXACT = os.environ.get("INFERWAY_GUIDE_EXACT") == "1"
# The guide's own delay of 180 s, a start of a server and some room.
READY_SECONDS_MAX = 300 if EXACT else 60
STEP_SECONDS_MAX = 90
pytestmark = [pytest.mark.stack, pytest.mark.timeout(900 if EXACT else 300)]

BUNDLE = (
    "https://github.com/kubernetes-sigs/gateway-api-inference-extension"
    "/releases/download/v1.1.0/manifests.yaml"
)
KINDS = (
    "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
    "clusterroles,clusterrolebindings,gateways,httproutes,inferencepools,gatewayclasses"
)
POOL = "vllm-llama3-8b-instruct"
READ_AGAIN_SECONDS = 0.25


def shortened(text: str) -> str:
    """The text with the probes' first look soon, unless the exact guide is asked for."""
    if EXACT:
        return text
    return text.replace("initialDelaySeconds: 180", "initialDelaySeconds: 1")


@asynccontextmanager
async def empty_stack(folder: Path, root: Path, tools: list[Path]) -> AsyncIterator[Shell]:
    """A shell in the root of the project beside an empty cluster."""
    stack: Stack = start(folder / "state", "--empty", "--node-capacity", "cpu=16,memory=64Gi")
    try:
        await asyncio.to_thread(stack.wait_for, "An empty cluster is up.")
        path = os.pathsep.join([*(str(tool.parent) for tool in tools), os.environ["PATH"]])
        env = {
            "KUBECONFIG": str(stack.kubeconfig),
            "PATH": path,
            "HOME": str(folder),
            "HELM_CACHE_HOME": str(folder / "helm"),
        }
        async with Shell(root, env) as shell:
            yield shell
    finally:
        if stack.process.poll() is None:
            await asyncio.to_thread(stack.stop)


async def eventually(shell: Shell, command: str, wanted: str) -> str:
    """The output of a command once it holds the wanted text."""
    output = ""
    try:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while wanted not in output:
                output = (await shell.paste(command, seconds=STEP_SECONDS_MAX)).output
                await _pause()
    except TimeoutError:
        raise AssertionError(f"{command!r} never said {wanted!r}; last: {output}") from None
    return output


async def _pause() -> None:
    """Lets other work run for a moment between two looks."""
    never = asyncio.Event()
    with_deadline = asyncio.wait_for(never.wait(), READ_AGAIN_SECONDS)
    await asyncio.gather(with_deadline, return_exceptions=True)


async def everything(shell: Shell) -> set[str]:
    """Names of all objects that a user may have made."""
    listed = await shell.paste(f"kubectl get {KINDS} -A -o name", seconds=STEP_SECONDS_MAX)
    return set(listed.succeeded().split())


async def ready(shell: Shell) -> None:
    """Waits as the guide tells its reader to, by what the cluster says."""
    for words in (
        "gateway/inference-gateway --for=condition=Programmed --timeout=60s",
        f"deployment/{POOL}-epp --for=condition=Available --timeout=60s",
        f"deployment/{POOL} --for=condition=Available --timeout={READY_SECONDS_MAX}s",
    ):
        outcome = await shell.paste(f"kubectl wait {words}", seconds=READY_SECONDS_MAX + 10)
        if outcome.code:
            seen = await shell.paste(
                "kubectl get pods,gateways -A -o wide; kubectl get events -A", seconds=30
            )
            raise AssertionError(f"{outcome.output}\n{seen.output}")


def port(block: str, moved: bool) -> str:
    """The block with the port that an ordinary user gets where 80 is refused."""
    return block.replace("PORT=80\n", "PORT=8080\n") if moved else block


async def port_is_moved(shell: Shell) -> bool:
    """Whether the Gateway says that it listens elsewhere than on the port of its listener."""
    query = r"""-o jsonpath='{.status.conditions[?(@.type=="Programmed")].message}'"""
    told = await shell.paste(f"kubectl get gateway/inference-gateway {query}", seconds=30)
    return "8080" in told.succeeded()


def check_answer(output: str) -> None:
    """The answer has the shape of the one that the guide shows."""
    text = output.replace("\r", "")
    head, _, body = text[text.index("HTTP/1.1") :].partition("\n\n")
    lines = head.splitlines()
    assert lines[0] == "HTTP/1.1 200 OK", text
    assert "x-went-into-resp-headers: true" in lines
    assert "content-type: application/json" in lines
    answer = json.loads(body.splitlines()[0])
    assert answer["object"] == "text_completion"
    assert answer["model"] == "Qwen/Qwen2.5-1.5B-Instruct"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 100
    assert answer["usage"]["prompt_tokens"] == 10
    assert answer["usage"]["total_tokens"] == 110


async def test_the_guide_as_published(
    tmp_path: Path,
    root: Path,
    published: str,
    inference_crds: Path,
    kubectl: Path,
    helm: Path,
) -> None:
    blocks = [
        shortened(replaced(block, SOURCES | {BUNDLE: str(inference_crds)}))
        for block in pasted(published)
    ]
    async with empty_stack(tmp_path, root, [kubectl, helm]) as shell:
        before = await everything(shell)
        for block in blocks:
            if "IP=$(" in block:
                await ready(shell)
                block = port(block, await port_is_moved(shell))
            outcome = await shell.paste(block, seconds=STEP_SECONDS_MAX)
            outcome.succeeded()
        check_answer(outcome.output)
        models = "curl -s ${IP}:${PORT}/v1/models"
        for adapter in ("food-review-0", "food-review-1", "food-review", "cad-fabricator"):
            await eventually(shell, models, f'"{adapter}"')
        applied = [block for block in blocks if "kubectl apply -f - <<EOF" in block]
        assert len(applied) == 2
        for block in reversed(applied):
            taken = block.replace("kubectl apply -f -", "kubectl delete -f -")
            (await shell.paste(taken, seconds=STEP_SECONDS_MAX)).succeeded()
        await take_releases_away(shell)
        await nothing_is_left(shell, before)


async def take_releases_away(shell: Shell) -> None:
    listed = (await shell.paste("helm list -A", seconds=30)).succeeded()
    for release in (POOL, "kgateway", "kgateway-crds"):
        assert re.search(rf"^{release}\s.*deployed", listed, re.MULTILINE), listed
    for words in (POOL, "-n kgateway-system kgateway", "-n kgateway-system kgateway-crds"):
        (await shell.paste(f"helm uninstall {words}", seconds=STEP_SECONDS_MAX)).succeeded()


async def nothing_is_left(shell: Shell, before: set[str]) -> None:
    """Waits for the collection of what belonged to the deleted objects."""
    left: set[str] = set()
    # Every namespace has these; the guide's own namespace stays, as Helm leaves it.
    kept = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
    try:
        async with asyncio.timeout(STEP_SECONDS_MAX):
            while left := await everything(shell) - before - kept:
                await _pause()
    except TimeoutError:
        raise AssertionError(f"left behind: {sorted(left)}") from None


async def test_the_tutorial(tmp_path: Path, root: Path, kubectl: Path, helm: Path) -> None:
    markdown = (root / "docs" / "tutorial" / "guide.md").read_text()
    server = "examples/guide/1-model-server.yaml"
    short = tmp_path / "1-model-server.yaml"
    short.write_text(shortened((root / server).read_text()))
    bundle = root.parent / "shared" / "crds" / "inference-v1.1.0"
    async with empty_stack(tmp_path, root, [kubectl, helm]) as shell:
        before = await everything(shell)
        for block in pasted(markdown):
            if BUNDLE in block and not bundle.is_dir():
                continue  # the kinds are built in, and a test takes nothing from the internet
            if "IP=$(" in block:
                await ready(shell)
                block = port(block, await port_is_moved(shell))
            if "food-review" in block:
                await eventually(shell, "curl -s ${IP}:${PORT}/v1/models", '"food-review"')
            if "helm list" in block:
                await take_apart(shell, replaced(block, {server: str(short)}), before)
                continue
            block = replaced(block, {server: str(short)})
            text = f"INFERENCE_CRDS={bundle}\n{block}" if BUNDLE in block else block
            outcome = await shell.paste(text, seconds=READY_SECONDS_MAX + STEP_SECONDS_MAX)
            outcome.succeeded()
            if "curl -i" in block:
                check_answer(outcome.output)


async def take_apart(shell: Shell, block: str, before: set[str]) -> None:
    outcome = await shell.paste(block, seconds=2 * STEP_SECONDS_MAX)
    assert POOL in outcome.succeeded()
    await nothing_is_left(shell, before)
