"""One pool of a picker process: its scheduler, and all that watches, scrapes and holds for it.

Knows nothing of listening: what proxies ask comes through ``service``, what they report through
``settle``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Mapping, Sequence, Set
from typing import Any

from inferway.base.clock import Clock
from inferway.cluster.client import KubeClient
from inferway.cluster.store import Key
from inferway.observe.metric import Source
from inferway.observe.otlp import Exporter
from inferway.picker import config_file, metrics_text
from inferway.picker.annotations import flow_options
from inferway.picker.debug import DecisionRing
from inferway.picker.endpoint_file import FileWatcher
from inferway.picker.engines import with_settings
from inferway.picker.exchange.announcing import announcing
from inferway.picker.exchange.pump import Exchange
from inferway.picker.extproc.stream import PROXY as EXT_PROC
from inferway.picker.flags import Options
from inferway.picker.flow import FlowGate
from inferway.picker.flow_metrics import FlowSource
from inferway.picker.kvevents.metrics import PrefixSource
from inferway.picker.kvevents.pump import KvSubscriber
from inferway.picker.metrics_text import Names
from inferway.picker.objectives import ObjectiveWatcher
from inferway.picker.picker_metrics import PickerSource, RequestSource, ScrapeView
from inferway.picker.placement.keeper import PlacementKeeper
from inferway.picker.placement.metrics import PlacementSource
from inferway.picker.pool_metrics import PoolSource
from inferway.picker.pool_specs import PoolSpec
from inferway.picker.rewrites import RewriteWatcher
from inferway.picker.scrape import METRICS_PATH, ScrapeOptions, Scraper
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.picker.tracing import Tracing
from inferway.picker.watch import PoolWatcher, SelectorWatcher
from inferway.scheduling.announced import PICKER, Announced
from inferway.scheduling.decision import Policy
from inferway.scheduling.events import BlockEvent, Doubted, Event, Finished
from inferway.scheduling.pool import PREFILL, PoolScheduler
from inferway.scheduling.rewrite import RewriteTable
from inferway.scheduling.snapshot import Endpoint

_log = logging.getLogger(__name__)

# Readiness waits this long for the servers to tell what they serve; a server that hangs
# must not keep the picker out.
MODELS_WAIT_SECONDS = 2.0


class PickedPool:
    """One pool. ``prefix`` begins the ids of its picks and of no others."""

    def __init__(
        self,
        spec: PoolSpec,
        options: Options,
        policy: Policy,
        clock: Clock,
        ring: DecisionRing,
        prefix: str,
    ) -> None:
        self.spec = spec
        self.key = Key(spec.namespace, spec.name)
        self.prefix = prefix
        self._clock = clock
        self.scheduler = PoolScheduler(policy)
        self.telemetry = Telemetry(f"{spec.namespace}/{spec.name}", self.scheduler, ring)
        servers = scrape_options(options)
        self.scraper = Scraper(self.scheduler, clock, servers)
        self.kv_events = KvSubscriber(self._observe_blocks, clock)
        self._flow_options = config_file.flow(options)
        self.flow = FlowGate(self.scheduler, clock, self._flow_options)
        self.placement = PlacementKeeper(
            self.key, spec.group, self.scheduler, self.scraper, servers, clock
        )
        self.runtime = PoolRuntime(
            self.scheduler,
            refresh=self.scraper.refresh,
            listing=self.scraper.listing,
            flow=self.flow,
            adapters=self.placement,
            parsers=config_file.parsers(options),
        )
        self.service = PickService(
            {(spec.namespace, spec.name): self.runtime},
            clock,
            random.Random(),
            self.telemetry,
            prefix,
        )
        # Makes spans of requests, where they are traced.
        self.tracing: Tracing | None = None
        # Other pickers of the pool, where there are some.
        self.exchange: Exchange | None = None
        self._watcher: PoolWatcher | SelectorWatcher | None = None
        self._rewrites: RewriteWatcher | None = None
        self._objectives: ObjectiveWatcher | None = None
        self._endpoints_told = asyncio.Event()
        self._complaints: list[str] = []

    # -- events ----------------------------------------------------------------------------

    def settle(self, event: Event) -> None:
        """Applies what became known of a request."""
        if self.exchange is not None:
            self._settle_among(self.exchange, event)
            return
        ended = self.scheduler.settle(event, self._clock.monotonic())
        self.telemetry.settled(event, ended)
        if self.tracing is not None:
            self.tracing.settled(event, ended)

    def trace(self, exporter: Exporter) -> None:
        """Makes spans of requests from here on."""
        self.tracing = Tracing(self.telemetry, exporter, self._clock, self.telemetry.pool)
        self.service.trace(self.tracing)

    def _settle_among(self, exchange: Exchange, event: Event) -> None:
        """The same where other pickers want to know, and may want to have the event."""
        if isinstance(event, Finished) and not event.pick.startswith(self.prefix):
            exchange.ended(event)
            return
        ended = self.scheduler.settle(event, self._clock.monotonic())
        own = [one for one in ended if not one.reservation.proxy.startswith(PICKER)]
        self.telemetry.settled(event, own)
        if self.tracing is not None:
            self.tracing.settled(event, own)
        if own and isinstance(event, Finished):
            exchange.finished(event)
        elif own:
            exchange.closed(one.reservation.pick for one in own)

    def set_endpoints(self, endpoints: list[Endpoint]) -> None:
        """Makes these the pool's endpoints."""
        self.telemetry.count()
        added, removed = self.scheduler.set_endpoints(endpoints, self._clock.monotonic())
        if added or removed:
            _log.info(
                "endpoints",
                extra={"data": {"pool": str(self.key), "added": added, "removed": removed}},
            )
        self.scraper.set_endpoints(endpoints)
        self.kv_events.set_endpoints(endpoints)
        self.flow.set_endpoints(len(endpoints))
        self._endpoints_told.set()

    def _observe_blocks(self, address: str, events: Sequence[BlockEvent]) -> None:
        self.scheduler.observe_blocks(address, events, self._clock.monotonic())

    def set_annotations(self, annotations: Mapping[str, str]) -> None:
        """What the pool's annotations ask for."""
        flow, complaints = flow_options(self._flow_options, annotations)
        if complaints != self._complaints:
            self._complaints = complaints
            if complaints:
                _log.warning("annotations of the pool", extra={"data": {"problems": complaints}})
        self.flow.set_options(flow)
        self.placement.set_annotations(annotations)

    def reserve_announced(self, announced: Announced, picker: str) -> None:
        """Another picker has sent a request to a server."""
        self.scheduler.reserve_announced(announced, picker, self._clock.monotonic())

    def release_announced(self, pick: str) -> None:
        """It is over."""
        self.scheduler.release_announced(pick)

    def finish_announced(self, event: Finished) -> None:
        """It is over; what servers are like is learned from it as from own requests."""
        self.scheduler.settle(event, self._clock.monotonic())

    def open_now(self) -> list[Announced]:
        """Reservations of this picker."""
        return self.scheduler.open_now()

    def announce_to(self, exchange: Exchange | None) -> None:
        """Tells other pickers what is reserved from now on; None: there are none."""
        self.scheduler.announce = (
            None if exchange is None else announcing(exchange, str(self.key), self.scheduler)
        )

    def doubt_unreported(self, told_here: Set[str]) -> None:
        """Another picker is gone, and with it perhaps the reports of own requests.

        ``told_here`` are choices whose end comes another way than by access logs.
        """
        now = self._clock.monotonic()
        for one in list(self.scheduler.ledger):
            own = not one.proxy.startswith(PICKER) and one.proxy != EXT_PROC
            if own and one.pick not in told_here and not one.pick.endswith(PREFILL):
                self.scheduler.settle(Doubted(one.pick), now)

    def meet(self, exchange: Exchange) -> None:
        """There are other pickers: ends are of interest to them, and theirs come here."""
        self.exchange = exchange

    def set_rewrites(self, table: RewriteTable | None) -> None:
        """Which models stand for which."""
        self.runtime.rewrites = table

    def set_priorities(self, priorities: dict[str, int]) -> None:
        """Objective name -> priority."""
        self.runtime.priorities = priorities

    def not_ready(self) -> str:
        """What is missing, or nothing."""
        if self._watcher is not None and self._watcher.problem:
            return self._watcher.problem
        return "" if self.runtime.synced else "the model servers have not been asked yet"

    # -- running ---------------------------------------------------------------------------

    def start(
        self, tasks: asyncio.TaskGroup, client: KubeClient | None, place: str
    ) -> list[asyncio.Task[None]]:
        """What works for the pool until cancelled; ``place`` is how other pickers reach this."""
        work = [
            tasks.create_task(self.scraper.run(), name="scraper"),
            tasks.create_task(self.kv_events.run(), name="KV events"),
            tasks.create_task(self._become_synced(), name="first models"),
        ]
        spec = self.spec
        if spec.file:
            watcher = FileWatcher(spec.file, spec.watch_file, self.set_endpoints)
            return [*work, tasks.create_task(watcher.run(), name="watch file")]
        if client is None:
            self.set_endpoints([Endpoint(a, a) for a in spec.endpoints])
            return work
        self._watcher = (
            SelectorWatcher(client, spec.namespace, spec.selector, spec.ports, self.set_endpoints)
            if spec.selector
            else PoolWatcher(client, self.key, spec.group, self.set_endpoints, self.set_annotations)
        )
        self._rewrites = RewriteWatcher(
            client, self.key, self.spec.group, self.set_rewrites, self._clock
        )
        self._objectives = ObjectiveWatcher(
            client, self.key, self.spec.group, self.set_priorities, self._clock
        )
        return [
            *work,
            tasks.create_task(self._watcher.run(), name="watch"),
            tasks.create_task(self._rewrites.run(), name="watch rewrites"),
            tasks.create_task(self._objectives.run(), name="watch objectives"),
            tasks.create_task(self.placement.run(client, place), name="placement"),
        ]

    def stop(self) -> None:
        """Refuses all that wait."""
        self.flow.stop()
        self.placement.stop()

    async def _become_synced(self) -> None:
        await self._endpoints_told.wait()
        try:
            async with asyncio.timeout(MODELS_WAIT_SECONDS):
                await self.scraper.asked_all.wait()
                if self._rewrites is not None and self._objectives is not None:
                    await self._rewrites.synced.wait()
                    await self._objectives.synced.wait()
                    await self.placement.synced.wait()
        except TimeoutError:
            _log.warning("not every model server, or the cluster, has told what is served")
        self.runtime.synced = True

    # -- metrics ---------------------------------------------------------------------------

    def sources(self) -> tuple[Source, ...]:
        """All metrics of the pool."""
        return (
            PoolSource(self.telemetry, self.key, self.flow),
            FlowSource(self.flow, self.scheduler, self.key),
            PickerSource(self.telemetry, self.key, ScrapeView(self._scrapes)),
            RequestSource(self.telemetry),
            PlacementSource(self.placement),
            PrefixSource(self.telemetry.pool, self.scheduler, self.kv_events),
        )

    def _scrapes(self) -> list[tuple[str, float | None, int]]:
        now = self._clock.monotonic()
        return [
            (address, None if t.metrics_at is None else now - t.metrics_at, t.errors)
            for address, t in self.scraper.targets.items()
        ]


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

    path = options.text("model-server-metrics-path")
    told = ScrapeOptions(
        scheme=options.text("model-server-metrics-scheme"),
        port=options.number("model-server-metrics-port"),
        # Where it is the usual one an engine may have another.
        path="" if path == METRICS_PATH else path,
        insecure=options.flag("model-server-metrics-https-insecure-skip-verify"),
        names=renamed,
    )
    loaded = config_file.configuration(options)
    return told if loaded is None else with_settings(told, loaded.data)
