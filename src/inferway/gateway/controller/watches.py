"""The collections that the controller looks at, and the snapshot that they make together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from inferway.api import resources
from inferway.api.codec import Object, decode
from inferway.api.core import Namespace, Pod, Service
from inferway.api.discovery import EndpointSlice
from inferway.api.gateway import Gateway, GatewayClass, HTTPRoute, ReferenceGrant
from inferway.api.inference import InferenceModelRewrite, InferencePool
from inferway.api.inferway import GatewayParameters
from inferway.api.resources import ResourceType
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.gateway.proxy.naming import MANAGED_BY, MANAGED_BY_LABEL
from inferway.gateway.translate.snapshot import PodView, Snapshot, pod_view

T = TypeVar("T")

# What changes with each write of a status and means nothing here.
_NOISE = ("resourceVersion", "managedFields")


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A typed object without its status, and the status as it is on the wire."""

    value: T
    status: Object


@dataclass(frozen=True, slots=True)
class Owned:
    """An object that this controller made: the Gateway that it belongs to."""

    gateway: str
    uid: str


def _without_noise(raw: Object) -> Object:
    meta = {key: value for key, value in raw["metadata"].items() if key not in _NOISE}
    return {**raw, "metadata": meta}


def _plain(type_: type[T]) -> Callable[[Object], T]:
    return lambda raw: decode(type_, _without_noise(raw))


def _stored(type_: type[T]) -> Callable[[Object], Stored[T]]:
    def make(raw: Object) -> Stored[T]:
        rest = {key: value for key, value in _without_noise(raw).items() if key != "status"}
        return Stored(decode(type_, rest), raw.get("status") or {})

    return make


def _pod(raw: Object) -> PodView:
    return pod_view(decode(Pod, raw))


def _rewrite(raw: Object) -> InferenceModelRewrite:
    """Without its status, which other programs write."""
    rest = {key: value for key, value in _without_noise(raw).items() if key != "status"}
    return decode(InferenceModelRewrite, rest)


def _owned(raw: Object) -> Owned:
    owners = raw["metadata"].get("ownerReferences") or []
    name = next((item["name"] for item in owners if item.get("kind") == "Gateway"), "")
    return Owned(name, raw["metadata"].get("uid", ""))


class Watches:
    """All informers. ``changed`` is called after any of them changed."""

    def __init__(self, client: KubeClient, *, inference: bool, changed: Callable[[], None]) -> None:
        make = _Maker(client, changed)
        self.classes = make(resources.GATEWAY_CLASSES, _stored(GatewayClass))
        self.gateways = make(resources.GATEWAYS, _stored(Gateway))
        self.routes = make(resources.HTTP_ROUTES, _stored(HTTPRoute))
        self.grants = make(resources.REFERENCE_GRANTS, _plain(ReferenceGrant), optional=True)
        self.parameters = make(
            resources.GATEWAY_PARAMETERS, _plain(GatewayParameters), optional=True
        )
        self.namespaces = make(resources.NAMESPACES, _plain(Namespace))
        self.services = make(resources.SERVICES, _plain(Service))
        self.slices = make(resources.ENDPOINT_SLICES, _plain(EndpointSlice))
        self.pods = make(resources.PODS, _pod)
        self.deployments = make(
            resources.DEPLOYMENTS, _owned, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}"
        )
        self.pools: Informer[Stored[InferencePool]] | None = None
        self.rewrites: list[Informer[InferenceModelRewrite]] = []
        if inference:
            self.pools = make(resources.INFERENCE_POOLS, _stored(InferencePool), optional=True)
            self.rewrites = [
                make(kind, _rewrite, optional=True)
                for kind in (
                    resources.INFERENCE_MODEL_REWRITES,
                    resources.LEGACY_INFERENCE_MODEL_REWRITES,
                )
            ]
        self._all = make.made

    @property
    def synced(self) -> bool:
        return all(informer.synced.is_set() for informer in self._all)

    async def wait(self) -> None:
        """Until every collection was listed once."""
        for informer in self._all:
            await informer.synced.wait()

    def start(self, group: asyncio.TaskGroup) -> None:
        for informer in self._all:
            group.create_task(informer.run(), name=f"watch-{informer.resource.plural}")

    def broken(self) -> Mapping[str, str]:
        """Objects that can not be read, by kind and key."""
        return {
            f"{informer.resource.kind} {key}": text
            for informer in self._all
            for key, text in informer.broken.items()
        }

    def snapshot(self) -> Snapshot:
        rewrites = [_objects(informer) for informer in self.rewrites] or [{}, {}]
        return Snapshot(
            model_rewrites=rewrites[0],
            legacy_model_rewrites=rewrites[1],
            gateway_classes=_values(self.classes),
            gateways=_values(self.gateways),
            http_routes=_values(self.routes),
            reference_grants=_objects(self.grants),
            inference_pools=_values(self.pools) if self.pools is not None else {},
            gateway_parameters=_objects(self.parameters),
            namespaces=_objects(self.namespaces),
            services=_objects(self.services),
            endpoint_slices=_objects(self.slices),
            pods=_objects(self.pods),
        )


class _Maker:
    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        self.made: list[Informer[Any]] = []
        self._client = client
        self._changed = changed

    def __call__(
        self,
        resource: ResourceType,
        decode_: Callable[[Object], T],
        *,
        optional: bool = False,
        labels: str = "",
    ) -> Informer[T]:
        informer = Informer(
            self._client, resource, decode=decode_, optional=optional, labels=labels
        )
        informer.subscribe(lambda _: self._changed())
        self.made.append(informer)
        return informer


def _values(informer: Informer[Stored[T]]) -> dict[tuple[str, str], T]:
    return {key: item.value for key, item in informer.store.items()}


def _objects(informer: Informer[T]) -> dict[tuple[str, str], T]:
    return dict(informer.store.items())
