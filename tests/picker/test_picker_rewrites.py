"""InferenceModelRewrites: objects as rules, the watcher beside a real API server, the answers."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from test_picker_process import BASE, DEADLINE_SECONDS, ask, picker_for

from inferway.api.codec import encode
from inferway.api.inference import INFERENCE_GROUP
from inferway.api.resources import INFERENCE_MODEL_REWRITES, LEGACY_INFERENCE_MODEL_REWRITES
from inferway.base.clock import SystemClock
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.picker.rewrites import RESTORE, RewriteWatcher, decode_rewrite, table_of
from inferway.picker.run import Picker
from inferway.picker.verdicts import Complaint, condition
from inferway.scheduling.rewrite import RewriteTable, Target, draw

CANARY = {"id": "canary", "object": "model", "parent": "m"}


def rewrite(name: str, *rules: dict[str, Any], pool: str = "p", **annotations: str) -> Any:
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": name, "namespace": "ns", "annotations": annotations},
        "spec": {"poolRef": {"name": pool}, "rules": list(rules)},
    }


def rule(*models: str, **targets: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {
        "targets": [
            {"modelRewrite": name} | ({} if weight is None else {"weight": weight})
            for name, weight in targets.items()
        ]
    }
    if models:
        made["matches"] = [{"model": {"type": "Exact", "value": model}} for model in models]
    return made


def table(*objects: Any) -> tuple[RewriteTable | None, dict[str, list[Complaint]]]:
    return table_of([decode_rewrite(one) for one in objects], "p", INFERENCE_GROUP)


def test_an_object_as_rules() -> None:
    made, wrong = table(rewrite("r", rule("m", "n", m=90, canary=10), rule(base=None)))
    assert made is not None
    assert made.rule_for("n") is made.rule_for("m")
    assert made.exact["m"].targets == (Target("m", 90), Target("canary", 10))
    assert made.rule_for("anything") == made.generic
    assert wrong == {"r": []}


def test_other_pools_are_left_alone() -> None:
    assert table(rewrite("r", rule("m", x=1), pool="q")) == (None, {})


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (rewrite("r", rule("m", x=1, y=None)), "only some targets have a weight"),
        (rewrite("r", {"targets": [{"modelRewrite": ""}]}), "needs a modelRewrite"),
        (rewrite("r", {"targets": []}), "needs a modelRewrite"),
        (rewrite("r", rule("m", x=1), rule("m", y=1)), "an older rule has m already"),
        (rewrite("r", rule("m", x=1), **{"inferway.dev/sticky-by": "moon"}), "'moon' is none of"),
        (rewrite("r", rule("m", x=1), **{RESTORE: "yes"}), "'yes' is neither true nor false"),
    ],
)
def test_what_is_wrong_is_said(one: Any, said: str) -> None:
    _, wrong = table(one)
    assert said in wrong["r"][0].text
    made = condition(decode_rewrite(one), wrong["r"], "2026-01-01T00:00:00Z")
    assert made is not None
    assert said in made.message
    assert (made.status == "True") is wrong["r"][0].harmless


def apply(picker: Picker, *objects: Any) -> None:
    picker.first.set_rewrites(table(*objects)[0])


async def test_the_answer_says_what_to_cut() -> None:
    async with FakeServer([BASE, CANARY]).serving() as server, picker_for(server.address) as picker:
        apply(picker, rewrite("r", rule("alias", canary=1)))
        status, headers, _ = await ask(picker, b'{"model": "alias", "prompt": "x"}')
        assert (status, headers["x-inferway-splice"]) == (200, '10,17,"canary"')
        status, headers, _ = await ask(picker, {"model": "m", "prompt": "x"})
        assert status == 200
        assert "x-inferway-splice" not in headers


async def test_the_answer_says_which_name_to_put_back() -> None:
    async with FakeServer([BASE, CANARY]).serving() as server, picker_for(server.address) as picker:
        for annotations, prefer, restored in [
            ({}, "", None),
            ({}, "restore-model", '"alias"'),
            ({RESTORE: "true"}, "", '"alias"'),
            ({RESTORE: "false"}, "", None),
        ]:
            apply(picker, rewrite("r", rule("alias", canary=1), **annotations))
            body = {"model": "alias", "prompt": "x"}
            status, headers, _ = await ask(picker, body, prefer=prefer)
            assert (status, headers.get("x-inferway-restore")) == (200, restored)


async def test_shares_and_stickiness() -> None:
    async with FakeServer([BASE, CANARY]).serving() as server, picker_for(server.address) as picker:
        apply(picker, rewrite("r", rule("m", m=50, canary=50)))

        async def target(**headers: str) -> str:
            _, answer, _ = await ask(picker, {"model": "m", "prompt": "x"}, **headers)
            return "canary" if "canary" in answer.get("x-inferway-splice", "") else "m"

        ids = [f"r-{number}" for number in range(20)]
        first = [await target(**{"x-request-id": one}) for one in ids]
        assert [await target(**{"x-request-id": one}) for one in ids] == first
        assert set(first) == {"m", "canary"}
        assert picker.telemetry.rewrites == Counter(
            {("r", "m", one): 2 * first.count(one) for one in ("m", "canary")}
        )
        sticky = {"inferway.dev/sticky-by": "session"}
        apply(picker, rewrite("r", rule("m", m=50, canary=50), **sticky))
        seen = {await target(**{"x-request-id": one, "x-session-id": "somebody"}) for one in ids}
        assert len(seen) == 1


async def test_a_target_that_does_not_exist_is_named() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        apply(picker, rewrite("r", rule("alias", missing=1)))
        status, _, body = await ask(picker, {"model": "alias", "prompt": "x"})
        message = json.loads(body)["error"]["message"]
        assert status == 404
        assert "`missing` does not exist" in message
        assert "rewritten from `alias`" in message


async def test_a_body_without_a_model_needs_a_generic_rule() -> None:
    async with FakeServer([BASE]).serving() as server, picker_for(server.address) as picker:
        apply(picker, rewrite("r", rule("alias", m=1)))
        assert (await ask(picker, {"prompt": "x"}))[0] == 400
        apply(picker, rewrite("r", rule(m=1)))
        status, headers, _ = await ask(picker, b'{"prompt":"x"}')
        assert (status, headers["x-inferway-splice"]) == (200, '1,1,"model":"m",')
        assert (await ask(picker, b""))[0] == 400


def test_a_condition_is_written_once_and_keeps_its_time() -> None:
    one = rewrite("r", rule("m", x=1))
    one["metadata"]["generation"] = 3
    first = condition(decode_rewrite(one), [], "2026-01-01T00:00:00Z")
    assert first is not None
    assert (first.status, first.reason, first.observed_generation) == ("True", "Accepted", 3)
    one["status"] = {"conditions": [encode(first)]}
    assert condition(decode_rewrite(one), [], "2026-01-02T00:00:00Z") is None
    one["metadata"]["generation"] = 4
    second = condition(decode_rewrite(one), [], "2026-01-02T00:00:00Z")
    assert second is not None
    assert second.last_transition_time == first.last_transition_time
    bad = condition(decode_rewrite(one), [Complaint("no")], "2026-01-02T00:00:00Z")
    assert bad is not None
    assert (bad.status, bad.reason) == ("False", "Invalid")
    assert bad.last_transition_time == "2026-01-02T00:00:00Z"


class Told:
    def __init__(self) -> None:
        self.table: RewriteTable | None = None
        self.changed = asyncio.Event()

    def apply(self, made: RewriteTable | None) -> None:
        self.table = made
        self.changed.set()

    async def until_target(self, model: str, target: str | None) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                found = self.table.rule_for(model) if self.table is not None else None
                if (draw(found, b"") if found is not None else None) == target:
                    return
                self.changed.clear()
                await self.changed.wait()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning")
async def test_both_groups_are_followed(tmp_path: Path) -> None:
    told = Told()
    async with (
        ApiServer(ApiServerOptions(state=tmp_path, port=0)) as server,
        KubeClient(kubeconfig.load(server.kubeconfig)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        key = Key("default", "p")
        watcher = RewriteWatcher(client, key, INFERENCE_GROUP, told.apply, SystemClock())
        work = tasks.create_task(watcher.run())
        await watcher.synced.wait()
        assert told.table is None
        one = rewrite("one", rule("m", new=1))
        one["metadata"]["namespace"] = "default"
        await client.create(INFERENCE_MODEL_REWRITES, one)
        await told.until_target("m", "new")
        two = rewrite("two", rule("n", old=1)) | {
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2"
        }
        two["metadata"]["namespace"] = "default"
        await client.create(LEGACY_INFERENCE_MODEL_REWRITES, two)
        await told.until_target("n", "old")
        for kind, name in (
            (INFERENCE_MODEL_REWRITES, "one"),
            (LEGACY_INFERENCE_MODEL_REWRITES, "two"),
        ):
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for event in client.watch(kind, namespace="default", resource_version="0"):
                    conditions = event.object.get("status", {}).get("conditions", [{}])
                    if conditions[0].get("status") == "True":
                        assert event.object["metadata"]["name"] == name
                        break
        await client.delete(INFERENCE_MODEL_REWRITES, "one", "default")
        await told.until_target("m", None)
        work.cancel()
