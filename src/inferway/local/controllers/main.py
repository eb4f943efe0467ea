"""Runs all controllers of a local cluster in one task group.

The table of controllers is here and nowhere else. Knows the API through a client only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from inferway.cluster.client import KubeClient
from inferway.cluster.events import EventRecorder
from inferway.cluster.workqueue import run_reconciler
from inferway.local.controllers import (
    accounts,
    addresses,
    deployment,
    discovery,
    endpoints,
    garbage_collector,
    job,
    namespaces,
    nodes,
    pod_gc,
    replicaset,
    scheduler,
    unserved,
)
from inferway.local.controllers.caches import Caches
from inferway.local.controllers.discovery import Inventory
from inferway.local.controllers.runtime import Context, Controller, ControllerOptions

__all__ = ["ControllerOptions", "run"]

# Each needs the context only; those that look at all kinds are added in ``build``.
_TABLE: tuple[Callable[[Context], Controller], ...] = (
    deployment.controller,
    replicaset.controller,
    job.controller,
    scheduler.controller,
    endpoints.controller,
    addresses.controller,
    accounts.controller,
    nodes.controller,
    pod_gc.controller,
    unserved.controller,
)


def build(context: Context, inventory: Inventory) -> list[Controller]:
    """All controllers, connected to their caches."""
    return [
        *(make(context) for make in _TABLE),
        garbage_collector.controller(context, inventory),
        namespaces.controller(context, inventory),
        discovery.controller(context, inventory),
    ]


async def run(
    client: KubeClient,
    options: ControllerOptions | None = None,
    *,
    started: asyncio.Event | None = None,
) -> None:
    """Runs until cancelled; ``started`` is set when the caches show the cluster."""
    options = options or ControllerOptions()
    recorders: dict[str, EventRecorder] = {}

    def recorder(component: str) -> EventRecorder:
        if component not in recorders:
            recorders[component] = EventRecorder(client, component, clock=options.clock)
        return recorders[component]

    caches = Caches(client)
    context = Context(client, caches, options, recorder)
    controllers = build(context, Inventory(caches))
    async with asyncio.TaskGroup() as group:
        caches.start(group)
        for name, one in recorders.items():
            group.create_task(one.run(), name=f"events-{name}")
        # A controller that works on half of a picture would make Pods twice.
        await caches.synced()
        for controller in controllers:
            group.create_task(
                run_reconciler(controller.queue, controller.reconcile, workers=controller.workers),
                name=controller.name,
            )
        if started is not None:
            started.set()
