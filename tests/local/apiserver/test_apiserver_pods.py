"""Logs and port forwarding: what goes through the server to a node and to a Pod."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from apiserver_rig import PODS, Rig, pod

MERGE = "application/merge-patch+json"
WAIT_SECONDS_MAX = 15


@asynccontextmanager
async def kubelet(rig: Rig, asked: list[str]) -> AsyncIterator[None]:
    """A node that answers for logs over TLS, with the server's own certificate as any would do."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.path_qs)
        transport = request.transport
        assert transport is not None
        assert transport.get_extra_info("peercert"), "the server shows a client certificate"
        if request.path.endswith("/starting"):
            return web.Response(status=400, text='container "starting" is waiting to start')
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\n")
        await response.write(b"two\n")
        return response

    folder = rig.server.options.state / "pki"
    context = web_context(folder)
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}}
    await rig.ok("POST", "/api/v1/nodes", node)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await rig.ok("PATCH", "/api/v1/nodes/n1/status", {"status": status}, media=MERGE)
    try:
        yield
    finally:
        await runner.cleanup()


def web_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "serving.crt", folder / "serving.key")
    context.load_verify_locations(cafile=str(folder / "ca.crt"))
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def bound_pod(rig: Rig, name: str, *containers: str) -> None:
    body = pod(name)
    body["spec"]["containers"] = [{"name": c, "image": "x"} for c in containers]
    await rig.ok("POST", PODS, body)
    binding = {"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}}
    await rig.ok("POST", f"{PODS}/{name}/binding", binding)


async def test_logs_come_from_the_node(rig: Rig) -> None:
    asked: list[str] = []
    async with kubelet(rig, asked):
        await bound_pod(rig, "a", "main")
        answer = await rig.call("GET", f"{PODS}/a/log?tailLines=5&follow=true&timestamps=true")
        assert (answer.status, answer.body) == (200, b"one\ntwo\n")
        assert asked == ["/containerLogs/default/a/main?tailLines=5&follow=true&timestamps=true"]


async def test_the_node_s_refusal_is_passed_on(rig: Rig) -> None:
    async with kubelet(rig, []):
        await bound_pod(rig, "a", "starting")
        answer = await rig.call("GET", f"{PODS}/a/log")
        assert (answer.status, answer.body["reason"]) == (400, "BadRequest")
        assert answer.message == 'container "starting" is waiting to start'


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("", 400, "a container name must be specified for pod two, choose one of: [x y]"),
        ("?container=z", 400, "container z is not valid for pod two"),
        ("?container=x&tailLines=many", 400, "invalid value for tailLines"),
        ("?container=x&colour=red", 400, 'unknown parameter of logs: "colour"'),
        ("?container=x", 400, "pod two does not have a host assigned"),
    ],
)
async def test_logs_that_can_not_be(rig: Rig, query: str, code: int, message: str) -> None:
    body = pod("two")
    body["spec"]["containers"] = [{"name": c, "image": "i"} for c in ("x", "y")]
    await rig.ok("POST", PODS, body)
    answer = await rig.call("GET", f"{PODS}/two/log{query}")
    assert answer.status == code
    assert answer.message.startswith(message)


async def test_a_node_that_is_away_is_named(rig: Rig) -> None:
    async with kubelet(rig, []):
        await bound_pod(rig, "a", "main")
    answer = await rig.call("GET", f"{PODS}/a/log")
    assert answer.status == 500
    assert 'the node "n1" can not be asked for logs' in answer.message


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.slow
async def test_kubectl_forwards_ports(rig: Rig, kubectl: Path) -> None:
    await rig.ok("POST", PODS, pod("a"))
    status = {"status": {"phase": "Running", "podIP": "127.0.0.1"}}
    await rig.ok("PATCH", f"{PODS}/a/status", status, media=MERGE)
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(kubectl),
        "--kubeconfig",
        str(rig.server.kubeconfig),
        "port-forward",
        "--address=127.0.0.1",
        "pod/a",
        f":{port}",
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            line = (await process.stdout.readline()).decode()
            local = int(line.split(" -> ")[0].rsplit(":", 1)[1])
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                sent = bytes(range(256)) * 2000
                writer.write(sent)
                writer.write_eof()
                assert await reader.read() == sent
                writer.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        server.close()


async def test_older_forms_of_port_forwarding_get_a_status(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a"))
    answer = await rig.call("GET", f"{PODS}/a/portforward")
    assert "pod is not running. Current status=Pending" in answer.message
    status = {"status": {"phase": "Running", "podIP": "127.0.0.1"}}
    await rig.ok("PATCH", f"{PODS}/a/status", status, media=MERGE)
    answer = await rig.call("POST", f"{PODS}/a/portforward", Upgrade="SPDY/3.1")
    assert answer.status == 400
    assert "over WebSocket" in answer.message


@pytest.mark.parametrize("name", ["exec", "attach", "proxy", "ephemeralcontainers"])
async def test_subresources_that_are_not_there_say_so(rig: Rig, name: str) -> None:
    await rig.ok("POST", PODS, pod("a"))
    answer = await rig.call("POST", f"{PODS}/a/{name}", {})
    assert answer.status == 405
    assert answer.message == f"pods/{name} is not supported by the local API server"


async def test_evictions_ask_the_budget(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a", labels={"app": "x"}))
    status = {"status": {"phase": "Running"}}
    await rig.ok("PATCH", f"{PODS}/a/status", status, media=MERGE)
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}},
    }
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    await rig.ok("POST", budgets, budget)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    refused = await rig.call("POST", f"{PODS}/a/eviction", eviction)
    assert (refused.status, refused.body["reason"]) == (429, "TooManyRequests")
    allowed = {"status": {"disruptionsAllowed": 1}}
    await rig.ok("PATCH", f"{budgets}/b/status", allowed, media=MERGE)
    await rig.ok("POST", f"{PODS}/a/eviction", eviction)
    assert (await rig.call("GET", f"{PODS}/a")).status == 404


async def test_a_pod_needs_its_account(rig: Rig) -> None:
    body = pod("a")
    body["spec"]["serviceAccountName"] = "nobody"
    answer = await rig.call("POST", PODS, body)
    assert answer.status == 403
    assert answer.message == (
        'pods "a" is forbidden: error looking up service account default/nobody: serviceaccount '
        '"nobody" not found'
    )
