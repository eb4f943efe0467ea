"""Services: which address and port leads to which endpoints, and the process that forwards.

``routes`` is pure. ``ServiceForwarding`` watches Services and EndpointSlices and tells the
forwarding process. Load balancer addresses are left alone: a proxy Pod binds them itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Any

from inferway.api import codec
from inferway.api.core import Service
from inferway.api.discovery import SERVICE_NAME_LABEL, EndpointSlice
from inferway.api.resources import ENDPOINT_SLICES
from inferway.cluster.client import KubeClient
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.local.node.sandbox import messages
from inferway.local.node.sandboxes import Launcher, listening_socket

_log = logging.getLogger(__name__)
Object = dict[str, Any]
Place = tuple[str, int]

# Several changes of one rollout become one round.
SETTLE_SECONDS = 0.01
RESTART_SECONDS = 0.5
# Services have 127.N.128.1 to 127.N.255.254.
SERVICE_THIRD_MIN = 128


def routes(
    services: Iterable[Service], slices: Iterable[EndpointSlice]
) -> dict[Place, list[Place]]:
    """Cluster address and port to ready endpoints; a port without endpoints is left out."""
    by_service: dict[tuple[str, str], list[EndpointSlice]] = {}
    for one in slices:
        name = one.metadata.labels.get(SERVICE_NAME_LABEL, "")
        by_service.setdefault((one.metadata.namespace, name), []).append(one)
    found: dict[Place, list[Place]] = {}
    for service in services:
        address = service.spec.cluster_ip
        if not address or address == "None" or service.spec.type == "ExternalName":
            continue
        own = by_service.get((service.metadata.namespace, service.metadata.name), [])
        for port in service.spec.ports:
            if port.protocol != "TCP":
                continue
            targets = sorted(_targets(own, port.name))
            if targets:
                found[address, port.port] = targets
    return found


def _targets(slices: list[EndpointSlice], port_name: str) -> set[Place]:
    return {
        (address, port.port)
        for one in slices
        for port in one.ports
        if port.name == port_name and port.port is not None
        for endpoint in one.endpoints
        if endpoint.ready
        for address in endpoint.addresses
    }


class ServiceForwarding:
    """Keeps the forwarding process in step; ``run`` works until cancelled."""

    def __init__(
        self, client: KubeClient, launcher: Launcher, services: Informer[Object], network: str
    ) -> None:
        self.slices: Informer[Object] = Informer(client, ENDPOINT_SLICES)
        self._services = services
        self._launcher = launcher
        self._network = network
        self._changed = asyncio.Event()
        self._control: socket.socket | None = None
        self._keys: dict[Place, int] = {}
        self._told: dict[Place, list[Place]] = {}
        self._refused: set[Place] = set()
        self._serial = 0

    async def run(self) -> None:
        """Follows the caches, and starts the process anew if it has ended."""
        self._services.subscribe(lambda _: self._changed.set())
        self.slices.subscribe(self._note)
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(SETTLE_SECONDS)
                self._changed.clear()
                try:
                    await self._round()
                except OSError as error:
                    data = {"error": str(error)}
                    _log.warning("forwarding to Services begins anew", extra={"data": data})
                    self._drop()
                    await asyncio.sleep(RESTART_SECONDS)
                    self._changed.set()
        finally:
            self._drop()

    def _note(self, _: Key) -> None:
        self._changed.set()

    def _drop(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            control.close()
        self._keys.clear()
        self._told.clear()

    async def _round(self) -> None:
        if self._control is None:
            self._control = await self._launcher.services()
            self._control.setblocking(False)
        wanted = routes(
            _decoded(self._services.store, Service), _decoded(self.slices.store, EndpointSlice)
        )
        wanted = {place: ends for place, ends in wanted.items() if self._is_ours(place)}
        for place in [place for place in self._told if place not in wanted]:
            messages.send(self._control, ("unlisten", self._keys.pop(place)))
            del self._told[place]
        for place, targets in wanted.items():
            if self._told.get(place) != targets:
                self._tell(place, targets)

    def _is_ours(self, place: Place) -> bool:
        """Cluster addresses are in the upper half; the API server's own is not forwarded."""
        prefix, _, rest = place[0].partition(f"{self._network}.")
        third = rest.partition(".")[0]
        return prefix == "" and third.isdigit() and int(third) >= SERVICE_THIRD_MIN

    def _tell(self, place: Place, targets: list[Place]) -> None:
        assert self._control is not None
        if place in self._keys:
            messages.send(self._control, ("targets", self._keys[place], targets))
            self._told[place] = targets
            return
        try:
            listener = listening_socket(*place)
        except OSError as error:
            if place not in self._refused:
                self._refused.add(place)
                data = {"address": f"{place[0]}:{place[1]}", "error": str(error)}
                _log.info("a Service's port cannot be listened on", extra={"data": data})
            return
        self._serial += 1
        self._keys[place] = self._serial
        messages.send(self._control, ("targets", self._serial, targets))
        messages.send(self._control, ("listen", self._serial), (listener.fileno(),))
        listener.close()
        self._told[place] = targets


def _decoded(store: Mapping[Key, Object], kind: type[Any]) -> list[Any]:
    found = []
    for key, raw in store.items():
        try:
            found.append(codec.decode(kind, raw))
        except codec.DecodeError as error:
            data = {"object": str(key), "error": str(error)}
            _log.warning("an object cannot be read", extra={"data": data})
    return found
