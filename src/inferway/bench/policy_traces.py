"""The workloads of ``make bench-policy``: what is asked, when, and what prompts have in common.

A prompt is a list of segments (content, tokens): two prompts share a prefix as far as their
segments are equal. Pure: the same seed gives the same calls. Shapes and figures follow published
traces: Mooncake's conversations (512-token blocks), Azure's 2023 conversation and code traces, and
agents' sessions as inference-perf's catalogue describes them.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import InferwayError

# Mooncake hashes prompts in blocks of this size and gives times in ticks of three seconds.
MOONCAKE_BLOCK_TOKENS = 512
MOONCAKE_TICK_SECONDS = 3.0
# A simulated server refuses what is longer than its cache.
PROMPT_TOKENS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``at`` is in units of the mean gap between arrivals."""

    at: float
    segments: tuple[tuple[int, int], ...]
    output_tokens: int
    adapter: str = ""

    @property
    def prompt_tokens(self) -> int:
        return sum(size for _, size in self.segments)


@dataclass(frozen=True, slots=True)
class Trace:
    """A workload. ``loads`` are requests per second of the whole pool, the third is the knee.

    ``speeds`` are how slow each server is, 1 being the profile; ``slots`` are places for adapters.
    """

    name: str
    calls: Callable[[int, int], list[Call]]
    loads: tuple[float, float, float, float]
    speeds: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    adapters: int = 0
    slots: int = 1
    # vLLM keeps as many adapters in host memory.
    host_slots: int = 16


def traces(mooncake: Path | None) -> list[Trace]:
    """All of them; the first one from the file, if there is one, else of the same shape."""

    def conversation(seed: int, count: int) -> list[Call]:
        return read_mooncake(mooncake, seed, count) if mooncake else like_mooncake(seed, count)

    return [
        Trace("mooncake" if mooncake else "mooncake-like", conversation, (0.4, 1.0, 1.5, 1.7)),
        Trace("azure-chat", azure_chat, (4.0, 10.0, 15.0, 17.0)),
        Trace("azure-code-bursts", azure_code, (1.0, 4.0, 8.0, 10.0)),
        Trace("agents", agents, (0.5, 2.0, 4.0, 6.0)),
        Trace("shared-prefixes", shared_prefixes, (4.0, 12.0, 18.0, 22.0)),
        Trace("same-prefix-bursts", bursts, (3.0, 9.0, 14.0, 18.0)),
        Trace("adapters", adapters, (2.0, 6.0, 9.0, 12.0), adapters=16, slots=4),
        Trace("mixed-servers", azure_chat, (4.0, 9.0, 13.0, 15.0), (0.5, 1.0, 1.0, 2.5)),
    ]


# -- from a file ---------------------------------------------------------------------------


def read_mooncake(path: Path, seed: int, count: int) -> list[Call]:
    """A part of a trace in Mooncake's format, as long as ``count``. Raises InferwayError.

    Requests of one tick are spread over it, since their real times are not told.
    """
    rng = random.Random(seed)
    try:
        lines = path.read_text().splitlines()
        begin = rng.randrange(max(len(lines) - count, 0) + 1) if seed else 0
        rows = [json.loads(line) for line in lines[begin : begin + count]]
        first, last = rows[0]["timestamp"] / 1e3, rows[-1]["timestamp"] / 1e3
        gap = (last - first + MOONCAKE_TICK_SECONDS) / len(rows)
        found = []
        for row in rows:
            size = min(int(row["input_length"]), PROMPT_TOKENS_MAX)
            at = row["timestamp"] / 1e3 - first + rng.random() * MOONCAKE_TICK_SECONDS
            output = max(int(row["output_length"]), 1)
            found.append(Call(at / gap, tuple(_blocks(row["hash_ids"], size)), output))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InferwayError(
            "INFERWAY0512",
            f"{path} is no trace: {error}",
            fix="Name a JSON-lines file with timestamp, input_length, output_length and hash_ids.",
        ) from None
    return sorted(found, key=lambda call: call.at)


def _blocks(ids: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    for number in ids:
        if size <= 0:
            return
        yield int(number), min(size, MOONCAKE_BLOCK_TOKENS)
        size -= MOONCAKE_BLOCK_TOKENS


# -- generated -----------------------------------------------------------------------------


class _Fresh:
    """Contents that nobody else has."""

    def __init__(self) -> None:
        self._last = 1_000_000

    def __call__(self) -> int:
        self._last += 1
        return self._last


def _lognormal(rng: random.Random, median: float, sigma: float, low: int, high: int) -> int:
    return int(min(max(median * math.exp(rng.gauss(0.0, sigma)), low), high))


def _poisson(rng: random.Random, count: int) -> Iterator[float]:
    at = 0.0
    for _ in range(count):
        at += rng.expovariate(1.0)
        yield at


def like_mooncake(seed: int, count: int) -> list[Call]:
    """Conversations that grow turn by turn; half of them end after one."""
    rng = random.Random(seed)
    fresh = _Fresh()
    open_sessions: list[tuple[tuple[int, int], ...]] = []
    calls: list[Call] = []
    for at in _poisson(rng, count):
        output = _lognormal(rng, 350, 0.6, 2, 2000)
        if open_sessions and rng.random() < 0.45:
            head = open_sessions.pop(rng.randrange(len(open_sessions)))
            segments = (*head, (fresh(), _lognormal(rng, 900, 1.0, 32, 20_000)))
        else:
            size = _lognormal(rng, 5000, 1.2, 200, PROMPT_TOKENS_MAX - 1000)
            segments = ((0, 512), (fresh(), size))
        if sum(part for _, part in segments) < PROMPT_TOKENS_MAX - 22_000:
            open_sessions.append(segments)
            del open_sessions[:-60]
        calls.append(Call(at, segments, output))
    return calls


def azure_chat(seed: int, count: int) -> list[Call]:
    """Nothing in common; prompts of about a thousand tokens."""
    rng = random.Random(seed)
    fresh = _Fresh()
    return [
        Call(
            at,
            ((fresh(), _lognormal(rng, 1020, 0.75, 16, 14_000)),),
            _lognormal(rng, 129, 1.0, 2, 800),
        )
        for at in _poisson(rng, count)
    ]


def azure_code(seed: int, count: int) -> list[Call]:
    """Short answers; requests come in bursts with pauses between."""
    rng = random.Random(seed)
    fresh = _Fresh()
    calls: list[Call] = []
    at = 0.0
    burst = 0
    for _ in range(count):
        if burst == 0:
            burst = 1 + int(rng.expovariate(1 / 12))
            at += rng.expovariate(1 / 12.5)
        burst -= 1
        at += rng.expovariate(25.0)
        size = _lognormal(rng, 1469, 0.85, 16, 7437)
        calls.append(Call(at, ((fresh(), size),), _lognormal(rng, 13, 0.9, 2, 200)))
    return _mean_gap_one(calls)


def agents(seed: int, count: int) -> list[Call]:
    """Sessions of many calls, each with the whole past in front; tools run in between."""
    rng = random.Random(seed)
    fresh = _Fresh()
    waiting: list[tuple[float, int, tuple[tuple[int, int], ...], int]] = []
    calls: list[Call] = []
    at = 0.0
    # With 20 calls a session and this gap, a new session every 20 units keeps the mean gap at 1.
    next_session = 0.0
    while len(calls) < count:
        if not waiting or next_session <= min(waiting)[0]:
            at = next_session
            next_session += rng.expovariate(1 / 20)
            head = ((1, 2000), (fresh(), _lognormal(rng, 8000, 0.8, 500, 40_000)))
            waiting.append((at, fresh(), head, 1 + int(rng.expovariate(1 / 19))))
            continue
        waiting.sort()
        at, _, segments, left = waiting.pop(0)
        output = _lognormal(rng, 120, 1.0, 4, 1500)
        calls.append(Call(at, segments, output))
        size = sum(part for _, part in segments)
        if left > 1 and size < PROMPT_TOKENS_MAX - 10_000:
            grown = (*segments, (fresh(), output + _lognormal(rng, 600, 1.0, 20, 6000)))
            waiting.append((at + rng.expovariate(1 / 15), fresh(), grown, left - 1))
    return _mean_gap_one(calls)


def shared_prefixes(seed: int, count: int) -> list[Call]:
    """64 groups, popular ones more often, with a long prefix each and a short question."""
    rng = random.Random(seed)
    fresh = _Fresh()
    weights = [(n + 1) ** -0.7 for n in range(64)]
    return [
        Call(
            at,
            (
                (rng.choices(range(100, 164), weights)[0], 4096),
                (fresh(), _lognormal(rng, 300, 0.8, 16, 4000)),
            ),
            _lognormal(rng, 120, 0.8, 2, 800),
        )
        for at in _poisson(rng, count)
    ]


def bursts(seed: int, count: int) -> list[Call]:
    """A new long prefix comes up and twenty requests have it at once."""
    rng = random.Random(seed)
    fresh = _Fresh()
    calls: list[Call] = []
    at = 0.0
    while len(calls) < count:
        at += rng.expovariate(1 / 20)
        content, size = fresh(), _lognormal(rng, 5000, 0.5, 1000, 20_000)
        for _ in range(1 + int(rng.expovariate(1 / 19))):
            own = (fresh(), _lognormal(rng, 200, 0.8, 16, 2000))
            output = _lognormal(rng, 100, 0.8, 2, 600)
            calls.append(Call(at + rng.expovariate(1 / 2), ((content, size), own), output))
    calls.sort(key=lambda call: call.at)
    return _mean_gap_one(calls[:count])


def adapters(seed: int, count: int) -> list[Call]:
    """Sixteen adapters on servers with four places, popular ones more often."""
    rng = random.Random(seed)
    fresh = _Fresh()
    weights = [(n + 1) ** -1.0 for n in range(16)]
    return [
        Call(
            at,
            ((fresh(), _lognormal(rng, 600, 0.8, 16, 6000)),),
            _lognormal(rng, 120, 0.8, 2, 800),
            f"a{rng.choices(range(16), weights)[0]:02d}",
        )
        for at in _poisson(rng, count)
    ]


def _mean_gap_one(calls: list[Call]) -> list[Call]:
    gap = (calls[-1].at - calls[0].at) / max(len(calls) - 1, 1) or 1.0
    first = calls[0].at
    return [
        Call((call.at - first) / gap, call.segments, call.output_tokens, call.adapter)
        for call in calls
    ]
