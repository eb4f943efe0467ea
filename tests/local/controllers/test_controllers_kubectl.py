"""What kubectl says about rollouts, as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from controllers_stack import Cluster, cluster

from inferway.api.resources import PODS
from inferway.local.controllers import objects as o

pytestmark = [
    pytest.mark.slow,
    # How the server sets its shutdown time is tested in its own room.
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: main, image: v1, resources: {requests: {cpu: 10m}}}]
"""

Kubectl = Callable[..., Awaitable[str]]


def speaking(program: Path, stack: Cluster) -> Kubectl:
    """kubectl against the stack, without blocking the loop that the stack runs in."""

    async def run(*words: str, stdin: str = "") -> str:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--kubeconfig={stack.server.kubeconfig}",
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(stdin.encode()), 20)
        except TimeoutError:
            process.kill()
            output, _ = await process.communicate()
            raise AssertionError(f"kubectl {words} hangs: {output.decode()}") from None
        assert process.returncode == 0, output.decode()
        return output.decode()

    return run


async def test_rollouts(tmp_path: Path, kubectl: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        run = speaking(kubectl, stack)
        await run("apply", "-f", "-", stdin=MANIFEST)
        done = 'deployment "web" successfully rolled out'
        assert done in await run("rollout", "status", "deployment/web", "--timeout=15s")

        await run("set", "image", "deployment/web", "main=v2")
        assert done in await run("rollout", "status", "deployment/web", "--timeout=15s")
        history = await run("rollout", "history", "deployment/web")
        assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["1", "2"]

        await run("rollout", "undo", "deployment/web")
        assert done in await run("rollout", "status", "deployment/web", "--timeout=15s")
        image = "jsonpath={.items[*].spec.containers[0].image}"
        await stack.until(
            "the old Pods gone",
            lambda: len([p for p in stack.live(PODS) if not o.deleting(p)]) == 3,
        )
        assert set((await run("get", "pods", "-o", image)).split()) == {"v1"}

        await run("rollout", "pause", "deployment/web")
        await run("set", "image", "deployment/web", "main=v3")
        await run("scale", "deployment/web", "--replicas=4")
        await stack.until("four Pods", lambda: len(stack.live(PODS)) == 4)
        assert set((await run("get", "pods", "-o", image)).split()) == {"v1"}
        await run("rollout", "resume", "deployment/web")
        await run("wait", "--for=condition=Available", "deployment/web", "--timeout=15s")
        assert done in await run("rollout", "status", "deployment/web", "--timeout=15s")

        described = await run("describe", "deployment/web")
        assert "NewReplicaSetAvailable" in described
        assert "Scaled up replica set" in described
        await run("delete", "deployment", "web", "--cascade=foreground", "--timeout=15s")
        await stack.until("no Pods", lambda: not stack.live(PODS))


async def test_a_namespace_ends_while_kubectl_waits(tmp_path: Path, kubectl: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        run = speaking(kubectl, stack)
        await run("create", "namespace", "shop")
        await run("-n", "shop", "apply", "-f", "-", stdin=MANIFEST)
        await run("-n", "shop", "rollout", "status", "deployment/web", "--timeout=15s")
        await run("delete", "namespace", "shop", "--timeout=15s")
        assert "shop" not in await run("get", "namespaces")
