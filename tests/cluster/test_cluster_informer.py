"""Informers against scripted lists and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cluster_fakes import ScriptedServer, pod, pod_list, status

from inferway.api.resources import PODS
from inferway.cluster.backoff import Backoff
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key, by_label

QUICK = Backoff(base_seconds=0.001, cap_seconds=0.01)


class Watched:
    """An informer at work, with the keys that it called back."""

    def __init__(self, informer: Informer[Any]) -> None:
        self.informer = informer
        self.keys: list[str] = []
        self._changed = asyncio.Condition()
        self._event = asyncio.Event()
        informer.subscribe(self._note)

    def _note(self, key: Key) -> None:
        self.keys.append(key.name)
        self._event.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(3):
            while not true():
                self._event.clear()
                await self._event.wait()

    @property
    def names(self) -> list[str]:
        return sorted(key.name for key in self.informer.store)


@asynccontextmanager
async def running(client: KubeClient, **options: Any) -> AsyncIterator[Watched]:
    watched = Watched(Informer(client, PODS, backoff=QUICK, jitter=lambda: 0.5, **options))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watched.informer.run())
        yield watched
        task.cancel()


def event(kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": obj}


async def test_list_then_watch(server: ScriptedServer, client: KubeClient) -> None:
    server.lists = [pod_list(5, pod("a", 1))]
    async with running(client) as watched:
        await watched.informer.synced.wait()
        assert watched.names == ["a"]
        script = await server.watches.get()
        await script.put(event("ADDED", pod("b", 6)))
        await script.put(event("MODIFIED", pod("a", 7, x="y")))
        await script.put(event("DELETED", pod("b", 8)))
        await watched.until(lambda: watched.keys == ["a", "b", "a", "b"])
        assert watched.names == ["a"]
        assert watched.informer.store[Key("default", "a")]["metadata"]["labels"] == {"x": "y"}


async def test_a_broken_watch_goes_on_where_it_was(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [pod_list(5)]
    async with running(client) as watched:
        script = await server.watches.get()
        await script.put(event("ADDED", pod("a", 6)))
        await script.put(event("BOOKMARK", {"metadata": {"resourceVersion": "20"}}))
        await watched.until(lambda: watched.names == ["a"])
        await script.put("cut")
        script = await server.watches.get()
        await script.put(event("ADDED", pod("b", 21)))
        await watched.until(lambda: watched.names == ["a", "b"])
        assert [q["resourceVersion"] for q in server.watch_queries()] == ["5", "20"]


async def test_gone_means_a_new_list_and_equal_values_are_no_change(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [
        pod_list(5, pod("a", 1), pod("b", 2)),
        pod_list(30, pod("a", 1), pod("c", 25)),
    ]
    async with running(client) as watched:
        script = await server.watches.get()
        assert watched.keys == ["a", "b"]
        await script.put(event("ERROR", status(410, "Expired", "too old resource version")))
        await watched.until(lambda: watched.names == ["a", "c"])
        assert watched.keys == ["a", "b", "b", "c"]
        await server.watches.get()
        assert server.watch_queries()[-1]["resourceVersion"] == "30"


async def test_errors_of_the_list_are_repeated(server: ScriptedServer, client: KubeClient) -> None:
    server.lists = [status(500, "InternalError", "not yet"), pod_list(5, pod("a", 1))]
    async with running(client) as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 3)
        assert watched.names == ["a"]
        assert watched.informer.last_error is None


async def test_an_optional_kind_may_be_missing(server: ScriptedServer, client: KubeClient) -> None:
    server.lists = [status(404, "NotFound", "no such kind"), pod_list(5, pod("a", 1))]
    async with running(client, optional=True) as watched:
        await asyncio.wait_for(watched.informer.synced.wait(), 3)
        await watched.until(lambda: watched.names == ["a"])


async def test_an_object_that_can_not_be_decoded_is_absent(
    server: ScriptedServer, client: KubeClient
) -> None:
    def decode(raw: dict[str, Any]) -> str:
        if raw["metadata"]["name"] == "bad":
            raise ValueError("spec.x: wrong")
        return str(raw["metadata"]["labels"].get("v"))

    server.lists = [pod_list(5, pod("bad", 1), pod("good", 2, v="1"))]
    async with running(client, decode=decode) as watched:
        script = await server.watches.get()
        assert dict(watched.informer.store) == {Key("default", "good"): "1"}
        assert watched.informer.broken == {Key("default", "bad"): "spec.x: wrong"}
        # The decoded value is equal, so nobody is called.
        await script.put(event("MODIFIED", pod("good", 6, v="1", w="2")))
        await script.put(event("MODIFIED", pod("good", 7, v="2")))
        await watched.until(lambda: watched.keys == ["good", "good"])


async def test_own_writes_are_seen_at_once_and_the_stream_wins(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [pod_list(5, pod("a", 1)), pod_list(8)]
    async with running(client, indexers={"app": by_label("app")}) as watched:
        script = await server.watches.get()
        informer = watched.informer
        informer.absorb(pod("mine", 9, app="x"))
        assert watched.names == ["a", "mine"]
        assert len(informer.store.by("app", ("default", "x"))) == 1
        informer.absorb(pod("old", 4))
        assert watched.names == ["a", "mine"]
        # A list that is older than the write does not undo it.
        await script.put(event("ERROR", status(410, "Gone", "")))
        script = await server.watches.get()
        assert watched.names == ["mine"]
        await script.put(event("ADDED", pod("mine", 9, app="x")))
        await script.put(event("DELETED", pod("mine", 10, app="x")))
        await watched.until(lambda: watched.names == [])
        assert watched.keys == ["a", "mine", "a", "mine"]
        informer.absorb(pod("mine", 9, app="x"))
        assert watched.names == []
        assert informer.store.by("app", ("default", "x")) == []


async def test_an_own_delete_is_not_undone_by_what_was_on_its_way(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [pod_list(5, pod("a", 1))]
    async with running(client) as watched:
        script = await server.watches.get()
        watched.informer.forget(Key("default", "a"), "uid-other")
        assert watched.names == ["a"]
        watched.informer.forget(Key("default", "a"), "uid-a")
        await script.put(event("MODIFIED", pod("a", 6)))
        await script.put(event("DELETED", pod("a", 7)))
        await script.put(event("ADDED", pod("a", 8, uid="uid-new")))
        await watched.until(lambda: watched.names == ["a"])
        assert watched.keys == ["a", "a", "a"]


async def test_a_late_subscriber_gets_what_is_there(
    server: ScriptedServer, client: KubeClient
) -> None:
    server.lists = [pod_list(5, pod("a", 1), pod("b", 2))]
    async with running(client) as watched:
        await watched.informer.synced.wait()
        late: list[str] = []
        watched.informer.subscribe(lambda key: late.append(key.name))
        assert late == ["a", "b"]


def test_backoff_grows_to_its_cap() -> None:
    backoff = Backoff(base_seconds=1, cap_seconds=10, spread=0.5)
    assert [backoff.seconds(n, lambda: 0.0) for n in (1, 2, 3, 4, 5, 500)] == [1, 2, 4, 8, 10, 10]
    assert backoff.seconds(1, lambda: 1.0) == pytest.approx(0.5)
