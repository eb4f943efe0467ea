"""The status of a LoRAAdapter: what its picker says about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inferway.api.codec import Object, encode
from inferway.api.conditions import find_condition
from inferway.api.inferway import AdapterEndpoint, LoRAAdapterStatus
from inferway.api.meta import Condition
from inferway.picker.placement.objects import Adapter
from inferway.scheduling.placement.machine import Placement
from inferway.scheduling.placement.values import CopyState, Shortage

MESSAGE_CHARACTERS_MAX = 1024

_SHORT = {
    Shortage.NO_SERVER: "It can be nowhere: {why}.",
    Shortage.TOO_FEW_SERVERS: "Every server that can have it has it, and more are wanted.",
    Shortage.NO_SLOT: (
        "No server has a free slot for it (max_loras), and nothing that may make room."
    ),
    Shortage.BACKING_OFF: "Loading failed: {why}",
    Shortage.WAITING: "It is being loaded, or waits for a slot that comes free.",
}


@dataclass(frozen=True, slots=True)
class Said:
    """One condition without its time."""

    type: str
    holds: bool
    reason: str
    message: str


def status_of(one: Adapter, refused: str, placement: Placement, now: str) -> Object:
    """The whole status; ``refused`` says why the object is not served, ``now`` is RFC 3339."""
    endpoints = () if refused else endpoints_of(one.adapter, placement)
    loaded = sum(e.state == CopyState.LOADED for e in endpoints)
    said = [_accepted(refused), _placed(one, refused, loaded, placement)]
    status = LoRAAdapterStatus(
        conditions=tuple(_condition(one, condition, now) for condition in said),
        replicas=loaded,
        wanted_replicas=0 if refused else placement.last.wanted.get(one.adapter, 0),
        endpoints=endpoints,
    )
    raw = encode(status)
    # Columns of kubectl show a zero only where it is written.
    return {"replicas": 0, "wantedReplicas": 0} | raw


def endpoints_of(adapter: str, placement: Placement) -> tuple[AdapterEndpoint, ...]:
    """Servers that have it, get it, lose it, or failed to load it."""
    found: dict[str, AdapterEndpoint] = {}
    for (name, address), failure in placement.failures.items():
        if name == adapter:
            found[address] = _endpoint(
                placement, address, "Failed", message=failure.message[:MESSAGE_CHARACTERS_MAX]
            )
    for address, names in placement.foreign.items():
        if adapter in names:
            found[address] = _endpoint(placement, address, CopyState.LOADED)
    for (name, address), copy in placement.copies.items():
        if name == adapter:
            failure_here = placement.failures.get((name, address))
            found[address] = _endpoint(
                placement,
                address,
                copy.state,
                placed=True,
                source=copy.source,
                message=failure_here.message[:MESSAGE_CHARACTERS_MAX] if failure_here else "",
            )
    return tuple(found[address] for address in sorted(found))


def _endpoint(
    placement: Placement,
    address: str,
    state: str,
    *,
    placed: bool = False,
    source: str = "",
    message: str = "",
) -> AdapterEndpoint:
    return AdapterEndpoint(
        address=address,
        name=placement.names.get(address, ""),
        state=str(state),
        placed=placed,
        source=source,
        message=message,
    )


def _accepted(refused: str) -> Said:
    if refused:
        return Said("Accepted", False, "NameInUse", refused)
    return Said("Accepted", True, "Accepted", "The pool's picker places this adapter.")


def _placed(one: Adapter, refused: str, loaded: int, placement: Placement) -> Said:
    if refused:
        return Said("Placed", False, "NotAccepted", "The adapter is not accepted.")
    shortage = placement.last.short.get(one.adapter)
    if shortage is not None:
        message = _SHORT[shortage].format(why=placement.hopeless(one.adapter))
        return Said("Placed", False, shortage.value, message)
    coming = sum(
        name == one.adapter and copy.state is CopyState.LOADING
        for (name, _), copy in placement.copies.items()
    )
    wish = placement.wishes.get(one.adapter)
    if coming and loaded < max(wish.least if wish else 0, 1):
        message = _SHORT[Shortage.WAITING]
        return Said("Placed", False, Shortage.WAITING.value, message)
    if loaded:
        servers = "1 server has" if loaded == 1 else f"{loaded} servers have"
        return Said("Placed", True, "Placed", f"{servers} it.")
    if wish is not None and not wish.on_demand and wish.least == 0:
        message = "No server has it; minReplicas is 0 and loadOnDemand is off."
        return Said("Placed", True, "NotWanted", message)
    return Said("Placed", True, "OnDemand", "No server has it; the first request loads it.")


def _condition(one: Adapter, said: Said, now: str) -> Condition:
    status = "True" if said.holds else "False"
    before = find_condition(one.value.status.conditions, said.type)
    same = before is not None and before.status == status
    return Condition(
        type=said.type,
        status=status,
        observed_generation=one.value.metadata.generation,
        last_transition_time=before.last_transition_time if same and before else now,
        reason=said.reason,
        message=said.message,
    )


def placed_before(one: Adapter, on_server: tuple[str, ...]) -> Mapping[str, AdapterEndpoint]:
    """By address: the copies that a picker before us has placed, as its status says."""
    return {
        endpoint.address: endpoint
        for endpoint in one.value.status.endpoints
        if endpoint.placed and endpoint.state in on_server
    }
