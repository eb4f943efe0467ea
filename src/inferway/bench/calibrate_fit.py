"""From what probes took to the profile of a simulated engine, and how well it explains them.

Pure. Least squares on relative errors, so that short steps count as much as long ones, without
negative coefficients: time does not run backwards.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import msgspec

from inferway.bench.calibrate_plan import Seen
from inferway.simulator.engine.profiles import Profile, Work

# Gaps of a sequence from which its jitter is told.
JITTER_GAPS_MIN = 16
# Beyond it the machine was busy, and a simulated server should not be.
JITTER_MAX = 0.5
# A pivot below it means that two columns say the same.
_SINGULAR = 1e-18


@dataclass(frozen=True, slots=True)
class ApiCost:
    """CPU seconds of the API server for a request and for a token; unknown is zero."""

    request: float = 0.0
    token: float = 0.0


@dataclass(frozen=True, slots=True)
class Check:
    """One quantity as it was measured and as the profile tells it, in seconds."""

    what: str
    measured: float
    fitted: float

    @property
    def error(self) -> float:
        """The relative error."""
        return abs(self.fitted - self.measured) / self.measured if self.measured else 0.0


@dataclass(frozen=True, slots=True)
class Fit:
    """A profile, how it does on each probe, and how far equal probes were apart."""

    profile: Profile
    checks: tuple[Check, ...]
    spread: float

    @property
    def error(self) -> float:
        """The mean relative error over all checks."""
        return statistics.fmean(check.error for check in self.checks) if self.checks else 0.0


def solve(rows: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float]:
    """Coefficients of at least zero that explain ``wanted`` by ``rows`` with the least sum of
    squared relative errors. Tries each set of columns, of which there are few.
    """
    columns = len(rows[0]) if rows else 0
    best: tuple[float, list[float]] = (float("inf"), [0.0] * columns)
    for count in range(columns, 0, -1):
        for chosen in combinations(range(columns), count):
            found = _solve(rows, wanted, chosen)
            if found is None or min(found) < 0.0:
                continue
            full = [0.0] * columns
            for column, value in zip(chosen, found, strict=True):
                full[column] = value
            error = sum(
                (sum(a * b for a, b in zip(row, full, strict=True)) / y - 1.0) ** 2
                for row, y in zip(rows, wanted, strict=True)
                if y > 0.0
            )
            if error < best[0]:
                best = (error, full)
    return best[1]


def _solve(
    rows: Sequence[Sequence[float]], wanted: Sequence[float], chosen: Sequence[int]
) -> list[float] | None:
    """Normal equations of some columns by Gauss; None where they do not tell them apart."""
    pairs = [
        ([row[column] / y for column in chosen]) for row, y in zip(rows, wanted, strict=True) if y
    ]
    size = len(chosen)
    # Columns are scaled to length one, because their units differ by many powers of ten.
    lengths = [sum(row[i] ** 2 for row in pairs) ** 0.5 for i in range(size)]
    if min(lengths) == 0.0:
        return None
    scaled = [[value / length for value, length in zip(row, lengths, strict=True)] for row in pairs]
    matrix = [
        [sum(row[i] * row[j] for row in scaled) for j in range(size)] + [sum(r[i] for r in scaled)]
        for i in range(size)
    ]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(matrix[r][i]))
        matrix[i], matrix[pivot] = matrix[pivot], matrix[i]
        if abs(matrix[i][i]) < _SINGULAR:
            return None
        for r in range(size):
            if r != i:
                factor = matrix[r][i] / matrix[i][i]
                matrix[r] = [a - factor * b for a, b in zip(matrix[r], matrix[i], strict=True)]
    return [matrix[i][size] / matrix[i][i] / lengths[i] for i in range(size)]


def fit(seen: Sequence[Seen], cost: ApiCost, like: Profile) -> Fit:
    """The profile that explains what was seen. ``like`` has what no probe tells: name, sizes."""
    plain = [one for one in seen if not one.probe.adapter]
    decoding = [one for one in plain if one.step > 0.0]
    base, per_sequence, per_cached = solve(
        [(1.0, one.running, one.context_tokens) for one in decoding],
        [one.step for one in decoding],
    )
    times = {
        "base_seconds": base,
        "decode_sequence_seconds": per_sequence,
        "cache_token_seconds": per_cached,
        **_prefill(plain, base),
        **_frontend(plain, cost),
        **_adapter(seen, base + per_sequence),
        "jitter_share": _jitter(decoding),
    }
    profile: Profile = msgspec.structs.replace(like, **times)
    return Fit(profile, tuple(_checks(seen, profile)), spread(seen))


def _prefill(plain: Sequence[Seen], base: float) -> dict[str, float]:
    alone = [one for one in plain if one.probe.sequences == 1]
    shortest = min((one.probe.prompt_tokens for one in alone), default=0)
    # A short prompt is all base; the longer ones say what a token costs.
    alone = [one for one in alone if one.probe.prompt_tokens > shortest]
    if not alone:
        return {}
    per_token, per_pair = solve(
        [(one.probe.prompt_tokens, one.probe.prompt_tokens**2 / 2) for one in alone],
        [max(one.prefill - base, base * 0.01) for one in alone],
    )
    return {"prefill_token_seconds": per_token, "prefill_pair_seconds": per_pair}


def _frontend(plain: Sequence[Seen], cost: ApiCost) -> dict[str, float]:
    overhead = statistics.median(one.overhead for one in plain if one.probe.sequences == 1)
    request = min(cost.request, overhead)
    token = min(cost.token, overhead - request)
    return {
        "request_seconds": request,
        "token_seconds": token,
        "handover_seconds": max(overhead - request - token, 0.0),
    }


def _jitter(decoding: Sequence[Seen]) -> float:
    """How much equal steps differ: from the middle of the gaps and their upper sixth, so that a
    few pauses of the client do not count.
    """
    shares = []
    for one in decoding:
        gaps = sorted(gap for gap in one.gaps if gap > 0.0)
        if len(gaps) >= JITTER_GAPS_MIN:
            middle, upper = gaps[len(gaps) // 2], gaps[len(gaps) * 84 // 100]
            shares.append(math.log(upper / middle))
    return min(statistics.median(shares), JITTER_MAX) if shares else 0.0


def _adapter(seen: Sequence[Seen], step: float) -> dict[str, float]:
    used = [one for one in seen if one.probe.adapter]
    if not used:
        return {}
    load = used[0].prefill - used[-1].prefill if len(used) > 1 else 0.0
    return {
        "adapter_step_seconds": max(min(one.step for one in used) - step, 0.0),
        "adapter_host_load_seconds": max(load, 0.0),
    }


def _checks(seen: Sequence[Seen], profile: Profile) -> list[Check]:
    checks = []
    for one in seen:
        probe = one.probe
        adapters = 1 if probe.adapter else 0
        if probe.sequences == 1 and probe.output_tokens == 2:
            tokens = probe.prompt_tokens
            work = Work(
                prefill_tokens=tokens, prefill_pairs=tokens * (tokens + 1) // 2, adapters=adapters
            )
            what = f"prompt of {tokens} tokens"
            checks.append(Check(what, one.prefill, profile.step_seconds(work)))
        elif one.step > 0.0:
            step = (
                profile.base_seconds
                + profile.decode_sequence_seconds * one.running
                + profile.cache_token_seconds * one.context_tokens
                + profile.adapter_step_seconds * adapters
            )
            name = "with an adapter" if adapters else f"after {probe.prompt_tokens} tokens"
            what = f"step of {probe.sequences} sequences {name}"
            checks.append(Check(what, one.step, step))
    return checks


def spread(seen: Sequence[Seen]) -> float:
    """How far equal probes are apart: the median over kinds of (largest - smallest) / smallest."""
    kinds: dict[object, list[float]] = {}
    for one in seen:
        value = one.step if one.probe.output_tokens > 2 else one.prefill
        if not one.probe.adapter:
            kinds.setdefault(one.probe, []).append(value)
    gaps = [max(v) / min(v) - 1.0 for v in kinds.values() if len(v) > 1 and min(v) > 0.0]
    return statistics.median(gaps) if gaps else 0.0
