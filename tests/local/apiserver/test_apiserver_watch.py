"""Watches: order, selectors, bookmarks, compaction, speed of an idle server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from apiserver_rig import CONFIG_MAPS, PODS, Rig, config_map, pod, running

from inferway.local.apiserver.storage.store import StoreLimits


async def test_a_watch_continues_a_list(rig: Rig) -> None:
    listed = await rig.ok("GET", CONFIG_MAPS)
    version = listed["metadata"]["resourceVersion"]
    await rig.ok("POST", CONFIG_MAPS, config_map("a"))
    async with rig.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}") as events:
        first = await anext(events)
        await rig.ok("PUT", f"{CONFIG_MAPS}/a", config_map("a", {"x": "1"}))
        second = await anext(events)
        await rig.ok("DELETE", f"{CONFIG_MAPS}/a")
        third = await anext(events)
    seen = [(e["type"], e["object"]["metadata"]["name"]) for e in (first, second, third)]
    assert seen == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in (first, second, third)]
    assert versions == sorted(versions)


async def test_objects_come_into_view_and_leave_it(rig: Rig) -> None:
    version = (await rig.ok("GET", PODS))["metadata"]["resourceVersion"]
    query = f"watch=1&resourceVersion={version}&labelSelector=app%3Dx"
    merge = "application/merge-patch+json"
    async with rig.watch(f"{PODS}?{query}") as events:
        await rig.ok("POST", PODS, pod("a"))
        for value in ("x", None):
            change = {"metadata": {"labels": {"app": value}}}
            await rig.ok("PATCH", f"{PODS}/a", change, media=merge)
        assert [(await anext(events))["type"] for _ in range(2)] == ["ADDED", "DELETED"]


async def test_a_watch_list_ends_its_first_part_with_a_bookmark(rig: Rig) -> None:
    await rig.ok("POST", CONFIG_MAPS, config_map("a"))
    query = (
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    )
    async with rig.watch(f"{CONFIG_MAPS}?{query}") as events:
        names = []
        async for event in events:
            if event["type"] == "BOOKMARK":
                annotations = event["object"]["metadata"]["annotations"]
                assert annotations == {"k8s.io/initial-events-end": "true"}
                break
            names.append(event["object"]["metadata"]["name"])
    assert names == ["a", "kube-root-ca.crt"]


@pytest.mark.slow
async def test_a_timeout_ends_the_watch_with_a_bookmark(rig: Rig) -> None:
    version = rig.server.revision
    query = f"watch=1&resourceVersion={version}&timeoutSeconds=1&allowWatchBookmarks=true"
    async with rig.watch(f"{CONFIG_MAPS}?{query}") as events:
        seen = [event["type"] async for event in events]
    assert seen == ["BOOKMARK"]


async def test_a_revision_that_left_the_log_is_gone(tmp_path: Path) -> None:
    limits = StoreLimits(log_revisions_max=8)
    async with running(tmp_path, limits=limits) as rig:
        listed = await rig.ok("GET", f"{CONFIG_MAPS}?limit=1")
        for number in range(20):
            await rig.ok("POST", CONFIG_MAPS, config_map(f"m{number}"))
        version = listed["metadata"]["resourceVersion"]
        async with rig.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}") as events:
            event = await anext(events)
        assert event["type"] == "ERROR"
        assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_a_watcher_that_leaves_is_forgotten(rig: Rig) -> None:
    version = rig.server.revision
    async with rig.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion={version}"):
        assert rig.server.watches == 1
    async with asyncio.timeout(5):
        while rig.server.watches:
            await rig.ok("GET", "/version")


async def test_a_watch_of_a_future_revision_says_so(rig: Rig) -> None:
    async with rig.watch(f"{CONFIG_MAPS}?watch=1&resourceVersion=999999") as events:
        event = await anext(events)
    assert event["object"]["message"].startswith("Too large resource version: 999999")
