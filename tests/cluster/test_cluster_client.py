"""The client against a scripted server: paths, errors, pages, tokens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cluster_fakes import ScriptedServer, pod, pod_list, status

from inferway.api.resources import NODES, PODS
from inferway.base.clock import ManualClock
from inferway.cluster import errors
from inferway.cluster.client import KubeClient, PatchType
from inferway.cluster.kubeconfig import ClusterConfig

CASES = [
    (404, "NotFound", errors.NotFoundError),
    (409, "AlreadyExists", errors.AlreadyExistsError),
    (409, "Conflict", errors.ConflictError),
    (410, "Expired", errors.GoneError),
    (403, "Forbidden", errors.ForbiddenError),
    (422, "Invalid", errors.InvalidError),
    (401, "Unauthorized", errors.UnauthorizedError),
    (500, "InternalError", errors.ApiError),
]


@pytest.mark.parametrize(("code", "reason", "kind"), CASES)
async def test_a_status_is_an_error(
    server: ScriptedServer, client: KubeClient, code: int, reason: str, kind: type[Exception]
) -> None:
    server.answers = [(code, status(code, reason, "because"))]
    with pytest.raises(errors.ApiError) as caught:
        await client.get(PODS, "a", "default")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason) == (code, reason)
    assert caught.value.message == "because"


async def test_an_answer_of_something_else_is_an_error(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.answers = [(502, "Bad Gateway"), (200, "hello")]
    with pytest.raises(errors.ApiError, match="Bad Gateway"):
        await client.get(PODS, "a", "default")
    with pytest.raises(errors.BadAnswerError):
        await client.get(PODS, "a", "default")


async def test_requests_have_the_shape_of_kubernetes(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.answers = [(200, pod("a", 1))] * 7
    await client.create(PODS, pod("a", 1))
    await client.update(PODS, pod("a", 1), "status")
    await client.patch(PODS, "a", {"x": 1}, namespace="default", subresource="status")
    await client.patch(PODS, "a", [], "default", patch_type=PatchType.JSON, field_manager="m")
    await client.apply(PODS, {"metadata": {"name": "a", "namespace": "default"}}, "m")
    await client.delete(PODS, "a", "default", grace_seconds=0, uid="u")
    await client.get(NODES, "n")
    seen = [(method, path) for method, path, _, _, _ in server.requests]
    root = "/api/v1/namespaces/default/pods"
    assert seen == [
        ("POST", root),
        ("PUT", f"{root}/a/status"),
        ("PATCH", f"{root}/a/status"),
        ("PATCH", f"{root}/a"),
        ("PATCH", f"{root}/a"),
        ("DELETE", f"{root}/a"),
        ("GET", "/api/v1/nodes/n"),
    ]
    assert [r[4].get("Content-Type") for r in server.requests[2:5]] == [
        "application/merge-patch+json",
        "application/json-patch+json",
        "application/apply-patch+yaml",
    ]
    assert server.requests[4][2] == {"fieldManager": "m", "force": "true"}
    assert server.requests[5][3]["preconditions"] == {"uid": "u"}
    assert server.requests[5][3]["gracePeriodSeconds"] == 0
    assert all(r[4]["Authorization"] == "Bearer secret" for r in server.requests)


async def test_a_list_reads_all_pages(server: ScriptedServer, client: KubeClient) -> None:
    first = pod("a", 1)
    del first["kind"], first["apiVersion"]
    server.lists = [pod_list(7, first, more="next"), pod_list(7, pod("b", 2))]
    found = await client.list(PODS, labels="app=x", fields="status.phase=Running")
    assert [item["metadata"]["name"] for item in found.items] == ["a", "b"]
    assert found.items[0]["kind"] == "Pod"
    assert found.resource_version == "7"
    assert server.requests[1][2]["continue"] == "next"
    assert server.requests[0][2]["labelSelector"] == "app=x"


async def test_a_list_whose_pages_expire_is_read_at_once(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [
        pod_list(7, pod("a", 1), more="next"),
        status(410, "Expired", "too old"),
        pod_list(9, pod("a", 1), pod("b", 8)),
    ]
    found = await client.list(PODS)
    assert len(found.items) == 2
    assert "limit" not in server.requests[2][2]


async def test_a_shed_request_is_repeated(server: ScriptedServer, client: KubeClient) -> None:
    shed = status(429, "TooManyRequests", "later", retryAfterSeconds=0.001)
    server.answers = [(429, shed), (200, pod("a", 1))]
    assert (await client.get(PODS, "a", "default"))["metadata"]["name"] == "a"


async def test_no_server_is_one_clear_error() -> None:
    async with KubeClient(ClusterConfig("http://127.0.0.1:9")) as client:
        with pytest.raises(errors.ServerUnreachableError, match="INFERWAY0708"):
            await client.list(PODS)
        with pytest.raises(errors.ServerUnreachableError):
            async for _ in client.watch(PODS):
                pass


async def test_a_token_file_is_read_again(server: ScriptedServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    clock = ManualClock()
    config = ClusterConfig(server.url, token_file=str(token))
    async with KubeClient(config, clock=clock) as client:
        server.answers = [(200, pod("a", 1)), (200, pod("a", 1)), (200, pod("a", 1))]
        await client.get(PODS, "a", "default")
        token.write_text("two\n")
        await client.get(PODS, "a", "default")
        clock.advance(61)
        await client.get(PODS, "a", "default")
        sent = [request[4]["Authorization"] for request in server.requests]
        assert sent == ["Bearer one", "Bearer one", "Bearer two"]
        token.write_text("three\n")
        server.answers = [(401, status(401, "Unauthorized", "who?")), (200, pod("a", 1))]
        await client.get(PODS, "a", "default")
        assert server.requests[-1][4]["Authorization"] == "Bearer three"


async def test_watch_events_arrive_whatever_the_chunks(
    server: ScriptedServer, client: KubeClient
) -> None:
    stream = client.watch(PODS, resource_version="5")
    first = anext(stream)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(_collect(first, stream))
        script = await server.watches.get()
        await script.put(b'{"type":"ADDED","object":{"metadata":{"name":"a",')
        await script.put(b'"resourceVersion":"6"}}}\n{"type":"BOOKMARK","object":{"metadata"')
        await script.put(b':{"resourceVersion":"9"}}}\n')
        await script.put(None)
    assert [(e.type, e.resource_version) for e in task.result()] == [
        ("ADDED", "6"),
        ("BOOKMARK", "9"),
    ]
    assert server.watch_queries()[0]["resourceVersion"] == "5"
    assert server.watch_queries()[0]["allowWatchBookmarks"] == "true"


async def _collect(first, stream):  # type: ignore[no-untyped-def]
    return [await first, *[event async for event in stream]]


async def test_a_silent_watch_ends(server: ScriptedServer) -> None:
    config = ClusterConfig(server.url)
    async with KubeClient(config, inactivity_seconds=0.05) as client:
        with pytest.raises(errors.ServerUnreachableError):
            async for _ in client.watch(PODS, resource_version="5"):
                pass
