"""What is known of a pool's endpoints, as columns indexed by slot.

A slot is a small number that an endpoint keeps for its life and that is given to another one
afterwards; sets of slots are bits of an integer. A snapshot borrows the columns: it is good until
the next event is applied, and whoever decides only reads it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from inferway.scheduling.events import ModelCard
from inferway.scheduling.kvcache import KvCaches
from inferway.scheduling.lora import LoraState
from inferway.scheduling.prefix import Blocks, PrefixIndex
from inferway.scheduling.rates import Rates
from inferway.scheduling.request import Request
from inferway.scheduling.tokens import TokenRatios

# A scraped number says little about the present after this time.
SCRAPE_MEMORY_SECONDS = 5.0
SERVICE_SECONDS_PRIOR = 2.0
OUTPUT_TOKENS_PRIOR = 128.0
# Weight of one request in the usual service time and output.
USUAL_GAIN = 0.02
LOAD_MEMORY_SECONDS = 60.0
BUSY_SHARE_MAX = 0.9
# Kept in one place so that a bit set of slots stays an integer of a few words.
SLOTS_MAX = 4096
# Queues longer than this are known by their oldest remembered request.
RECENT_REQUESTS_MAX = 512


@dataclass(frozen=True, slots=True)
class KvEvents:
    """Where a server publishes what its cache holds; ``replay_port`` 0: nothing is sent again."""

    port: int
    replay_port: int = 0
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server: ``address`` is ``ip:port``; ``name`` is how people know it (pod name).

    ``max_loras`` is what its command line says of its places for adapters, ``max_cpu_loras`` of
    those in host memory; 0: it does not. ``kv_events`` is None where it publishes none.
    """

    address: str
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    max_loras: int = 0
    max_cpu_loras: int = 0
    kv_events: KvEvents | None = None


@dataclass(slots=True)
class Columns:
    """One list per fact; index = slot. ``live`` holds the slots that are endpoints."""

    live: list[int] = field(default_factory=list)
    live_bits: int = 0
    address: list[str] = field(default_factory=list)
    name: list[str] = field(default_factory=list)
    labels: list[Mapping[str, str]] = field(default_factory=list)
    # Own accounting.
    in_flight: list[int] = field(default_factory=list)
    in_flight_tokens: list[int] = field(default_factory=list)
    # Estimated output of the same requests, where a policy books it.
    output_tokens: list[float] = field(default_factory=list)
    # The engine model: uncached prompt tokens that were not computed at ``backlog_at``.
    backlog_tokens: list[float] = field(default_factory=list)
    backlog_at: list[float] = field(default_factory=list)
    prefill_seconds_per_token: list[float] = field(default_factory=list)
    # All uncached prompt tokens that were ever placed, and the same after each of the last
    # requests: vLLM serves first come first, so what waits are the newest ones.
    placed_tokens: list[float] = field(default_factory=list)
    recent: list[deque[float]] = field(default_factory=list)
    # Up to this sum of placed tokens the KV cache has room; a server that does not tell has it all.
    kv_room_tokens: list[float] = field(default_factory=list)
    kv_used_tokens: list[float] = field(default_factory=list)
    # Requests that waited for a place in the batch, and not only for their turn.
    queued: list[float] = field(default_factory=list)
    step_seconds: list[float] = field(default_factory=list)
    # What was scraped last, and how many of the requests were ours then.
    waiting: list[float] = field(default_factory=list)
    running: list[float] = field(default_factory=list)
    kv_use: list[float] = field(default_factory=list)
    scraped_at: list[float] = field(default_factory=list)
    # Further metrics, under the names that a configuration gives them.
    attributes: list[Mapping[str, float]] = field(default_factory=list)
    in_flight_then: list[int] = field(default_factory=list)
    # Requests of other pickers: scraped minus own, at the time of the scrape.
    foreign: list[float] = field(default_factory=list)
    # Failed a moment ago; used only if nothing else is left.
    suspect_until: list[float] = field(default_factory=list)
    # No endpoint is suspect after this time.
    suspects_until: float = 0.0

    def grow(self) -> int:
        """Adds an empty slot and returns it."""
        slot = len(self.address)
        assert slot < SLOTS_MAX
        self.address.append("")
        self.name.append("")
        self.labels.append({})
        self.attributes.append({})
        self.in_flight.append(0)
        self.in_flight_tokens.append(0)
        self.in_flight_then.append(0)
        self.prefill_seconds_per_token.append(0.0)
        self.step_seconds.append(0.0)
        for column in (
            self.output_tokens,
            self.backlog_tokens,
            self.backlog_at,
            self.waiting,
            self.running,
            self.kv_use,
            self.foreign,
            self.suspect_until,
        ):
            column.append(0.0)
        self.placed_tokens.append(0.0)
        self.recent.append(deque(maxlen=RECENT_REQUESTS_MAX))
        self.kv_room_tokens.append(math.inf)
        self.kv_used_tokens.append(0.0)
        self.queued.append(0.0)
        self.scraped_at.append(-math.inf)
        return slot

    def clear(self, slot: int, now: float) -> None:
        """Makes the slot as new, for another endpoint."""
        self.in_flight[slot] = 0
        self.in_flight_tokens[slot] = 0
        self.in_flight_then[slot] = 0
        self.output_tokens[slot] = 0.0
        self.backlog_tokens[slot] = 0.0
        self.backlog_at[slot] = now
        self.placed_tokens[slot] = self.kv_used_tokens[slot] = self.queued[slot] = 0.0
        self.recent[slot].clear()
        self.kv_room_tokens[slot] = math.inf
        self.waiting[slot] = self.running[slot] = self.kv_use[slot] = self.foreign[slot] = 0.0
        self.scraped_at[slot] = -math.inf
        self.attributes[slot] = {}
        self.suspect_until[slot] = 0.0


@dataclass(slots=True)
class Models:
    """Which models and adapters the endpoints serve, as bit sets of slots."""

    serving: dict[str, int] = field(default_factory=dict)
    # Adapter -> its base model.
    parents: dict[str, str] = field(default_factory=dict)
    # Endpoints that have not told yet what they serve.
    unknown: int = 0


@dataclass(slots=True)
class Usual:
    """Running means over the pool's answered requests, for estimates of waiting and harm."""

    service_seconds: float = SERVICE_SECONDS_PRIOR
    output_tokens: float = OUTPUT_TOKENS_PRIOR

    # Weighted sums of the last minute: requests, seconds of their prefill, and time itself.
    arrivals: float = 0.0
    work_seconds: float = 0.0
    span_seconds: float = 0.0
    placed_at: float = -1.0

    def placed(self, prefill_seconds: float, now: float) -> None:
        """One request was placed whose prompt takes a server so long."""
        if self.placed_at < 0:
            self.placed_at = now
            return
        passed = now - self.placed_at
        keep = math.exp(-passed / LOAD_MEMORY_SECONDS)
        self.arrivals = self.arrivals * keep + 1.0
        self.work_seconds = self.work_seconds * keep + prefill_seconds
        self.span_seconds = (self.span_seconds + passed) * keep
        self.placed_at = now

    def pressure(self, servers: int) -> float:
        """Requests to come that a second of work delays, for each second that it keeps busy."""
        span = self.span_seconds * servers
        if span <= 0.0:
            return 0.0
        share = min(self.work_seconds / span, BUSY_SHARE_MAX)
        return self.arrivals / span / (1.0 - share)

    def learn(self, seconds: float | None, output_tokens: int) -> None:
        """One answer's time in the server and its length."""
        if seconds is not None and seconds > 0:
            self.service_seconds += USUAL_GAIN * (seconds - self.service_seconds)
        if output_tokens > 0:
            self.output_tokens += USUAL_GAIN * (output_tokens - self.output_tokens)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything a decision may read."""

    columns: Columns
    models: Models
    prefixes: PrefixIndex
    lora: LoraState
    rates: Rates
    ratios: TokenRatios
    usual: Usual
    caches: KvCaches

    def matched(self, request: Request, blocks: Blocks, now: float) -> dict[int, int]:
        """Bytes of the prompt that each slot has cached: what it says, else what was routed there.

        A slot that has none is not in it.
        """
        found = self.prefixes.match(blocks) if blocks.hashes else {}
        if self.caches.known:
            self.caches.refine(request, found, self.models.parents, now)
        return found


def bits_of(slots: Iterable[int]) -> int:
    """A bit set of its members."""
    bits = 0
    for slot in slots:
        bits |= 1 << slot
    return bits


def backlog_tokens(columns: Columns, slot: int, now: float) -> float:
    """Prompt tokens still to compute: the modelled backlog, drained at the learned rate."""
    drained = (now - columns.backlog_at[slot]) / columns.prefill_seconds_per_token[slot]
    return max(columns.backlog_tokens[slot] - drained, 0.0)


def foreign_requests(columns: Columns, slot: int, now: float) -> float:
    """Requests that others sent, trusted less the older the scrape is."""
    foreign = columns.foreign[slot]
    if foreign <= 0:
        return 0.0
    return foreign * math.exp((columns.scraped_at[slot] - now) / SCRAPE_MEMORY_SECONDS)


def waiting_requests(columns: Columns, slot: int, now: float) -> float:
    """Requests that wait for a place in the batch: the scraped queue and what came since.

    A scrape that saw no queue says that there are free places, so newcomers do not wait either.
    """
    waiting = columns.waiting[slot]
    if waiting <= 0:
        return 0.0
    since = columns.in_flight[slot] - columns.in_flight_then[slot]
    weight = math.exp((columns.scraped_at[slot] - now) / SCRAPE_MEMORY_SECONDS)
    return max(waiting + since, 0.0) * weight


def models_of(
    columns: Columns,
    cards_of: Mapping[int, Sequence[ModelCard]],
    hidden: frozenset[tuple[str, str]],
) -> Models:
    """What the live endpoints have told that they serve, but for hidden pairs of model, address."""
    serving: dict[str, int] = {}
    parents: dict[str, str] = {}
    unknown = 0
    for slot in columns.live:
        cards = cards_of.get(slot)
        if cards is None:
            unknown |= 1 << slot
            continue
        for card in cards:
            if hidden and (card.id, columns.address[slot]) in hidden:
                continue
            serving[card.id] = serving.get(card.id, 0) | 1 << slot
            if card.parent:
                parents[card.id] = card.parent
    return Models(serving, parents, unknown)


def same_host(one: str, other: str) -> bool:
    """Whether two ``ip:port`` are of one Pod."""
    return one.rpartition(":")[0] == other.rpartition(":")[0]
