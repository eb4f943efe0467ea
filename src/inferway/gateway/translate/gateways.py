"""A Gateway as a whole: whether it is accepted, and the draft of its status."""

from __future__ import annotations

from inferway.api.conditions import ConditionType, GatewayReason
from inferway.api.gateway import Gateway
from inferway.gateway.translate import listeners
from inferway.gateway.translate.classes import parameters_problem
from inferway.gateway.translate.listeners import JudgedListener
from inferway.gateway.translate.snapshot import Snapshot
from inferway.gateway.translate.verdicts import Object, Problem, condition, judged


def problems(
    snapshot: Snapshot, gateway: Gateway, judged_listeners: tuple[JudgedListener, ...]
) -> list[Problem]:
    """Why a Gateway is not accepted; empty if it is."""
    found = []
    if any(address.value for address in gateway.spec.addresses or ()):
        found.append(
            Problem(
                GatewayReason.UNSUPPORTED_ADDRESS,
                "Addresses with a value are not supported: the Service of the proxies gets one.",
            )
        )
    infrastructure = gateway.spec.infrastructure
    ref = infrastructure.parameters_ref if infrastructure is not None else None
    if ref is not None:
        key = (gateway.metadata.namespace, ref.name)
        problem = parameters_problem(snapshot, ref.group, ref.kind, key)
        if problem is not None:
            found.append(Problem(GatewayReason.INVALID_PARAMETERS, problem.message))
    if not any(item.serves for item in judged_listeners):
        found.append(Problem(GatewayReason.LISTENERS_NOT_VALID, "No listener can be served."))
    return found


def draft(
    gateway: Gateway,
    found: list[Problem],
    judged_listeners: tuple[JudgedListener, ...],
    attached: dict[str, int],
) -> Object:
    """The status of a Gateway, less what the proxies decide: Programmed and addresses."""
    generation = gateway.metadata.generation
    bad = [item.name for item in judged_listeners if not item.valid]
    if not found and bad:
        # One good listener is enough; the reason tells that others are not.
        accepted = condition(
            ConditionType.ACCEPTED,
            True,
            GatewayReason.LISTENERS_NOT_VALID,
            f"Not valid: {', '.join(bad)}.",
            generation,
        )
    else:
        accepted = judged(ConditionType.ACCEPTED, found, (GatewayReason.ACCEPTED, ""), generation)
    return {
        "conditions": [accepted],
        "listeners": [
            listeners.status(item, attached.get(item.name, 0), generation)
            for item in judged_listeners
        ],
    }
