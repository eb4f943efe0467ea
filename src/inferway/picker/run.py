"""Puts the picker together, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import string
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from aiohttp import web

from inferway.base.clock import Clock
from inferway.base.errors import InferwayError, UsageError
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.observe.catalogue import catalogue
from inferway.observe.exposition import Exposition
from inferway.observe.metric import Source
from inferway.observe.otlp import Exporter, tracing_options
from inferway.picker import admin, feedback, flags, health, metrics_auth, routing
from inferway.picker.debug import DecisionRing
from inferway.picker.doorway import PickServer
from inferway.picker.exchange import finding
from inferway.picker.exchange.pump import Exchange, ExchangedPool
from inferway.picker.extproc import serving
from inferway.picker.families import metric_families
from inferway.picker.flags import Options
from inferway.picker.picker_metrics import ProcessSource
from inferway.picker.placement import peers as placement_peers
from inferway.picker.placement.address import own_address
from inferway.picker.pools import PickedPool
from inferway.picker.routing import ManyPools
from inferway.scheduling.decision import Policy
from inferway.scheduling.events import Event, Tick

_log = logging.getLogger(__name__)

# Not ready, still answering: the time in which proxies learn of it.
DRAIN_SECONDS = 0.5
# Log entries of the last requests may still come.
FEEDBACK_GRACE_SECONDS = 0.5
# What traces call this program unless OTEL_SERVICE_NAME says otherwise.
SERVICE_NAME = "inferway-picker"
TICK_SECONDS = 1.0
# A full collection walks the prefix index; with these thresholds it comes about once in
# a hundred million allocations that survive, and young ones stay cheap.
GC_THRESHOLDS = (50_000, 50, 1000)


class Picker:
    """All parts of one picker process, wired; ``run`` starts them."""

    def __init__(
        self, options: Options, make_policy: Callable[[], Policy], clock: Clock, identity: str
    ) -> None:
        self._options = options
        self._clock = clock
        self._identity = identity
        self._families = metric_families(options)
        self.ring = DecisionRing(clock)
        # A letter of its own makes picks of further pools other ones.
        self.pools = tuple(
            PickedPool(spec, options, make_policy(), clock, self.ring, f"{identity}{mark}")
            for spec, mark in zip(options.pools, ("", *string.ascii_letters), strict=False)
        )
        # The parts of the first pool, which most often is the only one.
        self.first = first = self.pools[0]
        self.pool, self.scheduler, self.telemetry = first.runtime, first.scheduler, first.telemetry
        self.scraper, self.flow, self.placement = first.scraper, first.flow, first.placement
        self.service = first.service if len(self.pools) == 1 else ManyPools(self.pools)
        self.settle: Callable[[Event], None] = (
            first.settle if len(self.pools) == 1 else partial(routing.settle, self.pools)
        )
        self.reports = feedback.FeedbackService(self.settle)
        self.callout = PickServer(
            self.service, self.settle, lambda: any(pool.runtime.synced for pool in self.pools)
        )
        self._health = health.HealthService(lambda: not self.not_ready())
        policies = {f"{p.key.namespace}/{p.key.name}": p.scheduler.policy for p in self.pools}
        self.ext_proc = serving.server(
            options, policies, self.service.answer, self.settle, self._health
        )
        pools: dict[str, ExchangedPool] = {str(pool.key): pool for pool in self.pools}
        self.exchange = Exchange(identity, pools, self.settle, clock, self._picker_lost)
        self._exporter: Exporter | None = None
        self.ports: dict[str, int] = {}
        self._draining = False

    def trace(self, exporter: Exporter) -> None:
        """Sends spans of requests; to be called before ``run``."""
        self._exporter = exporter
        for pool in self.pools:
            pool.trace(exporter)

    def sources(self) -> list[Source]:
        """All figures that metrics are made of."""
        pools = [source for pool in self.pools for source in pool.sources()]
        streams = () if self.ext_proc.counts is None else (self.ext_proc.counts,)
        return [*pools, *streams, ProcessSource(self.reports, self._exporter)]

    def _picker_lost(self) -> None:
        told_here = self.callout.picks()
        for pool in self.pools:
            pool.doubt_unreported(told_here)

    def not_ready(self) -> str:
        """What is missing, or nothing."""
        if self._draining:
            return "the picker is stopping"
        return "; ".join(filter(None, (pool.not_ready() for pool in self.pools)))

    # -- running ---------------------------------------------------------------------------

    async def run(
        self,
        client: KubeClient | None,
        stop: asyncio.Event,
        own_pod: tuple[str, str] = ("", ""),
    ) -> None:
        """Serves until ``stop``; then drains. Raises InferwayError if a port is taken.

        ``own_pod`` is namespace and name of the Pod that this process is in, if it is in one.
        """
        peers = flags.split(self._options.text("peers"))
        exchanges = bool(peers or (client is not None and own_pod[1]))
        async with self._listening(exchanges, client), asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(self._tick(), name="tick")]
            place = ""
            if self._exporter is not None:
                work.append(tasks.create_task(self._exporter.run(), name="spans"))
            if exchanges:
                work.append(tasks.create_task(self.exchange.run(peers), name="exchange"))
            if client is not None:
                address = own_address(client, self._options)
                place = f"{address}:{self.ports['metrics']}/{self._identity}"
                if exchanges and not peers:
                    looking = finding.watch(
                        client, own_pod, self.exchange.port, self.exchange.set_peers
                    )
                    work.append(tasks.create_task(looking, name="find pickers"))
            for pool in self.pools:
                work += pool.start(tasks, client, place)
            self.ext_proc.begin(tasks)
            await stop.wait()
            await self._drain(in_cluster=client is not None)
            for task in work:
                task.cancel()

    async def _drain(self, *, in_cluster: bool) -> None:
        """Not ready first; then what is open may end; what is left after that is refused."""
        self._draining = True
        if in_cluster:
            await asyncio.sleep(DRAIN_SECONDS)
        seconds = serving.drain_seconds(self._options)
        await asyncio.gather(self.callout.idle(seconds), self.ext_proc.stop(seconds))
        for pool in self.pools:
            pool.stop()
        await self.callout.drain()
        self.exchange.close()

    @asynccontextmanager
    async def _listening(self, exchanges: bool, client: KubeClient | None) -> AsyncIterator[None]:
        address = self._options.text("bind-address")
        exposition = Exposition(catalogue(), self._families, self.sources())
        app = admin.application(exposition, self.ring, self.not_ready)
        placement_peers.add_route(app, {pool.key: pool.placement.peers for pool in self.pools})
        self._guard(app, client)
        runner = web.AppRunner(app, access_log=None)
        logs = feedback.server(self.reports)
        checks = health.server(self._health)
        await runner.setup()
        try:
            await self._listen(address, runner, logs, checks)
            if exchanges:
                with _port_of(address):
                    await self.exchange.listen(address, self._options.number("exchange-port"))
                self.ports["exchange"] = self.exchange.port
            yield
        finally:
            await self.ext_proc.stop(0)
            await logs.stop(FEEDBACK_GRACE_SECONDS)
            await checks.stop(0)
            await runner.cleanup()

    def _guard(self, app: web.Application, client: KubeClient | None) -> None:
        """Closes metrics to those without a token, where a cluster can say whose it is."""
        o = self._options
        if not o.flag("metrics-endpoint-auth") or o.text("metrics-client-ca-file"):
            return
        if client is not None:
            metrics_auth.protect(app, metrics_auth.TokenGuard(client, self._clock.monotonic))
        elif "metrics-endpoint-auth" in o.given:
            raise UsageError(
                "INFERWAY0405",
                "--metrics-endpoint-auth asks a cluster about tokens, and this picker has none",
                fix="Give --metrics-cert-dir and --metrics-client-ca-file instead.",
            )

    async def _listen(self, address: str, runner: web.AppRunner, logs: Any, checks: Any) -> None:
        """Callout last, because who can reach it may use it."""
        o = self._options
        with _port_of(address):
            context = metrics_auth.tls(o.text("metrics-cert-dir"), o.text("metrics-client-ca-file"))
            port = o.number("metrics-port")
            site = web.TCPSite(runner, address, port, ssl_context=context)
            await site.start()
            self.ports["metrics"] = runner.addresses[0][1]
            for name, flag, server in (
                ("feedback", "feedback-port", logs),
                ("health", "grpc-health-port", checks),
            ):
                self.ports[name] = server.add_insecure_port(f"{_host(address)}:{o.number(flag)}")
                await server.start()
            at = f"{_host(address)}:{o.number('grpc-port')}"
            self.ports["grpc"] = await self.ext_proc.listen(at)
            await self.callout.listen_tcp(address, o.number("pick-port"))
            self.ports["pick"] = self.callout.port
            if o.text("pick-socket"):
                await self.callout.listen_unix(o.text("pick-socket"))
        _log.info("listening", extra={"data": {"address": address, **self.ports}})

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.settle(Tick())


async def run(
    options: Options,
    make_policy: Callable[[], Policy],
    env: Mapping[str, str],
    clock: Clock,
    identity: str,
) -> int:
    """The process: signals, client, garbage collector."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.without_effect:
        without = {f"--{name}": why for name, why in options.without_effect.items()}
        _log.info("flags without effect in this picker", extra={"data": without})
    if options.log_level is not None:
        logging.getLogger("inferway").setLevel(options.log_level)
    tracing = tracing_options(env, SERVICE_NAME) if options.flag("tracing") else None
    picker = Picker(options, make_policy, clock, identity)
    if tracing is not None:
        picker.trace(Exporter(tracing))
        _log.info("tracing", extra={"data": {"endpoint": tracing.endpoint}})
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    if not options.needs_cluster:
        await picker.run(None, stop)
        return 0
    path = options.text("kubeconfig")
    config = kubeconfig.load(path) if path else kubeconfig.in_cluster(env)
    async with KubeClient(config) as client:
        await picker.run(client, stop, finding.own_pod(env))
    return 0


@contextmanager
def _port_of(address: str) -> Iterator[None]:
    """Says in one sentence that a port can not be had."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InferwayError(
            "INFERWAY0410",
            f"the picker can not listen on {address}: {error}",
            fix="Free the port, or choose another one by its flag.",
        ) from None


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
