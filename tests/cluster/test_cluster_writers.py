"""Events, statuses and leases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cluster_fakes import ScriptedServer, pod, status
from hypothesis import given
from hypothesis import strategies as st

from inferway.api.resources import PODS
from inferway.base.clock import ManualClock
from inferway.cluster import leader
from inferway.cluster.client import KubeClient
from inferway.cluster.errors import NotFoundError
from inferway.cluster.events import PENDING_MAX, EventRecorder
from inferway.cluster.status import merge_diff, write_status


async def test_equal_events_are_counted(server: ScriptedServer, client: KubeClient) -> None:
    recorder = EventRecorder(client, "scheduler", clock=ManualClock())
    about = pod("a", 1)
    server.answers = [(201, {"metadata": {"name": "a.1", "namespace": "default"}})]
    recorder.event(about, "Warning", "FailedScheduling", "0/1 nodes are available")
    recorder.event(about, "Warning", "FailedScheduling", "0/1 nodes are available")
    await recorder.flush()
    method, path, _, body, _ = server.requests[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/default/events")
    assert body["count"] == 2
    assert body["involvedObject"] == {
        "apiVersion": "v1",
        "kind": "Pod",
        "namespace": "default",
        "name": "a",
        "uid": "uid-a",
    }
    assert body["source"] == {"component": "scheduler"}
    server.answers = [(200, {})]
    recorder.event(about, "Warning", "FailedScheduling", "0/1 nodes are available")
    await recorder.flush()
    assert server.requests[1][0] == "PATCH"
    assert server.requests[1][3]["count"] == 3
    # An Event whose time is over is written anew.
    server.answers = [
        (404, status(404, "NotFound", "gone")),
        (201, {"metadata": {"name": "a.2"}}),
    ]
    recorder.event(about, "Warning", "FailedScheduling", "0/1 nodes are available")
    await recorder.flush()
    assert server.requests[3][3]["count"] == 1


async def test_events_never_fail_their_caller(server: ScriptedServer, client: KubeClient) -> None:
    recorder = EventRecorder(client, "x")
    server.answers = [(403, status(403, "Forbidden", "no"))]
    recorder.event(pod("a", 1), "Normal", "R", "m")
    await recorder.flush()
    for number in range(PENDING_MAX + 5):
        recorder.event(pod("a", 1), "Normal", "R", str(number))
    assert recorder.dropped == 6


async def test_a_status_is_written_only_when_it_changed(
    server: ScriptedServer, client: KubeClient
) -> None:
    current = {**pod("a", 1), "status": {"phase": "Pending", "reason": "x", "n": {"a": 1}}}
    assert await write_status(client, PODS, current, dict(current["status"])) is None
    server.answers = [(200, {})]
    await write_status(client, PODS, current, {"phase": "Running", "n": {"a": 1, "b": 2}})
    _, path, _, body, _ = server.requests[0]
    assert path.endswith("/pods/a/status")
    assert body["status"] == {"phase": "Running", "reason": None, "n": {"b": 2}}
    assert body["metadata"] == {"uid": "uid-a"}


_objects = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 3) | st.lists(st.integers(0, 2), max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    max_size=3,
)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386, written as in the RFC."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


@given(_objects, _objects)
def test_a_diff_leads_to_the_new_value(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, merge_diff(old, new)) == new
    assert merge_diff(new, new) == {}


TIMING = leader.Timing(lease_seconds=15)

DECISIONS = [
    (None, 0.0, "create"),
    ({"holderIdentity": "me"}, 100.0, "renew"),
    ({"holderIdentity": "you"}, 14.9, "wait"),
    ({"holderIdentity": "you"}, 15.0, "take"),
    ({"holderIdentity": "you", "leaseDurationSeconds": 60}, 15.0, "wait"),
    ({"holderIdentity": ""}, 0.0, "take"),
    ({}, 0.0, "take"),
]


@pytest.mark.parametrize(("spec", "unchanged", "step"), DECISIONS)
def test_what_a_candidate_does(spec: dict[str, Any] | None, unchanged: float, step: str) -> None:
    assert leader.decide(spec, "me", unchanged, TIMING) == step


def test_transitions_count_changes_of_the_holder() -> None:
    first = leader.next_spec(None, "me", 0, TIMING)
    assert first["leaseTransitions"] == 0
    again = leader.next_spec(first, "me", 5, TIMING)
    assert again["acquireTime"] == first["acquireTime"]
    assert again["renewTime"] == "1970-01-01T00:00:05.000000Z"
    assert leader.next_spec(again, "you", 9, TIMING)["leaseTransitions"] == 1


class FakeLeases:
    """The Lease part of a client, in memory."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.written = asyncio.Event()

    async def get(self, *_: Any) -> dict[str, Any]:
        if self.lease is None:
            raise NotFoundError(404, "NotFound", "no lease")
        return self.lease

    def store(self, lease: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        meta = {**lease["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**lease, "metadata": meta}
        self.written.set()
        return self.lease

    async def create(self, _: Any, lease: dict[str, Any]) -> dict[str, Any]:
        return self.store(lease)

    async def update(self, _: Any, lease: dict[str, Any]) -> dict[str, Any]:
        return self.store(lease)

    async def patch(self, _: Any, name: str, patch: dict[str, Any], ns: str) -> dict[str, Any]:
        assert self.lease is not None
        return self.store(merge(self.lease, {"spec": patch["spec"]}))


QUICK = leader.Timing(lease_seconds=1, renew_deadline_seconds=0.2, retry_seconds=0.005)


async def test_a_leader_works_and_gives_the_lease_back() -> None:
    leases: Any = FakeLeases()
    ran = []

    async def work() -> None:
        ran.append(leases.lease["spec"]["holderIdentity"])
        leases.written.clear()
        await asyncio.wait_for(leases.written.wait(), 3)

    await asyncio.wait_for(leader.run(leases, "l", "ns", "me", work, timing=QUICK), 3)
    assert ran == ["me"]
    assert "holderIdentity" not in leases.lease["spec"]


async def test_a_leader_stops_when_another_holds_the_lease() -> None:
    leases: Any = FakeLeases()
    stopped = asyncio.Event()

    async def work() -> None:
        leases.store(merge(leases.lease, {"spec": {"holderIdentity": "you"}}))
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(leader.run(leases, "l", "ns", "me", work, timing=QUICK))
        await asyncio.wait_for(stopped.wait(), 3)
        task.cancel()
    assert leases.lease["spec"]["holderIdentity"] == "you"
