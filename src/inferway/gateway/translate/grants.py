"""ReferenceGrants: who may refer across namespaces."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.gateway.translate.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Reference:
    """One end of a reference; ``name`` is empty for the end that refers."""

    group: str
    kind: str
    namespace: str
    name: str = ""


def permitted(snapshot: Snapshot, source: Reference, target: Reference) -> bool:
    """Whether ``source`` may refer to ``target``."""
    if source.namespace == target.namespace:
        return True
    for grant in snapshot.reference_grants.values():
        if grant.metadata.namespace != target.namespace:
            continue
        named = any(
            to.group == target.group and to.kind == target.kind and to.name in ("", target.name)
            for to in grant.spec.to
        )
        if named and any(
            (item.group, item.kind, item.namespace) == (source.group, source.kind, source.namespace)
            for item in grant.spec.from_
        ):
            return True
    return False
