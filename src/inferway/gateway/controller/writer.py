"""Writes what the controller owns: statuses, the proxies' objects, further GatewayClasses.

Level-based: a key says what to look at, and the look decides. Only the leader writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from inferway.api import resources
from inferway.api.codec import Object
from inferway.api.resources import ResourceType
from inferway.base.clock import Clock
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient
from inferway.cluster.errors import NotFoundError
from inferway.cluster.events import EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.status import write_status
from inferway.cluster.store import Key
from inferway.gateway.controller.brain import Brain
from inferway.gateway.controller.options import Options
from inferway.gateway.controller.statuses import merged_parents, stamped
from inferway.gateway.controller.watches import Stored, Watches
from inferway.gateway.proxy.bootstrap import Xds
from inferway.gateway.proxy.naming import object_name
from inferway.gateway.proxy.objects import ProxyObjects, proxy_objects
from inferway.gateway.proxy.parameters import parameters
from inferway.gateway.proxy.status import ProxyState, complete
from inferway.gateway.translate.snapshot import CONTROLLER_NAME
from inferway.gateway.translate.translation import PlannedGateway

_log = logging.getLogger(__name__)

FIELD_MANAGER = "inferway-gateway-controller"
# The class that the chart brings; further classes are owned by it and go with it.
MAIN_CLASS = "inferway"

Work = tuple[str, Key]
"""Kind and key of what is to be looked at."""


class Writer:
    """``reconcile`` brings one object to what the brain says about it."""

    def __init__(
        self, client: KubeClient, watches: Watches, brain: Brain, options: Options, clock: Clock
    ) -> None:
        self.events = EventRecorder(client, "inferway-gateway-controller", clock=clock)
        self._client = client
        self._watches = watches
        self._brain = brain
        self._options = options
        self._clock = clock
        self._applied: dict[Key, ProxyObjects] = {}
        self._refused: dict[Key, tuple[str, ...]] = {}

    async def reconcile(self, work: Work) -> float | None:
        kind, key = work
        if kind == "Gateway":
            await self._gateway(key)
        elif kind == "HTTPRoute":
            ours = self._brain.result.route_statuses.get(key) or []
            await self._parents(resources.HTTP_ROUTES, self._watches.routes, key, ours)
        elif kind == "InferencePool" and self._watches.pools is not None:
            ours = self._brain.result.pool_statuses.get(key) or []
            await self._parents(resources.INFERENCE_POOLS, self._watches.pools, key, ours)
        elif kind == "GatewayClass":
            await self._class(key)
        return None

    def everything(self) -> list[Work]:
        """All that there may be to write, for a new leader."""
        result = self._brain.result
        found = [("Gateway", Key(*key)) for key in result.gateways]
        found += [("GatewayClass", Key(*key)) for key in result.class_statuses]
        found += [("HTTPRoute", key) for key in self._watches.routes.store]
        if self._watches.pools is not None:
            found += [("InferencePool", key) for key in self._watches.pools.store]
        return found

    async def _gateway(self, key: Key) -> None:
        plan = self._brain.result.gateways.get(key)
        stored = self._watches.gateways.store.get(key)
        if plan is None or stored is None:
            self._applied.pop(key, None)
            self._refused.pop(key, None)
            return
        trouble = await self._proxies(key, plan) if plan.accepted else ""
        state = self._brain.proxies(key)
        if trouble:
            state = ProxyState(trouble=trouble)
        self._tell(key, plan, state)
        name = object_name(key.name, plan.gateway.spec.gateway_class_name)
        service = self._watches.services.store.get(Key(key.namespace, name))
        wanted = stamped(complete(plan, service, state), stored.status, self._clock.wall())
        await self._write(resources.GATEWAYS, key, stored, wanted)

    async def _proxies(self, key: Key, plan: PlannedGateway) -> str:
        """Applies the proxies' objects if they differ; what is in the way, in words."""
        xds = self._xds()
        if xds is None:
            return (
                f"The controller's Service {self._options.namespace}/{self._options.xds_service} "
                "has no cluster address."
            )
        snapshot = self._brain.snapshot
        gateway_class = snapshot.gateway_classes.get(("", plan.gateway.spec.gateway_class_name))
        if gateway_class is None:
            return ""
        ports = tuple(port.number for port in plan.ir.ports)
        chosen = parameters(snapshot, gateway_class, plan.gateway)
        objects = proxy_objects(plan.gateway, ports, chosen, xds)
        place = Key(key.namespace, objects.name)
        there = place in self._watches.deployments.store and place in self._watches.services.store
        if there and self._applied.get(key) == objects:
            return ""
        try:
            # The Service first: a local proxy binds the address that it gets.
            service = await self._client.apply(resources.SERVICES, objects.service, FIELD_MANAGER)
            self._watches.services.absorb(service)
            made = await self._client.apply(
                resources.DEPLOYMENTS, objects.deployment, FIELD_MANAGER
            )
            self._watches.deployments.absorb(made)
        except InferwayError as error:
            self.events.event(_reference(plan), "Warning", "ProxyNotApplied", str(error))
            raise
        self._applied[key] = objects
        await self._clean(key, plan, objects.name)
        return ""

    async def _clean(self, key: Key, plan: PlannedGateway, name: str) -> None:
        """Removes what the Gateway had under another class."""
        for place, owned in list(self._watches.deployments.store.items()):
            same = place.namespace == key.namespace and owned.gateway == plan.gateway.metadata.name
            if not same or place.name == name:
                continue
            for resource in (resources.DEPLOYMENTS, resources.SERVICES):
                try:
                    await self._client.delete(resource, place.name, place.namespace)
                except NotFoundError:
                    continue

    def _xds(self) -> Xds | None:
        if not self._options.xds_service:
            return Xds(self._options.pod_ip or self._options.bind_address, self._options.xds_port)
        place = Key(self._options.namespace, self._options.xds_service)
        service = self._watches.services.store.get(place)
        if service is None or service.spec.cluster_ip in ("", "None"):
            return None
        port = next((p.port for p in service.spec.ports if p.name == "xds"), 0)
        return Xds(service.spec.cluster_ip, port or self._options.xds_port)

    def _tell(self, key: Key, plan: PlannedGateway, state: ProxyState) -> None:
        if state.refusals == self._refused.get(key, ()):
            return
        self._refused[key] = state.refusals
        for text in state.refusals:
            self.events.event(_reference(plan), "Warning", "ConfigurationRefused", text)

    async def _class(self, key: Key) -> None:
        wanted = self._brain.result.class_statuses.get(key)
        stored = self._watches.classes.store.get(key)
        if wanted is None or stored is None:
            return
        if key.name == MAIN_CLASS:
            await self._extra_classes(stored)
        status = stamped(wanted, stored.status, self._clock.wall())
        await self._write(resources.GATEWAY_CLASSES, key, stored, status)

    async def _extra_classes(self, main: Stored[Any]) -> None:
        for name in self._options.extra_classes:
            if Key("", name) in self._watches.classes.store:
                # It is there, ours or another controller's, which stays as it is.
                continue
            owner = {
                "apiVersion": resources.GATEWAY_CLASSES.api_version,
                "kind": "GatewayClass",
                "name": MAIN_CLASS,
                "uid": main.value.metadata.uid,
            }
            made = await self._client.apply(
                resources.GATEWAY_CLASSES,
                {
                    "metadata": {"name": name, "ownerReferences": [owner]},
                    "spec": {
                        "controllerName": CONTROLLER_NAME,
                        "description": f"Served by {MAIN_CLASS}, for manifests that name it.",
                    },
                },
                FIELD_MANAGER,
            )
            self._watches.classes.absorb(made)

    async def _parents(
        self, resource: ResourceType, informer: Informer[Any], key: Key, ours: list[Object]
    ) -> None:
        """Writes our entries of ``status.parents``. The list is one value for the API, so the
        entries of others are written back, and a version guards them."""
        stored = informer.store.get(key)
        entry = informer.store.entry(key)
        if stored is None or entry is None:
            return
        current = stored.status.get("parents") or []
        wanted = merged_parents(ours, current, self._clock.wall())
        if wanted == current:
            return
        body = {
            "metadata": {"resourceVersion": str(entry.version)},
            "status": {"parents": wanted},
        }
        try:
            written = await self._client.patch(
                resource,
                key.name,
                body,
                key.namespace,
                subresource="status",
                field_manager=FIELD_MANAGER,
            )
        except NotFoundError:
            return
        informer.absorb(written)

    async def _write(
        self, resource: ResourceType, key: Key, stored: Stored[Any], wanted: Object
    ) -> None:
        meta = {"name": key.name, "namespace": key.namespace, "uid": stored.value.metadata.uid}
        current: Mapping[str, Any] = {"metadata": meta, "status": stored.status}
        try:
            await write_status(self._client, resource, current, wanted)
        except NotFoundError:
            return


def _reference(plan: PlannedGateway) -> Object:
    meta = plan.gateway.metadata
    return {
        "apiVersion": resources.GATEWAYS.api_version,
        "kind": "Gateway",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
    }
