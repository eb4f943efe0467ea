"""The entries of an InferencePool's status: one for each of our Gateways that routes to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from inferway.api.conditions import ConditionType, PoolReason
from inferway.api.gateway import HTTPRoute
from inferway.api.inference import InferencePool
from inferway.gateway.translate.attach import GATEWAY_GROUP
from inferway.gateway.translate.backends import POOL_GROUP, Backends
from inferway.gateway.translate.snapshot import CONTROLLER_NAME, Key
from inferway.gateway.translate.verdicts import Object, Problem, judged


@dataclass(slots=True)
class References:
    """Which Gateways route to which pools, and whether by an accepted route."""

    found: dict[Key, dict[Key, bool]] = field(default_factory=dict)

    def note(self, route: HTTPRoute, gateway: Key, *, accepted: bool) -> None:
        """Takes the pools of a route that names ``gateway`` as its parent."""
        for rule in route.spec.rules or ():
            for ref in rule.backend_refs or ():
                if (ref.group or "") == POOL_GROUP and ref.kind == "InferencePool":
                    pool = (ref.namespace or route.metadata.namespace, ref.name)
                    parents = self.found.setdefault(pool, {})
                    parents[gateway] = parents.get(gateway, False) or accepted

    def of(self, pool: Key) -> Mapping[Key, bool]:
        return self.found.get(pool, {})


def entries(pool: InferencePool, backends: Backends, parents: Mapping[Key, bool]) -> list[Object]:
    """Our entries; none if no route refers to the pool."""
    if not parents:
        return []
    key = (pool.metadata.namespace, pool.metadata.name)
    resolved = backends.pool(key)
    assert resolved is not None, "the pool is in the snapshot"
    generation = pool.metadata.generation
    result = []
    for gateway, accepted in sorted(parents.items()):
        problems: list[Problem] = []
        if not accepted:
            message = "No HTTPRoute that leads here is accepted by the Gateway."
            problems.append(Problem(PoolReason.HTTP_ROUTE_NOT_ACCEPTED, message))
        refs = judged(
            ConditionType.RESOLVED_REFS,
            list(resolved.refs),
            # What works only in part is said where people look, without failing the condition.
            (PoolReason.RESOLVED_REFS, " ".join(resolved.notes)),
            generation,
        )
        result.append(
            {
                "parentRef": {
                    "group": GATEWAY_GROUP,
                    "kind": "Gateway",
                    "namespace": gateway[0],
                    "name": gateway[1],
                },
                "controllerName": CONTROLLER_NAME,
                "conditions": [
                    judged(ConditionType.ACCEPTED, problems, (PoolReason.ACCEPTED, ""), generation),
                    refs,
                ],
            }
        )
    return result
