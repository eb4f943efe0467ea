"""LoRAAdapters of one pool as wishes, and which of them can not be had. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from inferway.api.codec import Object, decode
from inferway.api.inference import INFERENCE_GROUP
from inferway.api.inferway import LoRAAdapter
from inferway.base import durations
from inferway.cluster.store import Key
from inferway.scheduling.placement.values import Wish

RESIDENCY_SECONDS = 3.0
PICK_TIMEOUT_ANNOTATION = "inferway.dev/pick-timeout"
# What the gateway gives a pick without the annotation, and the most that it gives.
PICK_SECONDS = 5.0
PICK_SECONDS_MAX = 600.0
# States of an endpoint in a status that no new request may go to.
LEAVING_STATES = ("Draining", "Unloading")
ON_SERVER_STATES = ("Loading", "Loaded", *LEAVING_STATES)


@dataclass(frozen=True, slots=True)
class Adapter:
    """One object: as it is on the wire, and decoded."""

    raw: Object
    value: LoRAAdapter

    @property
    def key(self) -> Key:
        return Key(self.value.metadata.namespace, self.value.metadata.name)

    @property
    def adapter(self) -> str:
        """The model name that requests use."""
        assert self.value.spec is not None
        return self.value.spec.adapter_name or self.value.metadata.name


@dataclass(frozen=True, slots=True)
class Reading:
    """The objects of one pool; ``refused`` says why an object is not served."""

    adapters: tuple[Adapter, ...]
    wishes: Mapping[str, Wish]
    # Adapter name -> the object that it is wished by.
    owners: Mapping[str, Adapter]
    refused: Mapping[Key, str]


def decode_adapter(raw: Object) -> Adapter:
    """Raises codec.DecodeError."""
    return Adapter(raw, decode(LoRAAdapter, raw))


def read(objects: Iterable[Adapter], pool: str, group: str, base_models: frozenset[str]) -> Reading:
    """The pool's adapters. Of two objects with one name the older is served."""
    mine = sorted((one for one in objects if _is_of(one, pool, group)), key=_age)
    owners: dict[str, Adapter] = {}
    refused: dict[Key, str] = {}
    for one in mine:
        name = one.adapter
        if name in base_models:
            refused[one.key] = f"The pool has a base model of the name {name}."
        elif name in owners:
            other = owners[name].value.metadata.name
            refused[one.key] = f"LoRAAdapter {other}, which is older, has the name {name}."
        elif not one.value.metadata.deleting:
            owners[name] = one
    return Reading(
        tuple(mine), {name: wish_of(one) for name, one in owners.items()}, owners, refused
    )


def wish_of(one: Adapter) -> Wish:
    """What the object asks for."""
    spec = one.value.spec
    assert spec is not None
    return Wish(
        adapter=one.adapter,
        source=spec.source,
        base_model=spec.base_model,
        replicas_min=max(spec.min_replicas, 0),
        replicas_max=max(spec.max_replicas or 0, 0),
        pinned=spec.pinned,
        on_demand=spec.load_on_demand,
        residency_seconds=_seconds(spec.min_residency),
    )


def offered(wishes: Mapping[str, Wish], there: Container[str], base: str) -> bytes:
    """A list of models as a server would tell it: what no server has and a request would load."""
    cards = [
        {
            "id": wish.adapter,
            "object": "model",
            "created": 0,
            "owned_by": "inferway",
            "root": wish.source,
            "parent": wish.base_model or base,
        }
        for wish in wishes.values()
        if wish.on_demand and wish.adapter not in there
    ]
    return msgspec.json.encode({"object": "list", "data": cards})


def pick_seconds(annotations: Mapping[str, str]) -> float:
    """How long the gateway waits for a pick; a wrong annotation is the gateway's to complain of."""
    try:
        seconds = durations.parse_gateway(annotations.get(PICK_TIMEOUT_ANNOTATION, ""))
    except ValueError:
        return PICK_SECONDS
    return seconds if 0 < seconds <= PICK_SECONDS_MAX else PICK_SECONDS


def leaving(objects: Iterable[Adapter], pool: str, group: str) -> frozenset[tuple[str, str]]:
    """(adapter, address) that the picker which places says are about to go."""
    return frozenset(
        (one.adapter, endpoint.address)
        for one in objects
        if _is_of(one, pool, group)
        for endpoint in one.value.status.endpoints
        if endpoint.placed and endpoint.state in LEAVING_STATES
    )


def _is_of(one: Adapter, pool: str, group: str) -> bool:
    spec = one.value.spec
    if spec is None or not spec.source or spec.pool_ref.name != pool:
        return False
    return (
        spec.pool_ref.kind in ("InferencePool", "")
        # The stable group is the default; an object without a group means this very pool.
        and (spec.pool_ref.group or INFERENCE_GROUP) in (group, INFERENCE_GROUP)
    )


def _age(one: Adapter) -> tuple[str, str]:
    meta = one.value.metadata
    return meta.creation_timestamp, meta.name


def _seconds(text: str) -> float:
    try:
        return durations.parse_gateway(text)
    except ValueError:
        return RESIDENCY_SECONDS
