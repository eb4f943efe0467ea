"""Keeps the Node object, its status and its heartbeat Lease."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from inferway.api.resources import LEASES, NODES
from inferway.base.clock import rfc3339_micro
from inferway.base.errors import InferwayError
from inferway.cluster.client import PatchType
from inferway.cluster.errors import AlreadyExistsError, NotFoundError
from inferway.cluster.status import write_status
from inferway.local.node import capacity
from inferway.local.node.parts import NodeParts

_log = logging.getLogger(__name__)
Object = dict[str, Any]

# A kubelet's: the Lease often, the status seldom.
LEASE_SECONDS = 10.0
LEASE_DURATION_SECONDS = 40
STATUS_EVERY_LEASES = 30
RETRY_SECONDS = 0.5
LEASE_NAMESPACE = "kube-node-lease"


class Registration:
    """One Node object. ``port`` is the kubelet face's."""

    def __init__(self, parts: NodeParts, claimed: dict[str, str], port: int) -> None:
        self._parts = parts
        self._port = port
        self._claimed = claimed

    async def run(self) -> None:
        """Works until cancelled."""
        count = 0
        while True:
            try:
                if count % STATUS_EVERY_LEASES == 0:
                    await self._register()
                await self._renew()
            except InferwayError as error:
                _log.debug("a heartbeat was not written", extra={"data": {"error": str(error)}})
                if count == 0:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
            count += 1
            await asyncio.sleep(LEASE_SECONDS)

    async def _register(self) -> None:
        parts, options = self._parts, self._parts.options
        wanted = capacity.node_object(options, parts.isolation.annotation)
        annotation = wanted["metadata"]["annotations"]
        offset = {
            "inferway.dev/privileged-port-offset": str(parts.port_offset),
            "inferway.dev/limits": parts.limits.annotation,
            "inferway.dev/pick-module": parts.pick_module.annotation,
        }
        wanted["metadata"]["annotations"] = {**annotation, **offset}
        try:
            current = await parts.client.create(NODES, wanted)
        except AlreadyExistsError:
            current = await parts.client.patch(
                NODES, options.name, {"metadata": wanted["metadata"]}, patch_type=PatchType.MERGE
            )
        status = capacity.node_status(options, self._claimed, current, self._port)
        await write_status(parts.client, NODES, current, status)

    async def _renew(self) -> None:
        parts, name = self._parts, self._parts.options.name
        now = rfc3339_micro(parts.options.clock.wall())
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_DURATION_SECONDS,
            "renewTime": now,
        }
        try:
            await parts.client.patch(LEASES, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFoundError:
            lease: Object = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": name, "namespace": LEASE_NAMESPACE},
                "spec": spec,
            }
            await parts.client.create(LEASES, lease)
