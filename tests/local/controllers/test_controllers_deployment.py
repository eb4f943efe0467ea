"""Deployments played against a small world of ReplicaSets."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from inferway.base.clock import rfc3339
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Again, Create, Delete, Note, Patch, Status
from inferway.local.controllers.deployment import plan
from inferway.local.controllers.revisions import REVISION, REVISION_HISTORY

START = 1_800_000_000.0


def template(image: str) -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"image": image}]}}


def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


class World:
    """One Deployment and its sets; Pods become available when ``ready`` is called."""

    def __init__(self, replicas: int = 3, **spec: Any) -> None:
        self.now = START
        self.sets: dict[str, Any] = {}
        self.events: list[str] = []
        self.again: float | None = None
        self.deployment: dict[str, Any] = {
            "metadata": {"name": "web", "namespace": "d", "uid": "web-uid", "generation": 1},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": "x"}},
                "template": template("v1"),
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
                },
                **spec,
            },
        }

    def edit(self, **spec: Any) -> None:
        self.deployment["spec"].update(spec)
        self.deployment["metadata"]["generation"] += 1

    def step(self, running: bool = False) -> bool:
        """One look; whether it changed anything but the times."""
        before = copy.deepcopy((self.deployment, self.sets))
        self.again = None
        for action in plan(self.deployment, list(self.sets.values()), running, self.now):
            if isinstance(action, Create):
                made = copy.deepcopy(action.obj)
                made["metadata"].update(
                    uid=made["metadata"]["name"],
                    generation=1,
                    creationTimestamp=rfc3339(self.now + len(self.sets)),
                )
                self.sets[o.name(made)] = made
            elif isinstance(action, Patch):
                self.patch(action)
            elif isinstance(action, Status):
                self.deployment = {**self.deployment, "status": copy.deepcopy(action.status)}
            elif isinstance(action, Note):
                self.events.append(action.message)
            elif isinstance(action, Delete):
                del self.sets[o.name(action.obj)]
            elif isinstance(action, Again):
                self.again = action.seconds
        return before != (self.deployment, self.sets)

    def patch(self, action: Patch) -> None:
        if o.name(action.obj) == "web":
            self.deployment = merge(self.deployment, action.patch)
        else:
            name = o.name(action.obj)
            self.sets[name] = merge(self.sets[name], action.patch)

    def ready(self, name: str = "", limit: int = 99) -> None:
        """The ReplicaSet controller and the node have done their work."""
        for replica_set in self.sets.values():
            wanted = replica_set["spec"]["replicas"]
            good = wanted if name in ("", o.name(replica_set)) else 0
            good = min(good, limit)
            replica_set["status"] = {
                "replicas": wanted,
                "readyReplicas": good,
                "availableReplicas": good,
                "observedGeneration": replica_set["metadata"]["generation"],
            }

    def settle(self) -> None:
        for _ in range(100):
            changed = self.step()
            self.ready()
            if not changed and not self.step():
                return
        raise AssertionError(f"no end: {self.sizes()}")

    def sizes(self) -> list[int]:
        return [s["spec"]["replicas"] for s in self.sets.values()]

    def condition(self, kind: str) -> tuple[str, str, str]:
        found = o.condition(self.deployment, kind)
        assert found is not None, f"no condition {kind}"
        return found["status"], found["reason"], found["message"]


def test_a_first_rollout() -> None:
    world = World()
    world.step()
    assert world.sizes() == [3]
    name = next(iter(world.sets))
    assert world.events == [f"Scaled up replica set {name} from 0 to 3"]
    assert world.condition("Available") == (
        "False",
        "MinimumReplicasUnavailable",
        "Deployment does not have minimum availability.",
    )
    world.step()
    assert world.condition("Progressing")[1:] == (
        "NewReplicaSetCreated",
        f'Created new replica set "{name}"',
    )
    assert world.again is not None
    world.settle()
    status = world.deployment["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (3, 3, 3)
    assert world.condition("Available")[:2] == ("True", "MinimumReplicasAvailable")
    assert world.condition("Progressing") == (
        "True",
        "NewReplicaSetAvailable",
        f'ReplicaSet "{name}" has successfully progressed.',
    )
    assert world.deployment["metadata"]["annotations"][REVISION] == "1"
    assert world.sets[name]["spec"]["selector"]["matchLabels"]["pod-template-hash"]


def test_a_rolling_update_and_a_rollback() -> None:
    world = World()
    world.settle()
    first = next(iter(world.sets))
    world.edit(template=template("v2"))
    trail = []
    for _ in range(20):
        world.step()
        trail.append(world.sizes())
        world.ready()
    steps = [s for i, s in enumerate(trail) if i == 0 or s != trail[i - 1]]
    assert steps == [[3, 1], [2, 1], [2, 2], [1, 2], [1, 3], [0, 3]]
    assert world.deployment["metadata"]["annotations"][REVISION] == "2"
    # kubectl rollout undo puts the old template back, without the hash label.
    world.edit(template=template("v1"))
    world.settle()
    assert world.sizes() == [3, 0]
    notes = world.sets[first]["metadata"]["annotations"]
    assert (notes[REVISION], notes[REVISION_HISTORY]) == ("3", "1")
    assert world.deployment["metadata"]["annotations"][REVISION] == "3"


def test_recreate_waits_for_the_last_old_pod() -> None:
    world = World(strategy={"type": "Recreate"})
    world.settle()
    world.edit(template=template("v2"))
    world.step(running=True)
    assert world.sizes() == [0]
    world.ready()
    world.step(running=True)
    assert world.sizes() == [0]
    world.step(running=False)
    assert world.sizes() == [0, 3]


def test_scaling_makes_no_new_revision() -> None:
    world = World()
    world.settle()
    world.edit(replicas=5)
    world.settle()
    assert world.sizes() == [5]
    world.edit(replicas=0)
    world.settle()
    assert world.sizes() == [0]
    assert world.deployment["metadata"]["annotations"][REVISION] == "1"
    world.edit(replicas=2)
    world.settle()
    assert world.sizes() == [2]


def test_a_paused_deployment_scales_but_does_not_roll() -> None:
    world = World()
    world.settle()
    world.edit(paused=True, template=template("v2"))
    world.settle()
    assert world.sizes() == [3]
    assert world.condition("Progressing") == (
        "Unknown",
        "DeploymentPaused",
        "Deployment is paused",
    )
    world.edit(replicas=4)
    world.settle()
    assert world.sizes() == [4]
    world.edit(paused=False)
    world.step()
    assert world.condition("Progressing")[1] == "DeploymentResumed"
    world.settle()
    assert world.sizes() == [0, 4]


def test_a_rollout_that_stands_still_is_told_after_its_deadline() -> None:
    world = World(progressDeadlineSeconds=60)
    world.settle()
    world.edit(template=template("broken"))
    for _ in range(4):
        world.step()
        world.ready(next(iter(world.sets)))
    assert world.condition("Progressing")[1] == "ReplicaSetUpdated"
    assert world.again == 61
    world.now += 61
    world.step()
    new = list(world.sets)[1]
    assert world.condition("Progressing") == (
        "False",
        "ProgressDeadlineExceeded",
        f'ReplicaSet "{new}" has timed out progressing.',
    )
    # The old Pods stay while the new one is broken.
    assert world.sizes() == [3, 1]
    assert world.condition("Available")[0] == "True"


def test_old_sets_are_kept_up_to_the_limit() -> None:
    world = World(revisionHistoryLimit=1)
    for image in ("v1", "v2", "v3", "v4"):
        world.edit(template=template(image))
        world.settle()
        world.settle()
    revisions = sorted(s["metadata"]["annotations"][REVISION] for s in world.sets.values())
    assert revisions == ["3", "4"]


def test_a_failure_of_the_set_shows() -> None:
    world = World()
    world.step()
    name = next(iter(world.sets))
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "quota",
    }
    world.sets[name]["status"] = {"replicas": 0, "conditions": [failure]}
    world.step()
    assert world.condition("ReplicaFailure") == ("True", "FailedCreate", "quota")
    world.settle()
    assert o.condition(world.deployment, "ReplicaFailure") is None


def test_a_steady_deployment_is_left_alone() -> None:
    world = World()
    world.settle()
    assert not world.step()
    world.deployment["metadata"]["deletionTimestamp"] = rfc3339(START)
    world.edit(template=template("v2"))
    world.step()
    assert world.sizes() == [3]


@given(
    st.integers(1, 5),
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=30),
)
def test_available_pods_stay_within_the_bounds(
    replicas: int, surge: int, unavailable: int, weather: list[tuple[bool, int]]
) -> None:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    world = World(replicas, strategy={"type": "RollingUpdate", "rollingUpdate": rolling})
    world.settle()
    old = next(iter(world.sets))
    world.edit(template=template("v2"))
    missing = unavailable if surge or unavailable else 1
    for new_ones_work, limit in weather:
        world.step()
        assert sum(world.sizes()) <= replicas + surge
        kept = world.sets[old]["spec"]["replicas"]
        for name, replica_set in world.sets.items():
            wanted = replica_set["spec"]["replicas"]
            seen = (replica_set.get("status") or {}).get("availableReplicas", 0)
            if name == old:
                good = kept
            else:
                # A Pod that is available stays so in this world.
                good = max(min(seen, wanted), min(wanted, limit) if new_ones_work else 0)
            replica_set["status"] = {
                "replicas": wanted,
                "readyReplicas": good,
                "availableReplicas": good,
                "observedGeneration": 1,
            }
        available = sum(s["status"]["availableReplicas"] for s in world.sets.values())
        assert available >= replicas - missing
    world.settle()
    assert world.sizes()[-1] == replicas
