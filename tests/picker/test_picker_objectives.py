"""InferenceObjectives: priorities of both groups, what is said about them, beside a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from test_picker_process import DEADLINE_SECONDS

from inferway.api.inference import INFERENCE_GROUP, LEGACY_GROUP, LLM_D_GROUP
from inferway.api.resources import INFERENCE_OBJECTIVES, LEGACY_INFERENCE_OBJECTIVES
from inferway.base.clock import SystemClock
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.picker.objectives import ObjectiveWatcher, decode_objective, priorities_of


def objective(called: str, priority: int | None = None, **ref: str) -> Any:
    spec: dict[str, Any] = {"poolRef": {"name": "p", **ref}}
    if priority is not None:
        spec["priority"] = priority
    return {
        "apiVersion": f"{LLM_D_GROUP}/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": called, "namespace": "default"},
        "spec": spec,
    }


def priorities(*objects: tuple[str, Any], group: str = INFERENCE_GROUP) -> dict[str, int]:
    return priorities_of([(g, decode_objective(one)) for g, one in objects], "p", group)[0]


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        ([], {}),
        ([(LLM_D_GROUP, objective("gold", 10))], {"gold": 10}),
        ([(LEGACY_GROUP, objective("low", -5))], {"low": -5}),
        ([(LLM_D_GROUP, objective("unset"))], {"unset": 0}),
        ([(LLM_D_GROUP, objective("zero", 0))], {"zero": 0}),
        ([(LLM_D_GROUP, objective("other", 1, name="q"))], {}),
        ([(LLM_D_GROUP, objective("kind", 1, kind="Service"))], {}),
        ([(LLM_D_GROUP, objective("group", 1, group="example.com"))], {}),
        ([(LLM_D_GROUP, objective("empty") | {"spec": None})], {}),
        (
            [(LEGACY_GROUP, objective("gold", 1)), (LLM_D_GROUP, objective("gold", 2))],
            {"gold": 2},
        ),
    ],
)
def test_priorities(objects: list[tuple[str, Any]], wanted: dict[str, int]) -> None:
    assert priorities(*objects) == wanted


def test_a_pool_of_the_older_group_is_meant_by_its_group_or_by_none() -> None:
    named = (LEGACY_GROUP, objective("a", 1, group=LEGACY_GROUP))
    unnamed = (LEGACY_GROUP, objective("b", 2))
    assert priorities(named, unnamed, group=LEGACY_GROUP) == {"a": 1, "b": 2}
    assert priorities(named, unnamed) == {"b": 2}


def test_the_loser_of_two_names_is_told() -> None:
    objects = [(LEGACY_GROUP, objective("gold", 1)), (LLM_D_GROUP, objective("gold", 2))]
    _, verdicts = priorities_of([(g, decode_objective(o)) for g, o in objects], "p", "")
    assert not verdicts[LLM_D_GROUP, "gold"]
    (complaint,) = verdicts[LEGACY_GROUP, "gold"]
    assert "llm-d.ai counts instead" in complaint.text


class Told:
    def __init__(self) -> None:
        self.found: dict[str, int] = {}
        self.changed = asyncio.Event()

    def apply(self, found: dict[str, int]) -> None:
        self.found = found
        self.changed.set()

    async def until(self, wanted: dict[str, int]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.found != wanted:
                self.changed.clear()
                await self.changed.wait()


async def written(client: KubeClient, name: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        events = client.watch(INFERENCE_OBJECTIVES, namespace="default", resource_version="0")
        async for event in events:
            conditions = event.object.get("status", {}).get("conditions", [])
            found = {one["type"]: one["status"] for one in conditions}
            if event.object["metadata"]["name"] == name and "Accepted" in found:
                return found
    raise AssertionError("the watch ended")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning")
async def test_both_groups_are_followed_and_answered(tmp_path: Path) -> None:
    told = Told()
    async with (
        ApiServer(ApiServerOptions(state=tmp_path, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        key = Key("default", "p")
        watcher = ObjectiveWatcher(client, key, INFERENCE_GROUP, told.apply, SystemClock())
        work = tasks.create_task(watcher.run())
        await watcher.synced.wait()
        await client.create(INFERENCE_OBJECTIVES, objective("gold", 7))
        await told.until({"gold": 7})
        old = objective("low", -1) | {"apiVersion": f"{LEGACY_GROUP}/v1alpha2"}
        await client.create(LEGACY_INFERENCE_OBJECTIVES, old)
        await told.until({"gold": 7, "low": -1})
        assert await written(client, "gold") == {"Accepted": "True", "Ready": "True"}
        await client.patch(INFERENCE_OBJECTIVES, "gold", {"spec": {"priority": 8}}, "default")
        await told.until({"gold": 8, "low": -1})
        await client.delete(INFERENCE_OBJECTIVES, "gold", "default")
        await told.until({"low": -1})
        work.cancel()
