"""The part of a Gateway's status that its proxies decide: Programmed and addresses."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.api.conditions import ConditionType, GatewayReason, ListenerReason
from inferway.api.core import Service
from inferway.gateway.translate.translation import PlannedGateway
from inferway.gateway.translate.verdicts import Object, condition

# A refusal can quote a whole configuration.
_MESSAGE_CHARACTERS_MAX = 1000


@dataclass(frozen=True, slots=True)
class ProxyState:
    """What is known of a Gateway's proxies.

    ``current``: all connected proxies have acknowledged the Gateway's generation.
    ``moved_ports``: listener port and the port that is really bound, where these differ.
    """

    connected: int = 0
    behind: int = 0
    current: bool = False
    refusals: tuple[str, ...] = ()
    moved_ports: tuple[tuple[int, int], ...] = ()
    trouble: str = ""


def addresses(service: Service | None) -> list[Object]:
    """Where the proxies are reached, as a Gateway's status has it."""
    if service is None:
        return []
    found: list[Object] = []
    for item in service.status.load_balancer.ingress:
        if item.ip:
            found.append({"type": "IPAddress", "value": item.ip})
        elif item.hostname:
            found.append({"type": "Hostname", "value": item.hostname})
    inside = service.spec.cluster_ip
    if not found and service.spec.type != "LoadBalancer" and inside not in ("", "None"):
        found.append({"type": "IPAddress", "value": inside})
    return found


def complete(plan: PlannedGateway, service: Service | None, state: ProxyState) -> Object:
    """The whole status of a Gateway."""
    generation = plan.gateway.metadata.generation
    where = addresses(service) if plan.accepted else []
    holds, reason, message = _programmed(plan, bool(where), state)
    programmed = condition(ConditionType.PROGRAMMED, holds, reason, message, generation)
    listeners = []
    for item in plan.status["listeners"]:
        if item["name"] not in plan.serving:
            verdict = (False, str(ListenerReason.INVALID), "The listener can not be served.")
        elif holds:
            verdict = (True, str(ListenerReason.PROGRAMMED), "")
        else:
            verdict = (False, str(ListenerReason.PENDING), message)
        judged = condition(ConditionType.PROGRAMMED, *verdict, generation)
        listeners.append({**item, "conditions": [*item["conditions"], judged]})
    return {
        "addresses": where,
        "conditions": [*plan.status["conditions"], programmed],
        "listeners": listeners,
    }


def _programmed(
    plan: PlannedGateway, has_address: bool, state: ProxyState
) -> tuple[bool, GatewayReason, str]:
    if not plan.accepted:
        return False, GatewayReason.INVALID, "The Gateway is not accepted."
    if state.trouble:
        return False, GatewayReason.NO_RESOURCES, state.trouble
    if state.refusals:
        text = " ".join(state.refusals)[:_MESSAGE_CHARACTERS_MAX]
        return False, GatewayReason.INVALID, f"A proxy refused its configuration: {text}"
    if not has_address:
        message = "The Service of the proxies has no address yet."
        return False, GatewayReason.ADDRESS_NOT_ASSIGNED, message
    if state.connected == 0:
        return False, GatewayReason.PENDING, "No proxy is connected yet."
    if not state.current:
        message = f"{state.behind} of {state.connected} proxies have not acknowledged yet."
        return False, GatewayReason.PENDING, message
    return True, GatewayReason.PROGRAMMED, _moved(state)


def _moved(state: ProxyState) -> str:
    if not state.moved_ports:
        return ""
    pairs = ", ".join(f"{wanted} as {bound}" for wanted, bound in state.moved_ports)
    return f"This machine refuses ports under 1024, so that the proxies serve port {pairs}."
