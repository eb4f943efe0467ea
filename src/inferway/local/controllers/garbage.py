"""What garbage collection does to one object.

Pure. Knows owner references, the finalizers ``orphan`` and ``foregroundDeletion``, and nothing of
kinds. The rules are those of Kubernetes' garbage collector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from inferway.api.resources import ResourceType
from inferway.cluster.client import Object
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Delete, Patch
from inferway.local.controllers.objects import Raw

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"

OwnerState = Literal["solid", "waiting", "absent"]
"""An owner that stays, one that waits for its dependents to go, and one that is gone."""

Typed = tuple[ResourceType, Raw]


def references(obj: Raw) -> list[Object]:
    return list(o.meta(obj).get("ownerReferences") or ())


def finalizers(obj: Raw) -> list[str]:
    return list(o.meta(obj).get("finalizers") or ())


def state_of(owner: Raw | None) -> OwnerState:
    if owner is None:
        return "absent"
    return "waiting" if o.deleting(owner) and FOREGROUND in finalizers(owner) else "solid"


def plan(
    resource: ResourceType,
    obj: Raw,
    owners: Mapping[str, OwnerState],
    dependents: Sequence[Typed],
) -> list[Action]:
    """The next step for an object, given the states of its owners by uid."""
    if o.deleting(obj):
        return _finish(resource, obj, dependents)
    refs = references(obj)
    if not refs or not all(str(ref.get("uid")) in owners for ref in refs):
        return []
    states = [owners[str(ref.get("uid"))] for ref in refs]
    if "solid" in states:
        kept = [ref for ref, state in zip(refs, states, strict=True) if state == "solid"]
        return [] if len(kept) == len(refs) else [_with_owners(resource, obj, kept)]
    if "waiting" in states and dependents:
        # The owner waits until this object is gone, which waits for its own dependents.
        return [Delete(resource, obj, propagation="Foreground")]
    if ORPHAN in finalizers(obj):
        return [Delete(resource, obj, propagation="Orphan")]
    if FOREGROUND in finalizers(obj):
        return [Delete(resource, obj, propagation="Foreground")]
    return [Delete(resource, obj)]


def _finish(resource: ResourceType, obj: Raw, dependents: Sequence[Typed]) -> list[Action]:
    """Deletion asked for: lets dependents go, or waits for them, and then lets the object go."""
    held = finalizers(obj)
    if ORPHAN in held:
        freed: list[Action] = [
            _with_owners(
                kind,
                dependent,
                [ref for ref in references(dependent) if ref.get("uid") != o.uid(obj)],
            )
            for kind, dependent in dependents
        ]
        return [*freed, _without_finalizer(resource, obj, ORPHAN)]
    if FOREGROUND in held and not any(blocks(dependent, obj) for _, dependent in dependents):
        return [_without_finalizer(resource, obj, FOREGROUND)]
    return []


def blocks(dependent: Raw, owner: Raw) -> bool:
    """Whether an owner that is deleted in the foreground waits for this dependent."""
    return any(
        ref.get("uid") == o.uid(owner) and ref.get("blockOwnerDeletion")
        for ref in references(dependent)
    )


def _with_owners(resource: ResourceType, obj: Raw, refs: list[Object]) -> Patch:
    return Patch(resource, obj, {"metadata": {"ownerReferences": refs or None}}, guard=True)


def _without_finalizer(resource: ResourceType, obj: Raw, name: str) -> Patch:
    rest = [f for f in finalizers(obj) if f != name]
    return Patch(resource, obj, {"metadata": {"finalizers": rest or None}}, guard=True)
