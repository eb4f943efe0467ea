"""The gateway controller as a program: informers, translation, xDS, statuses.

Proxies of a controller that stops keep what they have.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping, Sequence

from inferway.base.clock import SystemClock
from inferway.cluster import kubeconfig, leader
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.cluster.workqueue import WorkQueue, run_reconciler
from inferway.gateway.controller import web
from inferway.gateway.controller.brain import Brain
from inferway.gateway.controller.options import Options, parse
from inferway.gateway.controller.watches import Watches
from inferway.gateway.controller.writer import Work, Writer
from inferway.gateway.envoy.resources import Options as BuildOptions
from inferway.gateway.translate.snapshot import Key as ObjectKey
from inferway.gateway.xds.hub import Hub
from inferway.gateway.xds.server import serve as serve_xds

_log = logging.getLogger(__name__)

# Changes come in bursts (a rollout, an apply of several files); waiting this long for the rest of
# one costs nobody anything.
COALESCE_SECONDS = 0.003
LEASE = "inferway-gateway-controller"
# How long a port that was in use and became free stays unserved.
RETRY_REFUSED_SECONDS = 30.0


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs until a signal ends it."""
    options = parse(argv, env)
    config = (
        kubeconfig.load(options.kubeconfig) if options.kubeconfig else kubeconfig.in_cluster(env)
    )
    asyncio.run(_until_signal(config, options))
    return 0


async def _until_signal(config: kubeconfig.ClusterConfig, options: Options) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with (
        KubeClient(config, user_agent="inferway-gateway-controller") as client,
        asyncio.TaskGroup() as group,
    ):
        work = group.create_task(run(client, options), name="controller")
        group.create_task(_end(ended, work), name="signals")


async def _end(ended: asyncio.Event, work: asyncio.Task[None]) -> None:
    await ended.wait()
    work.cancel()


async def run(client: KubeClient, options: Options) -> None:
    """Works until cancelled."""
    await Controller(client, options).run()


class Controller:
    """Wires the parts together."""

    def __init__(self, client: KubeClient, options: Options) -> None:
        self._client = client
        self._options = options
        self._dirty = asyncio.Event()
        self._thought = False
        self._leads = False
        self._queue: WorkQueue[Work] = WorkQueue("gateway")
        self.hub = Hub(self._proxies_changed)
        self.brain = Brain(
            self.hub,
            BuildOptions(options.pool_header, options.tracing),
            self._status_changed,
        )
        self.watches = Watches(client, inference=options.inference, changed=self._dirty.set)
        self._writer = Writer(client, self.watches, self.brain, options, SystemClock())

    async def run(self) -> None:
        options = self._options
        xds = f"{_host(options.bind_address)}:{options.xds_port}"
        metrics = (options.bind_address, options.metrics_port)
        async with (
            serve_xds(self.hub, xds),
            web.serve(metrics, lambda: self._thought, self._metrics),
            asyncio.TaskGroup() as group,
        ):
            _log.info("serves xDS", extra={"data": {"address": xds}})
            self.watches.start(group)
            group.create_task(self._think(), name="translate")
            group.create_task(self._writer.events.run(), name="events")
            group.create_task(self._retry_refused(), name="retry-refused")
            group.create_task(
                leader.run(self._client, LEASE, options.namespace, options.pod_name, self._write),
                name="leader",
            )

    async def _think(self) -> None:
        await self.watches.wait()
        while True:
            await self._dirty.wait()
            await asyncio.sleep(COALESCE_SECONDS)
            self._dirty.clear()
            self.brain.think(self.watches.snapshot())
            self._thought = True
            # Services and Deployments of proxies are no part of a translation.
            for key in self.brain.result.gateways:
                self._status_changed("Gateway", key)

    async def _retry_refused(self) -> None:
        while True:
            await asyncio.sleep(RETRY_REFUSED_SECONDS)
            self.hub.retry()

    async def _write(self) -> None:
        self._leads = True
        try:
            await self.watches.wait()
            for work in self._writer.everything():
                self._queue.add(work)
            await run_reconciler(self._queue, self._writer.reconcile)
        finally:
            self._leads = False

    def _status_changed(self, kind: str, key: ObjectKey) -> None:
        if self._leads:
            self._queue.add((kind, Key(*key)))

    def _proxies_changed(self, gateway: str) -> None:
        namespace, _, name = gateway.partition("/")
        self._status_changed("Gateway", (namespace, name))

    def _metrics(self) -> str:
        return web.metrics_text(self.brain, self.hub)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
