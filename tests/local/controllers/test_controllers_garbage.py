"""Garbage collection, one object and one graph at a time."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.api.resources import DEPLOYMENTS, PODS, REPLICA_SETS
from inferway.local.controllers.actions import Delete, Patch
from inferway.local.controllers.garbage import plan, state_of


def obj(name: str, *owners: str, deleting: bool = False, **more: Any) -> dict[str, Any]:
    references = [
        {"uid": owner.rstrip("!"), "name": owner, "blockOwnerDeletion": owner.endswith("!")}
        for owner in owners
    ]
    meta: dict[str, Any] = {"name": name, "namespace": "d", "uid": name, **more}
    if references:
        meta["ownerReferences"] = references
    if deleting:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta}


def told(actions: list[Any]) -> list[str]:
    """Actions in short, for tables."""
    result = []
    for action in actions:
        name = action.obj["metadata"]["name"]
        if isinstance(action, Delete):
            result.append(f"delete {name} {action.propagation}")
        elif isinstance(action, Patch):
            field, value = next(iter(action.patch["metadata"].items()))
            uids = [v["uid"] if isinstance(v, dict) else v for v in value or ()]
            result.append(f"{name} {field}={','.join(uids)}")
    return result


CASES: list[tuple[str, Any, dict[str, str], list[Any], list[str]]] = [
    ("no owner", obj("a"), {}, [], []),
    ("its owner stays", obj("a", "o"), {"o": "solid"}, [], []),
    ("its owner is gone", obj("a", "o"), {"o": "absent"}, [], ["delete a Background"]),
    (
        "one of two owners is gone",
        obj("a", "o", "p"),
        {"o": "absent", "p": "solid"},
        [],
        ["a ownerReferences=p"],
    ),
    (
        "one of two owners waits",
        obj("a", "o", "p"),
        {"o": "waiting", "p": "solid"},
        [],
        ["a ownerReferences=p"],
    ),
    ("an owner of unknown kind", obj("a", "o", "p"), {"o": "absent"}, [], []),
    ("its owner waits", obj("a", "o"), {"o": "waiting"}, [], ["delete a Background"]),
    (
        "its owner waits, and it has dependents",
        obj("a", "o!"),
        {"o": "waiting"},
        [obj("x", "a!")],
        ["delete a Foreground"],
    ),
    (
        "foreground, a dependent blocks",
        obj("a", deleting=True, finalizers=["foregroundDeletion"]),
        {},
        [obj("x", "a!")],
        [],
    ),
    (
        "foreground, no dependent blocks",
        obj("a", deleting=True, finalizers=["foregroundDeletion", "mine"]),
        {},
        [obj("x", "a")],
        ["a finalizers=mine"],
    ),
    (
        "orphan",
        obj("a", deleting=True, finalizers=["orphan"]),
        {},
        [obj("x", "a!", "b"), obj("y", "a")],
        ["x ownerReferences=b", "y ownerReferences=", "a finalizers="],
    ),
    ("deletion goes on", obj("a", "o", deleting=True), {"o": "absent"}, [], []),
    (
        "an orphaning object whose owner is gone",
        obj("a", "o", finalizers=["orphan"]),
        {"o": "absent"},
        [],
        ["delete a Orphan"],
    ),
]


@pytest.mark.parametrize(("name", "one", "owners", "dependents", "expected"), CASES)
def test_one_object(
    name: str, one: Any, owners: Any, dependents: list[Any], expected: list[str]
) -> None:
    found = plan(PODS, one, owners, [(PODS, dependent) for dependent in dependents])
    assert told(found) == expected, name


def settle(objects: dict[str, Any]) -> list[str]:
    """Plays an API server that does what the plans say, until nothing changes."""
    order: list[str] = []
    for _ in range(50):
        changed = False
        for name in sorted(objects):
            one = objects.get(name)
            if one is None:
                continue
            refs = one["metadata"].get("ownerReferences") or []
            owners = {ref["uid"]: state_of(objects.get(ref["uid"])) for ref in refs}
            dependents = [
                (PODS, other)
                for other in objects.values()
                if any(ref["uid"] == name for ref in other["metadata"].get("ownerReferences") or [])
            ]
            for action in plan(PODS, one, owners, dependents):
                changed = True
                meta = action.obj["metadata"]
                if isinstance(action, Patch):
                    for field, value in action.patch["metadata"].items():
                        meta[field] = value
                elif isinstance(action, Delete):
                    meta["deletionTimestamp"] = "now"
                    if action.propagation == "Foreground":
                        meta.setdefault("finalizers", []).append("foregroundDeletion")
                if meta.get("deletionTimestamp") and not meta.get("finalizers"):
                    order.append(meta["name"])
                    objects.pop(meta["name"], None)
        if not changed:
            break
    return order


def test_foreground_deletion_ends_with_the_owner() -> None:
    objects = {
        "web": obj("web", deleting=True, finalizers=["foregroundDeletion"]),
        "set": obj("set", "web!"),
        "pod1": obj("pod1", "set!"),
        "pod2": obj("pod2", "set!"),
    }
    order = settle(objects)
    assert objects == {}
    assert order[-2:] == ["set", "web"]


def test_background_deletion_reaches_all() -> None:
    objects = {"set": obj("set", "web!"), "pod": obj("pod", "set!"), "other": obj("other")}
    assert sorted(settle(objects)) == ["pod", "set"]
    assert set(objects) == {"other"}


def test_orphans_stay() -> None:
    objects = {
        "web": obj("web", deleting=True, finalizers=["orphan"]),
        "set": obj("set", "web!"),
        "pod": obj("pod", "set!"),
    }
    assert settle(objects) == ["web"]
    assert set(objects) == {"set", "pod"}


def test_resources_of_actions_are_those_of_the_objects() -> None:
    found = plan(
        DEPLOYMENTS,
        obj("a", deleting=True, finalizers=["orphan"]),
        {},
        [(REPLICA_SETS, obj("x", "a"))],
    )
    assert [action.resource for action in found] == [REPLICA_SETS, DEPLOYMENTS]  # type: ignore[union-attr]
