"""Puts the picker together, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import logging
import random
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from inferway.base.clock import Clock
from inferway.base.errors import InferwayError
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.picker import admin, feedback, health, metrics_text
from inferway.picker.annotations import hold_limits
from inferway.picker.debug import DecisionRing
from inferway.picker.doorway import PickServer
from inferway.picker.flags import Options
from inferway.picker.holding import Holder
from inferway.picker.metrics_text import Names
from inferway.picker.placement.address import own_address
from inferway.picker.placement.keeper import PlacementKeeper
from inferway.picker.placement.metrics import PlacementCollector
from inferway.picker.pool_metrics import PoolCollector
from inferway.picker.rewrites import RewriteWatcher
from inferway.picker.scrape import ScrapeOptions, Scraper
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import PickerCollector, ScrapeView, Telemetry
from inferway.picker.watch import PoolWatcher
from inferway.scheduling.decision import Policy
from inferway.scheduling.events import Event, Tick
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.rewrite import RewriteTable
from inferway.scheduling.snapshot import Endpoint

_log = logging.getLogger(__name__)

# Readiness waits this long for the servers to tell what they serve; a server that hangs
# must not keep the picker out.
MODELS_WAIT_SECONDS = 2.0
# Not ready, still answering: the time in which proxies learn of it.
DRAIN_SECONDS = 0.5
# Log entries of the last requests may still come.
FEEDBACK_GRACE_SECONDS = 0.5
TICK_SECONDS = 1.0
# A full collection walks the prefix index; with these thresholds it comes about once in
# a hundred million allocations that survive, and young ones stay cheap.
GC_THRESHOLDS = (50_000, 50, 1000)


class Picker:
    """All parts of one picker process, wired; ``run`` starts them."""

    def __init__(self, options: Options, policy: Policy, clock: Clock, identity: str) -> None:
        self._options = options
        self._clock = clock
        self._identity = identity
        self.key = Key(options.text("pool-namespace"), options.text("pool-name"))
        self.scheduler = PoolScheduler(policy)
        self.ring = DecisionRing(clock)
        self.telemetry = Telemetry(
            f"{self.key.namespace}/{self.key.name}", self.scheduler, self.ring
        )
        self.scraper = Scraper(self.scheduler, clock, scrape_options(options))
        self.hold = Holder(clock)
        self.placement = PlacementKeeper(
            self.key,
            options.text("pool-group"),
            self.scheduler,
            self.scraper,
            scrape_options(options),
            clock,
        )
        self.pool = PoolRuntime(
            self.scheduler,
            refresh=self.scraper.refresh,
            listing=self.scraper.listing,
            hold=self.hold,
            adapters=self.placement,
        )
        rng = random.Random()
        self.service = PickService(
            {(self.key.namespace, self.key.name): self.pool}, clock, rng, self.telemetry, identity
        )
        self.callout = PickServer(self.service, self.settle)
        self.watcher: PoolWatcher | None = None
        self.rewrites: RewriteWatcher | None = None
        self.ports: dict[str, int] = {}
        self._endpoints_told = asyncio.Event()
        self._draining = False
        self._complaints: list[str] = []

    # -- events ----------------------------------------------------------------------------

    def settle(self, event: Event) -> None:
        """Applies what became known of a request."""
        ended = self.scheduler.settle(event, self._clock.monotonic())
        self.telemetry.settled(event, ended)

    def set_endpoints(self, endpoints: list[Endpoint]) -> None:
        """Makes these the pool's endpoints."""
        added, removed = self.scheduler.set_endpoints(endpoints, self._clock.monotonic())
        if added or removed:
            _log.info("endpoints", extra={"data": {"added": added, "removed": removed}})
        self.scraper.set_endpoints(endpoints)
        self.hold.set_endpoints(len(endpoints))
        self._endpoints_told.set()

    def set_annotations(self, annotations: Mapping[str, str]) -> None:
        """What the pool's annotations ask for."""
        limits, complaints = hold_limits(annotations)
        if complaints != self._complaints:
            self._complaints = complaints
            if complaints:
                _log.warning("annotations of the pool", extra={"data": {"problems": complaints}})
        self.hold.set_limits(limits)
        self.placement.set_annotations(annotations)

    def set_rewrites(self, table: RewriteTable | None) -> None:
        """Which models stand for which."""
        self.pool.rewrites = table

    def not_ready(self) -> str:
        """What is missing, or nothing."""
        if self._draining:
            return "the picker is stopping"
        if self.watcher is not None and self.watcher.problem:
            return self.watcher.problem
        return "" if self.pool.synced else "the model servers have not been asked yet"

    # -- running ---------------------------------------------------------------------------

    async def run(self, client: KubeClient | None, stop: asyncio.Event) -> None:
        """Serves until ``stop``; then drains. Raises InferwayError if a port is taken."""
        async with self._listening(), asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(self.scraper.run(), name="scraper"),
                tasks.create_task(self._become_synced(), name="first models"),
                tasks.create_task(self._tick(), name="tick"),
            ]
            if client is not None:
                group = self._options.text("pool-group")
                self.watcher = PoolWatcher(
                    client, self.key, group, self.set_endpoints, self.set_annotations
                )
                work.append(tasks.create_task(self.watcher.run(), name="watch"))
                self.rewrites = RewriteWatcher(
                    client, self.key, group, self.set_rewrites, self._clock
                )
                work.append(tasks.create_task(self.rewrites.run(), name="watch rewrites"))
                place = f"{own_address(client, self._options)}:{self.ports['metrics']}"
                name = f"{place}/{self._identity}"
                work.append(tasks.create_task(self.placement.run(client, name), name="placement"))
            else:
                self.set_endpoints([Endpoint(a, a) for a in self._options.endpoints])
            await stop.wait()
            self._draining = True
            if client is not None:
                await asyncio.sleep(DRAIN_SECONDS)
            self.hold.stop()
            self.placement.stop()
            await self.callout.drain()
            for task in work:
                task.cancel()

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        address = self._options.text("bind-address")
        further = (
            PoolCollector(self.telemetry, self.key, self.hold),
            PlacementCollector(self.placement),
        )
        collector = PickerCollector(self.telemetry, ScrapeView(self._scrapes), further)
        app = admin.application(collector, self.ring, self.not_ready)
        self.placement.add_routes(app)
        runner = web.AppRunner(app, access_log=None)
        logs = feedback.server(feedback.FeedbackService(self.settle))
        checks = health.server(health.HealthService(lambda: not self.not_ready()))
        await runner.setup()
        try:
            await self._listen(address, runner, logs, checks)
            yield
        finally:
            await logs.stop(FEEDBACK_GRACE_SECONDS)
            await checks.stop(0)
            await runner.cleanup()

    async def _listen(self, address: str, runner: web.AppRunner, logs: Any, checks: Any) -> None:
        """Callout last, because who can reach it may use it."""
        o = self._options
        try:
            site = web.TCPSite(runner, address, o.number("metrics-port"))
            await site.start()
            self.ports["metrics"] = runner.addresses[0][1]
            for name, flag, server in (
                ("feedback", "feedback-port", logs),
                ("health", "grpc-health-port", checks),
            ):
                self.ports[name] = server.add_insecure_port(f"{_host(address)}:{o.number(flag)}")
                await server.start()
            await self.callout.listen_tcp(address, o.number("pick-port"))
            self.ports["pick"] = self.callout.port
            if o.text("pick-socket"):
                await self.callout.listen_unix(o.text("pick-socket"))
        except (OSError, RuntimeError) as error:
            raise InferwayError(
                "INFERWAY0410",
                f"the picker can not listen on {address}: {error}",
                fix="Free the port, or choose another one by its flag.",
            ) from None
        _log.info("listening", extra={"data": {"address": address, **self.ports}})

    async def _become_synced(self) -> None:
        await self._endpoints_told.wait()
        try:
            async with asyncio.timeout(MODELS_WAIT_SECONDS):
                await self.scraper.asked_all.wait()
                if self.rewrites is not None:
                    await self.rewrites.synced.wait()
                    await self.placement.synced.wait()
        except TimeoutError:
            _log.warning("not every model server, or the cluster, has told what is served")
        self.pool.synced = True

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.settle(Tick())

    def _scrapes(self) -> list[tuple[str, float | None, int]]:
        now = self._clock.monotonic()
        return [
            (address, None if t.metrics_at is None else now - t.metrics_at, t.errors)
            for address, t in self.scraper.targets.items()
        ]


async def run(
    options: Options, policy: Policy, env: Mapping[str, str], clock: Clock, identity: str
) -> int:
    """The process: signals, client, garbage collector."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.without_effect:
        flags = list(options.without_effect)
        _log.info("flags without effect in this picker", extra={"data": {"flags": flags}})
    if options.number("v") >= 4:
        logging.getLogger("inferway").setLevel(logging.DEBUG)
    picker = Picker(options, policy, clock, identity)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if options.endpoints:
        await picker.run(None, stop)
        return 0
    path = options.text("kubeconfig") or env.get("KUBECONFIG", "")
    config = kubeconfig.load(path) if path else kubeconfig.in_cluster(env)
    async with KubeClient(config) as client:
        await picker.run(client, stop)
    return 0


def scrape_options(options: Options) -> ScrapeOptions:
    """Flags about the model servers' metrics."""

    def renamed(names: Names) -> Names:
        changes: dict[str, Any] = {
            field: (metrics_text.spec(options.text(flag)), *getattr(names, field))
            for field, flag in (
                ("waiting", "total-queued-requests-metric"),
                ("running", "total-running-requests-metric"),
                ("kv_use", "kv-cache-usage-percentage-metric"),
                ("lora", "lora-info-metric"),
                ("cache", "cache-info-metric"),
            )
            if options.text(flag)
        }
        return dataclasses.replace(names, **changes)

    return ScrapeOptions(
        scheme=options.text("model-server-metrics-scheme"),
        port=options.number("model-server-metrics-port"),
        path=options.text("model-server-metrics-path"),
        insecure=options.flag("model-server-metrics-https-insecure-skip-verify"),
        names=renamed,
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
