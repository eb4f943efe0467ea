"""How fast the servers of a pool are, learned from what they did.

Three numbers: seconds of prefill per uncached prompt token, seconds of one decode step, and how
much a step grows with each further sequence. Everything is estimated in logarithms with bounded
steps, because times are skewed: one slow client, one pause or one wrong usage must not move
an estimate far, and slow observations are trusted less than fast ones (a client can make an answer
late but never early). An endpoint's own estimate is shrunk towards its group's.
"""

from __future__ import annotations

import math

# Priors of a mid-size GPU server: 8 000 tokens/s of prefill, 20 ms a step. Only ratios matter until
# something is learned, because all endpoints start alike.
PREFILL_SECONDS_PER_TOKEN_PRIOR = 1 / 8000
STEP_SECONDS_PRIOR = 0.020
# One more sequence makes a memory-bound step about this much of itself longer.
STEP_GROWTH_SHARE_PRIOR = 0.01
STEP_GROWTH_SHARE_MAX = 0.25
# From here on the pool's rates count as known.
SAMPLES_KNOWN_MIN = 8
# A group's estimate weighs as much as this many of an endpoint's own samples.
SHRINK_SAMPLES = 8.0
# The weight of one sample never falls under this, so that a change of speed is followed.
GAIN_MIN = 0.05
# How far one sample may move an estimate at full gain, as a factor: e^0.7 is about 2.
LOG_STEP_UP_MAX = 0.35
LOG_STEP_DOWN_MAX = 0.7
PLAUSIBLE_SECONDS_PER_TOKEN = (1e-7, 1.0)
PLAUSIBLE_STEP_SECONDS = (1e-5, 10.0)
# Regression of step time against batch forgets with this weight per sample.
SLOPE_GAIN = 0.02


class _Estimate:
    """A robust running estimate of the logarithm of a positive quantity."""

    __slots__ = ("log", "samples")

    def __init__(self, value: float) -> None:
        self.log = math.log(value)
        self.samples = 0

    def learn(self, value: float) -> None:
        self.samples += 1
        gain = max(GAIN_MIN, 1.0 / (self.samples + 1))
        # The first samples replace a prior that may be wrong by an order of magnitude.
        widen = 4.0 if self.samples <= SAMPLES_KNOWN_MIN else 1.0
        step = math.log(value) - self.log
        step = max(-LOG_STEP_DOWN_MAX * widen, min(LOG_STEP_UP_MAX * widen, step))
        self.log += gain * step


class Rates:
    """Estimates of one pool and, by slot, of its endpoints."""

    def __init__(self) -> None:
        self._prefill = _Estimate(PREFILL_SECONDS_PER_TOKEN_PRIOR)
        self._step = _Estimate(STEP_SECONDS_PRIOR)
        self._prefill_of: dict[int, _Estimate] = {}
        self._step_of: dict[int, _Estimate] = {}
        self._batch_mean = 0.0
        self._step_mean = 0.0
        self._covariance = 0.0
        self._variance = 0.0

    @property
    def known(self) -> bool:
        """Whether the engine model may be trusted more than a rule without rates."""
        return self._prefill.samples >= SAMPLES_KNOWN_MIN

    def prefill_seconds_per_token(self, slot: int) -> float:
        """Seconds per uncached prompt token."""
        return _shrunk(self._prefill_of.get(slot), self._prefill)

    def step_seconds(self, slot: int) -> float:
        """Seconds of a decode step at the usual batch."""
        return _shrunk(self._step_of.get(slot), self._step)

    def step_growth_seconds(self) -> float:
        """How many seconds one more sequence adds to a step."""
        base = math.exp(self._step.log)
        if self._step.samples < SAMPLES_KNOWN_MIN or self._variance < 1.0:
            return base * STEP_GROWTH_SHARE_PRIOR
        slope = self._covariance / self._variance
        return min(max(slope, 0.0), base * STEP_GROWTH_SHARE_MAX)

    def learn_prefill(self, slot: int, tokens: float, seconds: float) -> None:
        """``tokens`` uncached tokens (own and those ahead) took ``seconds`` to a first token."""
        if tokens <= 0 or seconds <= 0:
            return
        value = seconds / tokens
        low, high = PLAUSIBLE_SECONDS_PER_TOKEN
        if low <= value <= high:
            self._prefill.learn(value)
            self._own(self._prefill_of, slot, self._prefill).learn(value)

    def learn_step(self, slot: int, batch: int, seconds: float) -> None:
        """One output token took ``seconds`` among ``batch`` sequences."""
        low, high = PLAUSIBLE_STEP_SECONDS
        if not low <= seconds <= high:
            return
        usual = math.exp(self._step.log)
        self._step.learn(seconds)
        self._own(self._step_of, slot, self._step).learn(seconds)
        if self._step.samples > SAMPLES_KNOWN_MIN and seconds > 4 * usual:
            return
        if self._step.samples == 1:
            # Means that begin at zero would look like a slope.
            self._batch_mean, self._step_mean = float(batch), seconds
            return
        offset = batch - self._batch_mean
        self._batch_mean += SLOPE_GAIN * offset
        self._covariance += SLOPE_GAIN * (offset * (seconds - self._step_mean) - self._covariance)
        self._step_mean += SLOPE_GAIN * (seconds - self._step_mean)
        self._variance += SLOPE_GAIN * (offset * offset - self._variance)

    def drop(self, slot: int) -> None:
        """Forgets an endpoint that is gone."""
        self._prefill_of.pop(slot, None)
        self._step_of.pop(slot, None)

    @staticmethod
    def _own(estimates: dict[int, _Estimate], slot: int, group: _Estimate) -> _Estimate:
        estimate = estimates.get(slot)
        if estimate is None:
            estimate = estimates[slot] = _Estimate(math.exp(group.log))
        return estimate


def _shrunk(own: _Estimate | None, group: _Estimate) -> float:
    if own is None:
        return math.exp(group.log)
    weight = own.samples / (own.samples + SHRINK_SAMPLES)
    return math.exp(weight * own.log + (1 - weight) * group.log)
