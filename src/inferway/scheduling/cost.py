"""The default policy's measure: predicted time to first token plus the delay caused to others.

For a request with ``u`` uncached prompt tokens on a server with a backlog of ``b`` tokens, ``n``
requests, ``p`` seconds per prefill token and ``s`` seconds per step:

    ttft = (b + u) * p + s + adapter wait + wait for a place in the batch
    harm = n * (u * p + growth * expected output tokens)

Chunked prefill shares each step between prompts and decodes, so every running request is held up
for about as long as the new prompt takes; and a further sequence makes each later step longer.
While the rates are not known the ranking is LMetric's product (arXiv 2603.15202), uncached tokens
including queued ones x (batch + 1), which needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inferway.scheduling.request import Request
from inferway.scheduling.snapshot import (
    Snapshot,
    backlog_tokens,
    foreign_requests,
    waiting_requests,
)

# A server over this share of KV use evicts or preempts to take a further request.
KV_FULL_SHARE = 0.95
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
    queue_seconds: float
    harm_seconds: float
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
) -> list[float]:
    """The cost in seconds on each of ``slots``; ``matched`` are bytes of cached prefix by slot."""
    adapter = request.model in snapshot.models.parents
    if not snapshot.rates.known:
        return _products(request, snapshot, slots, matched, now)
    c = snapshot.columns
    size = len(request.prompt)
    tokens_per_byte = 1.0 / snapshot.ratios.per_token(request)
    growth = snapshot.rates.step_growth_seconds() * expected_output(request, snapshot)
    service = snapshot.usual.service_seconds
    # Columns in local names: this loop is most of a decision among many endpoints.
    per_tokens, backlogs, backlogs_at = c.prefill_seconds_per_token, c.backlog_tokens, c.backlog_at
    steps, in_flight, foreign = c.step_seconds, c.in_flight, c.foreign
    waiting, kv_use = c.waiting, c.kv_use
    cached = matched.get
    result = []
    for slot in slots:
        per_token = per_tokens[slot]
        prefill = (size - cached(slot, 0)) * tokens_per_byte * per_token
        backlog = backlogs[slot] * per_token + backlogs_at[slot] - now
        cost = prefill + steps[slot]
        if backlog > 0:
            cost += backlog
        batch = float(in_flight[slot])
        if foreign[slot] > 0:
            batch += foreign_requests(c, slot, now)
        if batch:
            cost += batch * (prefill + growth)
        if waiting[slot] > 0 or kv_use[slot] > KV_FULL_SHARE:
            cost += _queue_seconds(snapshot, slot, now)
        if adapter:
            cost += snapshot.lora.wait_seconds(slot, request.model, service)
        result.append(cost)
    return result


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
        tokens = c.in_flight_tokens[slot] + (size - matched.get(slot, 0)) * tokens_per_byte
        batch = c.in_flight[slot] + foreign_requests(c, slot, now)
        # One token is always computed, so a full hit still prefers the smaller batch.
        cost = (tokens + 1.0) * (batch + 1.0) * c.prefill_seconds_per_token[slot]
        if c.waiting[slot] > 0 or c.kv_use[slot] > KV_FULL_SHARE:
            cost += _queue_seconds(snapshot, slot, now)
        if adapter:
            cost += snapshot.lora.wait_seconds(slot, request.model, snapshot.usual.service_seconds)
        result.append(cost)
    return result


def expected_output(request: Request, snapshot: Snapshot) -> float:
    """Output tokens: what the model usually says, at most what the client allows."""
    usual = snapshot.usual.output_tokens
    return min(usual, float(request.max_tokens)) if request.max_tokens > 0 else usual


def _queue_seconds(snapshot: Snapshot, slot: int, now: float) -> float:
    """Wait for a place in the batch: places come free as running requests end."""
    c = snapshot.columns
    ahead = waiting_requests(c, slot, now)
    if ahead <= 0 and c.kv_use[slot] <= KV_FULL_SHARE:
        return 0.0
    running = max(c.running[slot], 1.0)
    return (ahead + 1.0) * snapshot.usual.service_seconds / running


def parts(
    request: Request, snapshot: Snapshot, slot: int, matched_bytes: int, now: float
) -> CostParts:
    """The same cost as ``costs``, taken apart for people."""
    c = snapshot.columns
    per_token = c.prefill_seconds_per_token[slot]
    ratio = snapshot.ratios.per_token(request)
    uncached = (len(request.prompt) - matched_bytes) / ratio
    adapter_seconds = (
        snapshot.lora.wait_seconds(slot, request.model, snapshot.usual.service_seconds)
        if request.model in snapshot.models.parents
        else 0.0
    )
    queue_seconds = (
        _queue_seconds(snapshot, slot, now)
        if c.waiting[slot] > 0 or c.kv_use[slot] > KV_FULL_SHARE
        else 0.0
    )
    batch = c.in_flight[slot] + foreign_requests(c, slot, now)
    growth = snapshot.rates.step_growth_seconds() * expected_output(request, snapshot)
    return CostParts(
        uncached_tokens=uncached,
        backlog_tokens=backlog_tokens(c, slot, now),
        requests=batch,
        prefill_seconds=uncached * per_token,
        adapter_seconds=adapter_seconds,
        queue_seconds=queue_seconds,
        harm_seconds=batch * (uncached * per_token + growth),
        cost=costs(request, snapshot, [slot], {slot: matched_bytes}, now)[0],
    )


def noise_limit(best: float, snapshot: Snapshot) -> float:
    """Costs up to this one may be called equal to the best; products are no times."""
    limit = best * (1.0 + NOISE_SHARE)
    return limit + NOISE_SECONDS if snapshot.rates.known else limit
