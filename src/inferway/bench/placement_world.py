"""A pool of simulated engines with adapters, in simulated time: one run of one system.

Method: the engines are the simulated server's model (``simulator.engine``), stepped by an event
queue; every request is routed by the real scheduler with the default policy, which sees scrapes
every 0.2 s and the ends of requests. A load through the API stops the engine for as long as the
profile says a read from disk takes, which is what vLLM's worker does. A client that is told to try
again does so after a second, like OpenAI's SDK does, and its time to first token counts on.
"""

from __future__ import annotations

import heapq
import random
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count

from inferway.scheduling.decision import Decision, RefusalReason
from inferway.scheduling.events import Finished, ModelCard, Scrape
from inferway.scheduling.placement.demand import DemandMeter
from inferway.scheduling.placement.machine import Action, Outcome, Placement, Seen
from inferway.scheduling.placement.values import Limits, Load, Wish
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind
from inferway.scheduling.request import Request as Asked
from inferway.scheduling.snapshot import Endpoint
from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig, Request

SCRAPE_SECONDS = 0.2
TICK_SECONDS = 0.25
# The gateway's deadline for a pick, less a margin, and what a client waits before it asks again.
WAIT_SECONDS = 4.5
RETRY_SECONDS = 1.0
ATTEMPTS_MAX = 3
BYTES_PER_TOKEN = 4
BASE = "base"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is asked of the pool. Popularity follows rank ** -skew and turns every ``shift``."""

    name: str
    adapters: int
    requests_per_second: float
    seconds: float
    servers: int = 4
    slots: int = 4
    host_slots: int = 4
    skew: float = 1.0
    # Every so often other adapters become the popular ones; 0: never.
    shift_seconds: float = 0.0
    prompt_tokens: tuple[int, int] = (100, 600)
    output_tokens: tuple[int, int] = (40, 200)
    # Requests of the first part, while everybody loads for the first time, are not judged.
    warm_up_seconds: float = 20.0


@dataclass(slots=True)
class Result:
    """What came of it."""

    ttft: list[float] = field(default_factory=list)
    refused: int = 0
    retried: int = 0
    loads: int = 0
    stalled_seconds: float = 0.0
    slot_hits: int = 0
    slot_uses: int = 0
    finished: int = 0


@dataclass(slots=True)
class _Client:
    number: int
    adapter: str
    prompt: list[int]
    output: list[int]
    began: float
    attempts: int = 1
    sent: float = 0.0
    pick: str = ""
    server: int = -1
    first: float | None = None


class _Server:
    def __init__(self, scenario: Scenario, profile: Profile) -> None:
        config = EngineConfig(
            adapters_device_max=scenario.slots, adapters_host_max=scenario.host_slots
        )
        self.engine = Engine(config, profile)
        self.busy = False
        self.clients: dict[int, _Client] = {}
        # Seconds of API loads that the engine has to spend before its next step.
        self.owed_seconds = 0.0
        self.adapters: set[str] = set()


class World:
    """One run. ``system`` is everywhere, static or placement."""

    def __init__(self, scenario: Scenario, system: str, profile: Profile, seed: int) -> None:
        self.scenario = scenario
        self.system = system
        self.profile = profile
        self.result = Result()
        self.now = 0.0
        self._rng = random.Random(seed)
        self._choice = random.Random(seed + 1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._ids = count()
        self._names = [f"a{n:02d}" for n in range(scenario.adapters)]
        self._weights = list(
            accumulate((n + 1) ** -scenario.skew for n in range(scenario.adapters))
        )
        self._servers = [_Server(scenario, profile) for _ in range(scenario.servers)]
        self._addresses = [f"s{n}:8000" for n in range(scenario.servers)]
        self._waiting: list[_Client] = []
        for server in self._servers:
            self._count_uses(server)
        self.pool = PoolScheduler(CostPolicy())
        self.pool.set_endpoints([Endpoint(a, a) for a in self._addresses], 0.0)
        self.placement = Placement(Limits())
        self.meter = DemandMeter()
        self._start()

    # -- running ---------------------------------------------------------------------------

    def run(self) -> Result:
        """Until all requests have ended."""
        while self._events:
            self.now, _, work = heapq.heappop(self._events)
            work()
        return self.result

    def _at(self, when: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ids), work))

    def _start(self) -> None:
        scenario = self.scenario
        for number, server in enumerate(self._servers):
            if self.system == "everywhere":
                server.adapters = set(self._names)
            elif self.system == "static":
                server.adapters = set(self._names[number :: scenario.servers])
            self._list_models(number)
        self._at(0.0, self._scrape)
        if self.system == "placement":
            self.placement.set_wishes(Wish(adapter=n, source=n) for n in self._names)
            self._at(0.0, self._tick)
        when = 0.0
        while when < scenario.seconds:
            when += self._rng.expovariate(scenario.requests_per_second)
            client = self._new_client(when)
            self._at(when, lambda client=client: self._arrive(client))  # type: ignore[misc]

    def _new_client(self, when: float) -> _Client:
        scenario = self.scenario
        rank = bisect(self._weights, self._rng.random() * self._weights[-1])
        turn = int(when / scenario.shift_seconds) if scenario.shift_seconds else 0
        # A third of the names further on, so that the hottest become lukewarm or cold.
        name = self._names[(rank + turn * (scenario.adapters // 3 + 1)) % scenario.adapters]
        number = next(self._ids)
        size = self._rng.randint(*scenario.prompt_tokens)
        prompt = [number * 1000 + n for n in range(size)]
        output = [1] * self._rng.randint(*scenario.output_tokens)
        return _Client(number, name, prompt, output, when)

    @property
    def _over(self) -> bool:
        return (
            self.now > self.scenario.seconds
            and not self._waiting
            and not any(server.clients for server in self._servers)
        )

    # -- requests --------------------------------------------------------------------------

    def _arrive(self, client: _Client) -> None:
        client.sent = self.now
        if not self._route(client):
            self._waiting.append(client)
            self.meter.touch(client.adapter, self.now)
            self._at(self.now + WAIT_SECONDS, lambda: self._give_up(client))
            self._plan()

    def _route(self, client: _Client) -> bool:
        prompt = str(client.number).encode() + b"x" * (len(client.prompt) * BYTES_PER_TOKEN)
        asked = Asked(client.adapter, ApiKind.COMPLETIONS, prompt, stream=True)
        client.pick = f"{client.number}-{client.attempts}"
        decision = self.pool.pick(asked, client.pick, "proxy", self.now, self._choice)
        if not isinstance(decision, Decision):
            assert decision.reason is RefusalReason.UNKNOWN_MODEL
            return False
        client.server = decision.slots[0]
        server = self._servers[client.server]
        server.clients[client.number] = client
        server.engine.add(
            Request(
                id=client.number,
                prompt=client.prompt,
                output=client.output,
                arrived=self.now,
                adapter=client.adapter,
            )
        )
        self._kick(client.server)
        return True

    def _give_up(self, client: _Client) -> None:
        if client not in self._waiting:
            return
        self._waiting.remove(client)
        if client.attempts >= ATTEMPTS_MAX:
            self.result.refused += self._judged(client)
            return
        client.attempts += 1
        self.result.retried += 1
        self._at(self.now + RETRY_SECONDS, lambda: self._arrive(client))

    def _judged(self, client: _Client) -> bool:
        return client.began >= self.scenario.warm_up_seconds

    # -- engines ---------------------------------------------------------------------------

    def _count_uses(self, server: _Server) -> None:
        """Counts hits of the device's slots where the engine asks for an adapter."""
        slots, use = server.engine.adapters, server.engine.adapters.use

        def counted(name: str, in_use: Sequence[str]) -> float:
            hit = name in slots.on_device
            seconds = use(name, in_use)
            if self.now >= self.scenario.warm_up_seconds:
                self.result.slot_uses += 1
                self.result.slot_hits += hit
                self.result.stalled_seconds += seconds
                # What had to be read from disk is a load, whoever asked for it.
                self.result.loads += seconds >= self.profile.adapter_disk_load_seconds
            return seconds

        slots.use = counted  # type: ignore[method-assign, assignment]

    def _kick(self, number: int) -> None:
        server = self._servers[number]
        if not server.busy and (server.clients or server.owed_seconds):
            server.busy = True
            self._step(number)

    def _step(self, number: int) -> None:
        server = self._servers[number]
        if server.owed_seconds:
            seconds, server.owed_seconds = server.owed_seconds, 0.0
            self._at(self.now + seconds, lambda: self._step(number))
            return
        if server.engine.idle:
            server.busy = False
            return
        step = server.engine.step(self.now)
        self._at(self.now + step.seconds, lambda: self._stepped(number, step.outputs))

    def _stepped(self, number: int, outputs: Sequence[object]) -> None:
        server = self._servers[number]
        for output in outputs:
            client = server.clients[output.id]  # type: ignore[attr-defined]
            if client.first is None:
                client.first = self.now
                if self._judged(client):
                    self.result.ttft.append(self.now - client.began)
            if output.finished:  # type: ignore[attr-defined]
                del server.clients[client.number]
                self._finish(client)
        self._step(number)

    def _finish(self, client: _Client) -> None:
        assert client.first is not None
        self.result.finished += self._judged(client)
        event = Finished(
            client.pick,
            code=200,
            served=self._addresses[client.server],
            first_byte_seconds=client.first - client.sent,
            last_byte_seconds=self.now - client.sent,
            duration_seconds=self.now - client.sent,
            prompt_tokens=len(client.prompt),
            completion_tokens=len(client.output),
            cached_tokens=0,
        )
        self.pool.settle(event, self.now)

    # -- signals ---------------------------------------------------------------------------

    def _scrape(self) -> None:
        for address, server in zip(self._addresses, self._servers, strict=True):
            stats = server.engine.stats()
            scrape = Scrape(
                waiting=float(stats.waiting),
                running=float(stats.running),
                kv_use=stats.cache_usage,
                max_loras=self.scenario.slots,
                running_adapters=frozenset(stats.running_adapters),
                waiting_adapters=frozenset(stats.waiting_adapters),
            )
            self.pool.observe(address, scrape, self.now)
        if not self._over:
            self._at(self.now + SCRAPE_SECONDS, self._scrape)

    def _list_models(self, number: int) -> None:
        cards = [ModelCard(name, BASE) for name in sorted(self._servers[number].adapters)]
        self.pool.observe_models(self._addresses[number], [*cards, ModelCard(BASE)])

    # -- placement -------------------------------------------------------------------------

    def _tick(self) -> None:
        self._plan()
        if not self._over:
            self._at(self.now + TICK_SECONDS, self._tick)

    def _plan(self) -> None:
        lora = self.pool.lora
        in_flight: Counter[str] = Counter()
        for slot in self.pool.columns.live:
            in_flight.update(lora.in_flight(slot))
        since: dict[str, float] = {}
        for client in self._waiting:
            in_flight[client.adapter] += 1
            since.setdefault(client.adapter, client.sent)
        requests = {name: float(n) for name, n in in_flight.items()}
        self.meter.sample(requests, lora.uses, float(sum(in_flight.values())), self.now)
        seen = [
            Seen(
                address=address,
                name=address,
                slots=max(self.scenario.slots, self.scenario.host_slots),
                base_models=frozenset({BASE}),
                adapters=frozenset(server.adapters),
                told_at=self.now,
                in_flight=lora.in_flight(number),
                load=float(self.pool.columns.in_flight[number]),
            )
            for number, (address, server) in enumerate(
                zip(self._addresses, self._servers, strict=True)
            )
        ]
        usage = self.meter.usage(since)
        for action in self.placement.tick(seen, usage, self.meter.load(), self.now):
            self._begin(action)
        self.pool.hide(self.placement.hidden)

    def _begin(self, action: Action) -> None:
        number = self._addresses.index(action.address)
        server = self._servers[number]
        if not isinstance(action, Load):
            server.adapters.discard(action.adapter)
            server.engine.adapters.drop(action.adapter)
            self._at(self.now, lambda: self._done(action, number))
            return
        seconds = self.profile.adapter_disk_load_seconds
        server.owed_seconds += seconds
        if self.now >= self.scenario.warm_up_seconds:
            self.result.loads += 1
            self.result.stalled_seconds += seconds
        self._kick(number)
        self._at(self.now + seconds, lambda: self._done(action, number))

    def _done(self, action: Action, number: int) -> None:
        server = self._servers[number]
        if isinstance(action, Load):
            server.adapters.add(action.adapter)
            # The API puts it into the host's cache; what it cost was paid above.
            server.engine.adapters.preload(action.adapter)
        self._list_models(number)
        self.placement.done(action, Outcome.DONE, "", self.now)
        self._plan()
        serving = self.pool.models.serving
        ready = [client for client in self._waiting if client.adapter in serving]
        self._waiting = [client for client in self._waiting if client.adapter not in serving]
        for client in ready:
            routed = self._route(client)
            assert routed
