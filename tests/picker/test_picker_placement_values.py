"""Objects as wishes, answers as outcomes, statuses, and the queue of waiting requests: tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferway.api import crds
from inferway.api.schema.load import load_schema
from inferway.api.schema.validation import validate
from inferway.cluster.store import Key
from inferway.picker.answers import FinalAnswer
from inferway.picker.placement import calls, objects, statuses, waiting
from inferway.picker.placement.peers import Peers, Report
from inferway.scheduling.placement.demand import DemandMeter
from inferway.scheduling.placement.machine import Outcome, Placement, Seen, Unload
from inferway.scheduling.placement.values import Load, Wish

GROUP = "inference.networking.k8s.io"
LOAD = Load("x", "a:1", "/x")
UNLOAD = Unload("x", "a:1")
NOW = "2026-01-01T00:00:00Z"


def adapter(name: str, created: str = "1", **spec: object) -> objects.Adapter:
    raw = {
        "metadata": {
            "name": name,
            "namespace": "ns",
            "creationTimestamp": created,
            "generation": 3,
        },
        "spec": {"poolRef": {"name": "p"}, "source": f"/{name}"} | spec,
    }
    return objects.decode_adapter(raw)


def test_wishes_of_the_pool() -> None:
    found = [
        adapter("x", minReplicas=2, maxReplicas=3, pinned=True, minResidency="1m"),
        adapter("other", poolRef={"name": "another"}),
        adapter("legacy", poolRef={"name": "p", "group": "inference.networking.x-k8s.io"}),
    ]
    read = objects.read(found, "p", GROUP, frozenset())
    assert [one.adapter for one in read.adapters] == ["x"]
    assert read.wishes == {
        "x": Wish(
            adapter="x", source="/x", replicas_min=2, replicas_max=3, pinned=True,
            residency_seconds=60.0,
        )
    }  # fmt: skip


def test_the_older_object_has_the_name() -> None:
    found = [adapter("b", "2", adapterName="n"), adapter("a", "1", adapterName="n"), adapter("m")]
    read = objects.read(found, "p", GROUP, frozenset({"m"}))
    assert read.wishes["n"].source == "/a"
    refused = {key.name: why for key, why in read.refused.items()}
    assert refused.keys() == {"b", "m"}
    assert "LoRAAdapter a" in refused["b"]
    assert "base model" in refused["m"]


def test_models_that_a_request_would_load_are_offered() -> None:
    wishes = {
        "x": Wish(adapter="x", source="/x"),
        "there": Wish(adapter="there", source="/t"),
        "never": Wish(adapter="never", source="/n", on_demand=False),
    }
    (card,) = json.loads(objects.offered(wishes, {"there"}, "m"))["data"]
    assert (card["id"], card["parent"], card["root"]) == ("x", "m", "/x")


@pytest.mark.parametrize(
    ("annotation", "seconds"),
    [({}, 5.0), ({"inferway.dev/pick-timeout": "20s"}, 20.0),
     ({"inferway.dev/pick-timeout": "soon"}, 5.0), ({"inferway.dev/pick-timeout": "2h"}, 5.0)],
)  # fmt: skip
def test_the_picks_deadline(annotation: dict[str, str], seconds: float) -> None:
    assert objects.pick_seconds(annotation) == seconds


@pytest.mark.parametrize(
    ("action", "status", "body", "outcome", "words"),
    [
        (LOAD, 200, b"Success: LoRA adapter 'x' added successfully.", Outcome.DONE, ""),
        (LOAD, 400, b'{"error":{"message":"The lora adapter \'x\' has already been loaded."}}',
         Outcome.ALREADY, "already"),
        (LOAD, 404, b'{"error":{"message":"No adapter found for /x"}}', Outcome.FAILED, "No ada"),
        (LOAD, 404, b'{"detail":"Not Found"}', Outcome.FAILED, "RUNTIME_LORA_UPDATING"),
        (LOAD, 500, b"Internal Server Error", Outcome.FAILED, "answered 500"),
        (LOAD, 400, b'{"object":"error","message":"old shape"}', Outcome.FAILED, "old shape"),
        (LOAD, 400, b'{"error":"a text"}', Outcome.FAILED, "a text"),
        (UNLOAD, 404, b'{"error":{"message":"The lora adapter \'x\' cannot be found."}}',
         Outcome.ALREADY, "found"),
        (UNLOAD, 404, b'{"detail":"Not Found"}', Outcome.FAILED, "RUNTIME_LORA_UPDATING"),
        (UNLOAD, 200, b"", Outcome.DONE, ""),
    ],
)  # fmt: skip
def test_what_an_answer_means(
    action: Load | Unload, status: int, body: bytes, outcome: Outcome, words: str
) -> None:
    found, message = calls.outcome_of(action, status, body)
    assert found is outcome
    assert words in message


def placement_with(*seen: Seen, wishes: list[Wish]) -> Placement:
    placement = Placement()
    placement.set_wishes(wishes)
    placement.tick(seen, {}, 0.0, 1.0)
    return placement


def server(address: str, **more: Any) -> Seen:
    return Seen(address=address, name=f"pod-{address}", slots=1, adapters=frozenset(), **more)


def said(status: dict[str, Any], type_: str) -> tuple[str, str, str]:
    found = next(c for c in status["conditions"] if c["type"] == type_)
    assert found["observedGeneration"] == 3
    return found["status"], found["reason"], found["message"]


def test_a_status_tells_every_server() -> None:
    one = adapter("x", minReplicas=3)
    placement = placement_with(
        server("a:1"), server("b:1"), server("c:1"),
        wishes=[Wish(adapter="x", source="/x", replicas_min=3)],
    )  # fmt: skip
    placement.done(Load("x", "a:1", "/x"), Outcome.DONE, "", 2.0)
    placement.done(Load("x", "b:1", "/x"), Outcome.FAILED, "no space", 2.0)
    status = statuses.status_of(one, "", placement, NOW)
    assert status["replicas"] == 1
    assert status["wantedReplicas"] == 3
    assert [(e["address"], e["state"], e.get("placed", False)) for e in status["endpoints"]] == [
        ("a:1", "Loaded", True), ("b:1", "Failed", False), ("c:1", "Loading", True),
    ]  # fmt: skip
    assert status["endpoints"][1]["message"] == "no space"
    assert said(status, "Accepted")[:2] == ("True", "Accepted")
    assert said(status, "Placed")[:2] == ("False", "Loading")
    schema = crds.to_object(crds.LORA_ADAPTERS)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    whole = {"apiVersion": "inferway.dev/v1alpha1", "kind": "LoRAAdapter", **one.raw}
    assert list(validate(load_schema(schema), whole | {"status": status})) == []


def test_a_status_keeps_the_time_of_what_did_not_change() -> None:
    one = adapter("x")
    placement = placement_with(server("a:1"), wishes=[Wish(adapter="x", source="/x")])
    first = statuses.status_of(one, "", placement, NOW)
    assert said(first, "Placed") == (
        "True", "OnDemand", "No server has it; the first request loads it.",
    )  # fmt: skip
    again = objects.decode_adapter(one.raw | {"status": first})
    assert statuses.status_of(again, "", placement, "2027-01-01T00:00:00Z") == first
    refused = statuses.status_of(again, "Somebody has the name.", placement, NOW)
    assert said(refused, "Accepted") == ("False", "NameInUse", "Somebody has the name.")
    assert said(refused, "Placed")[:2] == ("False", "NotAccepted")


def test_a_wrong_base_model_is_named() -> None:
    wishes = [Wish(adapter="x", source="/x", base_model="z", replicas_min=1)]
    placement = placement_with(server("a:1", base_models=frozenset({"m", "n"})), wishes=wishes)
    status = statuses.status_of(adapter("x"), "", placement, NOW)
    assert said(status, "Placed") == (
        "False", "NoServer",
        "It can be nowhere: no server has the base model z; the servers have m, n.",
    )  # fmt: skip


def test_who_waits_is_told_once() -> None:
    queue = waiting.AdapterQueue()
    told: list[FinalAnswer | None] = []
    first = queue.enter("x", told.append, 1.0, 5.0)
    queue.enter("x", told.append, 2.0, 6.0)
    queue.enter("y", told.append, 3.0, 7.0)
    assert isinstance(first, int)
    assert queue.since() == {"x": 1.0, "y": 3.0}
    queue.leave(first)
    queue.leave(first)
    queue.release(["x"], 4.0)
    queue.release(["x"], 4.0)
    assert told == [None]
    queue.expire(6.9, lambda adapter: "because")
    assert len(told) == 1
    queue.expire(7.0, lambda adapter: "because")
    assert told[1] is not None
    assert told[1].code == "adapter_loading"
    assert "because" in told[1].message
    assert dict(queue.ended) == {("x", "left"): 1, ("x", "loaded"): 1, ("y", "timeout"): 1}
    assert len(queue) == 0


def test_waiting_has_a_limit() -> None:
    queue = waiting.AdapterQueue()
    for _ in range(waiting.WAITING_REQUESTS_MAX):
        assert isinstance(queue.enter("x", lambda answer: None, 0.0, 1.0), int)
    assert isinstance(queue.enter("x", lambda answer: None, 0.0, 1.0), FinalAnswer)
    queue.stop(1.0)
    assert len(queue) == 0


def test_reports_are_paced_and_only_a_leader_takes_them() -> None:
    heard: list[tuple[str, bool]] = []
    clock = [10.0]
    leads = [False]
    peers = Peers(
        Key("ns", "p"),
        lambda peer, demand, load, waits: heard.append((peer, waits)),
        lambda: leads[0],
        lambda: clock[0],
    )
    meter = DemandMeter()
    assert peers.receive(b"{}") == 409
    leads[0] = True
    assert peers.receive(b"{}") == 400
    body = b'{"picker":"two","demand":{"x":1.5},"load":2,"waiting":["x"]}'
    assert peers.receive(body) == 204
    assert heard == [("two", True)]
    assert peers.waiting() == {"x": 10.0}
    peers.served({"x"})
    assert peers.waiting() == {}
    peers.receive(body)
    clock[0] += 5.0
    assert peers.waiting() == {}
    assert peers.report(meter, {"x": 1.0}, "one") == Report("one", {}, 0.0, ["x"])
    # One at a time.
    assert peers.report(meter, {"x": 1.0, "y": 1.0}, "one") is None
