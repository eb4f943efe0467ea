"""The control loop of one pool's adapters, in every picker of the pool.

Every picker measures demand and lets requests wait; the one that holds the Lease makes plans, loads
and unloads, writes statuses and Events. The Lease is first asked for when the pool has a
LoRAAdapter. A pump: plans are ``scheduling.placement``'s, statuses ``statuses``'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import aiohttp

from inferway.api.resources import LORA_ADAPTERS
from inferway.base.clock import Clock
from inferway.cluster import leader
from inferway.cluster.client import KubeClient
from inferway.cluster.events import EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.store import Key
from inferway.picker.answers import FinalAnswer
from inferway.picker.placement import objects, view
from inferway.picker.placement.acting import Acting, Counts
from inferway.picker.placement.objects import Adapter, Reading
from inferway.picker.placement.peers import Peers
from inferway.picker.placement.waiting import AdapterQueue, Told, failed
from inferway.picker.scrape import ScrapeOptions, Scraper
from inferway.scheduling.placement.demand import DemandMeter
from inferway.scheduling.placement.machine import STALE_LIST_SECONDS, Place
from inferway.scheduling.pool import PoolScheduler

_log = logging.getLogger(__name__)

# Demand is sampled, plans are made and deadlines are looked at this often.
TICK_SECONDS = 0.25
# A part of the proxy's deadline, so that the answer comes from here and says what is going on.
WAIT_SHARE = 0.9
# Other pickers hear of a copy that leaves by a status, which takes a fraction of this.
SETTLE_SECONDS = 1.0
# Stands among the servers' addresses in the list of models.
OFFERS = "placement"
LEASE_SUFFIX = "-placement"


class PlacementKeeper:
    """One pool. Without a LoRAAdapter of it nothing happens."""

    def __init__(
        self,
        pool: Key,
        group: str,
        scheduler: PoolScheduler,
        scraper: Scraper,
        servers: ScrapeOptions,
        clock: Clock,
    ) -> None:
        self.pool = pool
        self.scheduler = scheduler
        self.monotonic = clock.monotonic
        self.counts = Counts()
        self.queue = AdapterQueue()
        self.meter = DemandMeter()
        self.peers = Peers(pool, self.hear, lambda: self.acting is not None, clock.monotonic)
        self.acting: Acting | None = None
        self.pick_seconds = objects.PICK_SECONDS
        self.reading = Reading((), {}, {}, {})
        self._group = group
        self._scraper = scraper
        self._servers = servers
        self._clock = clock
        # Set when the LoRAAdapters have been listed once.
        self.synced = asyncio.Event()
        self._wake = asyncio.Event()
        self._changed = True
        self._informer: Informer[Adapter] | None = None
        self._base_models: frozenset[str] = frozenset()
        # Copies that the leader's status said to leave, until when they stay hidden.
        self._lingering: dict[Place, float] = {}

    # -- requests --------------------------------------------------------------------------

    def enter(self, adapter: str, told: Told) -> int | FinalAnswer | None:
        """Waits for an adapter: a key to leave with, a final answer, or None: not ours to load."""
        wish = self.reading.wishes.get(adapter)
        if wish is None or not (wish.on_demand or wish.least):
            return None
        now = self.monotonic()
        if self.acting is not None:
            why = self.acting.placement.hopeless(adapter)
            if why:
                return failed(adapter, why)
        self.meter.touch(adapter, now)
        key = self.queue.enter(adapter, told, now, now + self.pick_seconds * WAIT_SHARE)
        self.wake()
        return key

    def leave(self, key: int) -> None:
        """The client is gone."""
        self.queue.leave(key)

    def wake(self) -> None:
        """Something has happened that a plan may depend on."""
        self._wake.set()

    def hear(self, peer: str, demand: Mapping[str, float], load: float, waiting: bool) -> None:
        """Another picker tells its demand; it can not load for its waiting requests itself."""
        self.meter.hear(peer, demand, load, self.monotonic())
        if waiting:
            self.wake()

    def set_annotations(self, annotations: Mapping[str, str]) -> None:
        """How long a pick may take."""
        self.pick_seconds = objects.pick_seconds(annotations)

    def stop(self) -> None:
        """Refuses all that wait."""
        self.queue.stop(self.monotonic())

    # -- running ---------------------------------------------------------------------------

    async def run(self, client: KubeClient, identity: str) -> None:
        """Works until cancelled; ``identity`` begins with this picker's address and a slash."""
        informer = self._informer = Informer(
            client,
            LORA_ADAPTERS,
            decode=objects.decode_adapter,
            namespace=self.pool.namespace,
            optional=True,
        )
        informer.subscribe(self._note)
        leads: asyncio.Task[None] | None = None
        connector = aiohttp.TCPConnector(limit=0, ssl=not self._servers.insecure)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(informer.run(), name="watch adapters")
            await informer.synced.wait()
            while True:
                self._wake.clear()
                now = self.monotonic()
                self._read()
                self.synced.set()
                if leads is None and self.reading.adapters:
                    leads = tasks.create_task(
                        self._lead(client, session, identity), name="placement lease"
                    )
                if leads is not None:
                    self._turn(now)
                    if self.acting is None:
                        self._tell_leader(client, session, tasks, identity)
                await self._pause(leads is not None)

    async def _pause(self, active: bool) -> None:
        if not active:
            await self._wake.wait()
            return
        try:
            async with asyncio.timeout(TICK_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return

    def _note(self, key: Key) -> None:
        self._changed = True
        self._wake.set()

    def _read(self) -> None:
        models = self.scheduler.models
        bases = frozenset(models.serving.keys() - models.parents.keys())
        if self.acting is not None:
            # A server that tells no parents must not make base models of what we placed.
            bases -= {adapter for adapter, _ in self.acting.placement.copies}
        if not self._changed and bases == self._base_models:
            return
        assert self._informer is not None
        self._changed, self._base_models = False, bases
        self.reading = objects.read(
            self._informer.store.values(), self.pool.name, self._group, bases
        )
        self.meter.forget(set(self.reading.wishes))
        if self.acting is not None:
            self.acting.placement.set_wishes(self.reading.wishes.values())
            self.acting.statuses_due.set()

    def _turn(self, now: float) -> None:
        """One round: sample, plan, release who need not wait any longer."""
        in_flight, load = view.own_requests(self.scheduler)
        wishes = self.reading.wishes
        self.meter.sample(
            {name: count for name, count in in_flight.items() if name in wishes}
            | {name: in_flight.get(name, 0.0) + n for name, n in self.queue.counts().items()},
            {name: n for name, n in self.scheduler.lora.uses.items() if name in wishes},
            load + len(self.queue),
            now,
        )
        acting = self.acting
        if acting is not None and acting.ready:
            self._plan(acting, now)
        else:
            self.scheduler.hide(self._told_to_leave(now))
        self._offer()
        self.queue.release(self._servable(), now)
        self.queue.expire(now, self._why)

    def _plan(self, acting: Acting, now: float) -> None:
        placement = acting.placement
        placement.settle_seconds = SETTLE_SECONDS if self.meter.peers else 0.0
        self.peers.served(self.scheduler.models.serving.keys() & self.reading.wishes.keys())
        since = self.queue.since()
        for name, at in self.peers.waiting().items():
            since[name] = min(at, since.get(name, at))
        usage = self.meter.usage(since)
        seen = view.seen_servers(self.scheduler, self._scraper.targets, now)
        actions = placement.tick(seen, usage, self.meter.load(), now)
        self.scheduler.hide(placement.hidden)
        acting.begin(actions)
        for adapter in self.queue.since():
            why = placement.hopeless(adapter)
            if why:
                self.queue.refuse(adapter, failed(adapter, why), now)

    def _offer(self) -> None:
        """Clients who ask for models see those that a request would load."""
        if self.scheduler.columns.live:
            serving = self.scheduler.models.serving
            base = min(self._base_models, default="")
            text = objects.offered(self.reading.wishes, serving, base)
            self._scraper.listing.put(OFFERS, text)

    def _servable(self) -> list[str]:
        serving = self.scheduler.models.serving
        return [adapter for adapter in self.queue.since() if adapter in serving]

    def _why(self, adapter: str) -> str:
        if self.acting is None:
            return "the pool's leading picker has not loaded it in time"
        shortage = self.acting.placement.last.short.get(adapter)
        if shortage is not None and shortage.value == "NoSlot":
            return "all slots for adapters are taken by others that are in use"
        return "its server takes longer than a request may wait"

    def _told_to_leave(self, now: float) -> frozenset[Place]:
        """What the leader's statuses say, and for a while after they said it."""
        adapters = self.reading.adapters
        for place in objects.leaving(adapters, self.pool.name, self._group):
            self._lingering[place] = now + STALE_LIST_SECONDS
        self._lingering = {p: until for p, until in self._lingering.items() if until > now}
        return frozenset(self._lingering)

    def _tell_leader(
        self,
        client: KubeClient,
        session: aiohttp.ClientSession,
        tasks: asyncio.TaskGroup,
        identity: str,
    ) -> None:
        """Once in a while, and at once when a request begins to wait."""
        report = self.peers.report(self.meter, self.queue.since(), identity)
        if report is not None:
            lease = Key(self.pool.namespace, self.pool.name + LEASE_SUFFIX)
            tasks.create_task(
                self.peers.send(client, session, lease, report), name="tell the leader"
            )

    async def _lead(
        self, client: KubeClient, session: aiohttp.ClientSession, identity: str
    ) -> None:
        async def work() -> None:
            assert self._informer is not None
            events = EventRecorder(client, "inferway-picker", clock=self._clock)
            acting = Acting(self, client, session, self._servers.scheme, events)
            acting.adopt(self.counts)
            self.acting = acting
            try:
                await acting.run(self._informer, self._clock)
            finally:
                self.acting = None

        lease = self.pool.name + LEASE_SUFFIX
        await leader.run(client, lease, self.pool.namespace, identity, work, clock=self._clock)
