"""Asks the model servers how they are (metrics) and what they serve (models).

A pump: one loop looks every tick which server is due and starts one short task for it, so that a
server that hangs holds back nobody but itself. Busy servers are asked often, idle ones seldom.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from inferway.base.clock import Clock
from inferway.picker import metrics_text, models_json
from inferway.picker.listing import Listing
from inferway.picker.metrics_text import Names
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.05
BUSY_SECONDS = 0.2
IDLE_SECONDS = 5.0
# A newly loaded adapter is known after this time at most.
MODELS_SECONDS = 1.5
# A server that does not answer in this time is asked again later.
TIMEOUT_SECONDS = 2.0
# An unknown model makes all servers be asked, at most this often.
REFRESH_SECONDS_MIN = 1.0
# How long a request for an unknown model waits for their answers.
REFRESH_WAIT_SECONDS = 0.5
# Expositions of big servers are some 100 KB.
ANSWER_BYTES_MAX = 8 * 1024 * 1024
METRICS_PATH = "/metrics"
ENGINE_LABELS = ("llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")


@dataclass(frozen=True, slots=True)
class ScrapeOptions:
    """Where metrics are; ``port`` 0 is the endpoint's own. ``names`` overrides the engine's.

    ``path`` "" is the engine's. ``engines`` are further ones than the built-in, by the value of the
    first of ``engine_labels`` that a Pod has, else ``default_engine``.
    """

    scheme: str = "http"
    port: int = 0
    path: str = ""
    insecure: bool = True
    names: Callable[[Names], Names] = field(default=lambda names: names)
    engine_labels: tuple[str, ...] = ENGINE_LABELS
    default_engine: str = "vllm"
    engines: Mapping[str, Names] = field(default_factory=lambda: metrics_text.ENGINES)


@dataclass(slots=True)
class Target:
    """One server and how asking it has gone."""

    endpoint: Endpoint
    names: Names
    metrics_due: float = 0.0
    models_due: float = 0.0
    asking_metrics: bool = False
    asking_models: bool = False
    metrics_at: float | None = None
    models_at: float | None = None
    # Asked for its models at least once, with whatever result.
    asked: bool = False
    errors: int = 0
    last_error: str = ""


class Scraper:
    """The servers of one pool."""

    def __init__(
        self, scheduler: PoolScheduler, clock: Clock, options: ScrapeOptions | None = None
    ) -> None:
        self._scheduler = scheduler
        self._monotonic = clock.monotonic
        self._options = options or ScrapeOptions()
        self.targets: dict[str, Target] = {}
        self.listing = Listing()
        self._session: aiohttp.ClientSession | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._wake = asyncio.Event()
        self._refreshed_at = -REFRESH_SECONDS_MIN
        self._refresh_open: set[str] = set()
        self._refresh_waiting: list[Callable[[], None]] = []
        self._refresh_timer: asyncio.TimerHandle | None = None
        # Set when every server has been asked once for its models, with or without an answer.
        self.asked_all = asyncio.Event()

    def set_endpoints(self, endpoints: list[Endpoint]) -> None:
        """Servers to ask from here on; new ones at once."""
        wanted = {endpoint.address: endpoint for endpoint in endpoints}
        for address in [address for address in self.targets if address not in wanted]:
            del self.targets[address]
            self._refresh_done(address)
        self.listing.keep(set(wanted))
        for address, endpoint in wanted.items():
            target = self.targets.get(address)
            if target is None or target.endpoint.name != endpoint.name:
                self.targets[address] = Target(endpoint, self._names(endpoint))
            else:
                target.endpoint = endpoint
        self._note_asked()
        self._wake.set()

    def refresh(self, then: Callable[[], None]) -> bool:
        """Asks all servers for their models and calls back; False if that was done just now."""
        now = self._monotonic()
        if self._refresh_open:
            # A refresh is under way; a request that came meanwhile may use its result.
            self._refresh_waiting.append(then)
            return True
        if self._tasks is None or not self.targets:
            return False
        if now - self._refreshed_at < REFRESH_SECONDS_MIN:
            return False
        self._refreshed_at = now
        self._refresh_waiting.append(then)
        self._refresh_open = set(self.targets)
        for target in self.targets.values():
            target.models_due = now
        loop = asyncio.get_running_loop()
        self._refresh_timer = loop.call_later(REFRESH_WAIT_SECONDS, self._refresh_end)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Works until cancelled."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30.0, ssl=self._tls())
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as tasks,
        ):
            self._session, self._tasks = session, tasks
            try:
                while True:
                    self._tick(self._monotonic())
                    self._wake.clear()
                    try:
                        async with asyncio.timeout(TICK_SECONDS):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
            finally:
                self._tasks = None
                self._refresh_end()

    def _tick(self, now: float) -> None:
        assert self._tasks is not None
        for address, target in self.targets.items():
            if not target.asking_metrics and now >= self._metrics_due(address, target):
                target.asking_metrics = True
                self._tasks.create_task(self._metrics(target), name=f"metrics {address}")
            if not target.asking_models and now >= target.models_due:
                target.asking_models = True
                self._tasks.create_task(self._models(target), name=f"models {address}")

    def _metrics_due(self, address: str, target: Target) -> float:
        """An idle server that got a request is busy at once, whenever it was asked last."""
        slot = self._scheduler.slot(address)
        busy = slot is not None and self._scheduler.columns.in_flight[slot] > 0
        return target.metrics_due - (IDLE_SECONDS - BUSY_SECONDS if busy else 0.0)

    async def _metrics(self, target: Target) -> None:
        address = target.endpoint.address
        began = self._monotonic()
        loaded = False
        try:
            text = await self._get(self._metrics_url(address, target.names), target)
            if text is not None:
                scrape = metrics_text.read(text, target.names)
                if scrape is None:
                    self._failed(target, ValueError("the page has none of the engine's metrics"))
                else:
                    now = self._monotonic()
                    self._scheduler.observe(address, scrape, now)
                    target.metrics_at = now
                    loaded = scrape.running + scrape.waiting > 0
                    if any(
                        a not in self._scheduler.models.serving for a in scrape.running_adapters
                    ):
                        target.models_due = now
        finally:
            target.metrics_due = began + (BUSY_SECONDS if loaded else IDLE_SECONDS)
            target.asking_metrics = False

    async def _models(self, target: Target) -> None:
        address = target.endpoint.address
        began = self._monotonic()
        try:
            text = await self._get(f"{self._options.scheme}://{address}/v1/models", target)
            cards = models_json.read(text) if text is not None else None
            if text is not None and cards is not None:
                self.listing.put(address, text)
                target.models_at = self._monotonic()
                if self._scheduler.observe_models(address, cards):
                    _log.info(
                        "models changed",
                        extra={"data": {"endpoint": address, "models": [c.id for c in cards]}},
                    )
        finally:
            target.models_due = began + MODELS_SECONDS
            target.asking_models = False
            self._refresh_done(address)
            target.asked = True
            self._note_asked()

    async def _get(self, url: str, target: Target) -> bytes | None:
        assert self._session is not None
        address = target.endpoint.address
        try:
            async with self._session.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    target.last_error = f"{url} answered {answer.status}"
                    target.errors += 1
                    return None
                text = await answer.content.read(ANSWER_BYTES_MAX)
                while not answer.content.at_eof() and len(text) < ANSWER_BYTES_MAX:
                    text += await answer.content.read(ANSWER_BYTES_MAX)
                return text
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            self._scheduler.suspect(address, self._monotonic())
            self._failed(target, error)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed(target, error)
        return None

    def _failed(self, target: Target, error: Exception) -> None:
        target.errors += 1
        target.last_error = str(error) or type(error).__name__
        _log.debug(
            "scrape failed",
            extra={"data": {"endpoint": target.endpoint.address, "error": target.last_error}},
        )

    def _metrics_url(self, address: str, names: Names) -> str:
        host, _, port = address.rpartition(":")
        path = self._options.path or names.path or METRICS_PATH
        return f"{self._options.scheme}://{host}:{self._options.port or port}{path}"

    def _names(self, endpoint: Endpoint) -> Names:
        options = self._options
        told = (endpoint.labels[k] for k in options.engine_labels if k in endpoint.labels)
        engines = options.engines
        names = engines.get(next(told, options.default_engine))
        if names is None:
            names = engines.get(options.default_engine, metrics_text.ENGINES["vllm"])
        return options.names(names)

    def _tls(self) -> bool:
        return not self._options.insecure

    def _note_asked(self) -> None:
        if all(target.asked for target in self.targets.values()):
            self.asked_all.set()

    def _refresh_done(self, address: str) -> None:
        self._refresh_open.discard(address)
        if not self._refresh_open and self._refresh_waiting:
            self._refresh_end()

    def _refresh_end(self) -> None:
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()
            self._refresh_timer = None
        self._refresh_open = set()
        waiting, self._refresh_waiting = self._refresh_waiting, []
        for then in waiting:
            then()
