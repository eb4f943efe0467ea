"""The default policy's measure: predicted time to first token plus the delay caused to others.

For a request with ``u`` uncached prompt tokens on a server with a backlog of ``b`` tokens, ``n``
requests, ``p`` seconds per prefill token and ``s`` seconds per step:

    work = u * p
    wait = the longer of b * p and the wait for room in the KV cache
    ttft = wait + work + s + adapter wait
    harm = n * (work / 2 + growth * expected output tokens)
         + work * (wait + work / 2) * arrivals / (1 - busy share)

Chunked prefill shares each step between prompts and decodes, so every running request is held up
for about as long as the new prompt takes; and a further sequence makes each later step longer. The
last term is for those who come next: work delays everybody who comes until the server is idle
again. It is the difference of the value function of an M/G/1 queue (Hyytiä, Penttinen and Aalto,
EJOR 2012), with the arrivals per server and the busy share of the last minute. It makes a prefix
that is cached worth more the busier the pool is.

A prefix that others ask for too is computed for all of them. Of ``a`` requests in flight with it,
Little's law has ``a * wait / (wait + service)`` more come while the server that has it is busy; one
more among ``h`` that have it gets its share ``x`` of them, ``1 / (h + 1)``, and so only
``1 / (x + 1)`` of computing the prefix there counts as harm. Otherwise a burst with one long prefix
would stay on one server, whatever waits there.

Where first tokens come very differently from what the model says the ranking is LMetric's product
(arXiv 2603.15202), uncached tokens including queued ones x (batch + 1), which needs no rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferway.scheduling.request import Request
from inferway.scheduling.snapshot import (
    SCRAPE_MEMORY_SECONDS,
    Snapshot,
    backlog_tokens,
    foreign_requests,
)

# A token that comes later inside an answer counts this much of one that somebody waits for first.
DECODE_SHARE = 0.5
# Two costs that differ by less than this share, or by less than this time, are equal: the
# prediction is not better than that.
NOISE_SHARE = 0.02
NOISE_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class CostParts:
    """Where one endpoint's cost comes from; seconds, but for tokens and requests."""

    uncached_tokens: float
    backlog_tokens: float
    requests: float
    prefill_seconds: float
    adapter_seconds: float
    wait_seconds: float
    harm_seconds: float
    later_seconds: float
    cost: float


def prompt_tokens(request: Request, snapshot: Snapshot) -> float:
    """Estimated tokens of the whole prompt."""
    return len(request.prompt) / snapshot.ratios.per_token(request)


def costs(
    request: Request,
    snapshot: Snapshot,
    slots: Sequence[int],
    matched: Mapping[int, int],
    now: float,
    askers: int = 0,
) -> list[float]:
    """The cost in seconds on each of ``slots``; ``matched`` are bytes of cached prefix by slot.

    ``askers`` more requests in flight have the longest of these prefixes in common with this one.
    """
    adapter = request.model in snapshot.models.parents
    if snapshot.rates.poor:
        return _products(request, snapshot, slots, matched, now)
    c = snapshot.columns
    size = len(request.prompt)
    tokens_per_byte = 1.0 / snapshot.ratios.per_token(request)
    growth = snapshot.rates.step_growth_seconds() * expected_output(request, snapshot)
    service = snapshot.usual.service_seconds
    # Columns in local names: this loop is most of a decision among many endpoints.
    per_tokens, backlogs, backlogs_at = c.prefill_seconds_per_token, c.backlog_tokens, c.backlog_at
    steps, in_flight, foreign, queued = c.step_seconds, c.in_flight, c.foreign, c.queued
    placed, rooms, used = c.placed_tokens, c.kv_room_tokens, c.kv_used_tokens
    pressure = snapshot.usual.pressure(len(c.live))
    cached = matched.get
    lora = snapshot.lora
    longest, shared = _shared(snapshot, matched, askers, now) if askers else (0, 0.0)
    shared *= tokens_per_byte
    result = []
    for slot in slots:
        per_token = per_tokens[slot]
        tokens = (size - cached(slot, 0)) * tokens_per_byte
        prefill = tokens * per_token
        wait = backlogs[slot] * per_token + backlogs_at[slot] - now
        if wait < 0:
            wait = 0.0
        short = placed[slot] + tokens - rooms[slot]
        if short > 0:
            room_wait = short / max(used[slot], 1.0) * service
            if room_wait > wait:
                wait = room_wait
        if queued[slot] > 0:
            wait += _place_seconds(snapshot, slot, now)
        work = prefill
        if shared > 0:
            work -= shared * (longest - cached(slot, 0)) * per_token
        cost = wait + prefill + steps[slot] + pressure * work * (wait + 0.5 * prefill)
        batch = float(in_flight[slot])
        if foreign[slot] > 0:
            batch += foreign_requests(c, slot, now)
        if batch:
            cost += batch * (DECODE_SHARE * work + growth)
        if adapter:
            cost += lora.wait_seconds(slot, request.model, service)
            cost += lora.harm_seconds(slot, request.model, service, batch)
        result.append(cost)
    return result


def _shared(
    snapshot: Snapshot, matched: Mapping[int, int], askers: int, now: float
) -> tuple[int, float]:
    """Bytes of the longest prefix, and which part of computing it once more others owe."""
    c = snapshot.columns
    longest = max(matched.values())
    holders = [slot for slot, size in matched.items() if size == longest]
    if len(holders) == len(c.live):
        return longest, 0.0
    wait = min(
        [backlog_tokens(c, slot, now) * c.prefill_seconds_per_token[slot] for slot in holders]
    )
    coming = askers * wait / (wait + snapshot.usual.service_seconds) / (len(holders) + 1)
    return longest, coming / (coming + 1.0)


def _products(
    request: Request,
    snapshot: Snapshot,
    slots: Sequence[int],
    matched: Mapping[int, int],
    now: float,
) -> list[float]:
    c = snapshot.columns
    adapter = request.model in snapshot.models.parents
    size = len(request.prompt)
    tokens_per_byte = 1.0 / snapshot.ratios.per_token(request)
    result = []
    for slot in slots:
        tokens = backlog_tokens(c, slot, now) + (size - matched.get(slot, 0)) * tokens_per_byte
        batch = c.in_flight[slot] + foreign_requests(c, slot, now)
        # One token is always computed, so a full hit still prefers the smaller batch.
        cost = (tokens + 1.0) * (batch + 1.0) * c.prefill_seconds_per_token[slot]
        if c.queued[slot] > 0:
            cost += _place_seconds(snapshot, slot, now)
        if adapter:
            cost += snapshot.lora.wait_seconds(slot, request.model, snapshot.usual.service_seconds)
        result.append(cost)
    return result


def expected_output(request: Request, snapshot: Snapshot) -> float:
    """Output tokens: what the model usually says, at most what the client allows."""
    usual = snapshot.usual.output_tokens
    return min(usual, float(request.max_tokens)) if request.max_tokens > 0 else usual


def _place_seconds(snapshot: Snapshot, slot: int, now: float) -> float:
    """Wait for a place in the batch behind ``queued``: places come free as requests end."""
    c = snapshot.columns
    weight = math.exp((c.scraped_at[slot] - now) / SCRAPE_MEMORY_SECONDS)
    ahead = c.queued[slot] * weight + 1.0
    return ahead * snapshot.usual.service_seconds / max(c.running[slot], 1.0)


def _wait_seconds(snapshot: Snapshot, slot: int, tokens: float, now: float) -> float:
    """Until the server begins with a prompt of ``tokens``, as ``costs`` has it."""
    c = snapshot.columns
    wait = backlog_tokens(c, slot, now) * c.prefill_seconds_per_token[slot]
    short = c.placed_tokens[slot] + tokens - c.kv_room_tokens[slot]
    if short > 0:
        wait = max(wait, short / max(c.kv_used_tokens[slot], 1.0) * snapshot.usual.service_seconds)
    return wait + (_place_seconds(snapshot, slot, now) if c.queued[slot] > 0 else 0.0)


def parts(
    request: Request,
    snapshot: Snapshot,
    slots: Sequence[int],
    matched: Mapping[int, int],
    now: float,
    askers: int = 0,
) -> list[CostParts]:
    """The same costs as ``costs``, taken apart for people."""
    values = costs(request, snapshot, slots, matched, now, askers)
    longest, shared = _shared(snapshot, matched, askers, now) if askers else (0, 0.0)
    return [
        _parts(request, snapshot, slot, size, shared * (longest - size), now=now, cost=value)
        for slot, size, value in zip(slots, [matched.get(s, 0) for s in slots], values, strict=True)
    ]


def _parts(
    request: Request,
    snapshot: Snapshot,
    slot: int,
    matched_bytes: int,
    shared: float,
    *,
    now: float,
    cost: float,
) -> CostParts:
    c, lora = snapshot.columns, snapshot.lora
    per_token = c.prefill_seconds_per_token[slot]
    ratio = snapshot.ratios.per_token(request)
    uncached = (len(request.prompt) - matched_bytes) / ratio
    wait = _wait_seconds(snapshot, slot, uncached, now)
    prefill = uncached * per_token
    work = prefill - shared / ratio * per_token
    batch = c.in_flight[slot] + foreign_requests(c, slot, now)
    growth = snapshot.rates.step_growth_seconds() * expected_output(request, snapshot)
    harm = batch * (DECODE_SHARE * work + growth)
    adapter_seconds = 0.0
    if request.model in snapshot.models.parents:
        service = snapshot.usual.service_seconds
        adapter_seconds = lora.wait_seconds(slot, request.model, service)
        harm += lora.harm_seconds(slot, request.model, service, batch)
    return CostParts(
        uncached_tokens=uncached,
        backlog_tokens=backlog_tokens(c, slot, now),
        requests=batch,
        prefill_seconds=prefill,
        adapter_seconds=adapter_seconds,
        wait_seconds=wait,
        harm_seconds=harm,
        later_seconds=snapshot.usual.pressure(len(c.live)) * work * (wait + 0.5 * prefill),
        cost=cost,
    )


def noise_limit(best: float, snapshot: Snapshot) -> float:
    """Costs up to this one may be called equal to the best; products are no times."""
    limit = best * (1.0 + NOISE_SHARE)
    return limit if snapshot.rates.poor else limit + NOISE_SECONDS
