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
# The first samples replace a prior that may be wrong by an order of magnitude.
SAMPLES_FIRST = 8
# Predictions that are wrong by a factor of four in the mean are no ground for a choice.
LOG_ERROR_MAX = math.log(4.0)
# A group's estimate weighs as much as this many of an endpoint's own samples.
SHRINK_SAMPLES = 8.0
# The weight of one sample never falls under this, so that a change of speed is followed.
GAIN_MIN = 0.05
# How far one sample may move an estimate at full gain, as a factor: e^0.7 is about 2.
LOG_STEP_UP_MAX = 0.35
LOG_STEP_DOWN_MAX = 0.7
# A change of the group's rates that is worth looking at every endpoint for.
LOG_MOVED_MIN = 0.02
PLAUSIBLE_SECONDS_PER_TOKEN = (1e-7, 1.0)
PLAUSIBLE_STEP_SECONDS = (1e-5, 10.0)
# Regression of step time against batch forgets with this weight per sample.
SLOPE_GAIN = 0.02


class _Estimate:
    """A robust running estimate of the logarithm of a positive quantity."""

    __slots__ = ("log", "samples")

    def __init__(self, log: float) -> None:
        self.log = log
        self.samples = 0

    def learn(self, log: float) -> None:
        self.samples += 1
        gain = max(GAIN_MIN, 1.0 / (self.samples + 1))
        widen = 4.0 if self.samples <= SAMPLES_FIRST else 1.0
        step = log - self.log
        step = max(-LOG_STEP_DOWN_MAX * widen, min(LOG_STEP_UP_MAX * widen, step))
        self.log += gain * step


class Rates:
    """Estimates of one pool and, by slot, of its endpoints."""

    def __init__(self) -> None:
        self._prefill = _Estimate(math.log(PREFILL_SECONDS_PER_TOKEN_PRIOR))
        self._step = _Estimate(math.log(STEP_SECONDS_PRIOR))
        # How an endpoint differs from its group, so that a group that learns takes all along.
        self._prefill_of: dict[int, _Estimate] = {}
        self._step_of: dict[int, _Estimate] = {}
        # Mean distance of predictions from what came, in logarithms.
        self._error = 0.0
        # The group's rates when its endpoints' were last taken over.
        self._told = (self._prefill.log, self._step.log)
        self._batch_mean = 0.0
        self._step_mean = 0.0
        self._covariance = 0.0
        self._variance = 0.0

    @property
    def poor(self) -> bool:
        """Whether first tokens come so differently that a rule without rates is better."""
        return self._error > LOG_ERROR_MAX

    def prefill_seconds_per_token(self, slot: int) -> float:
        """Seconds per uncached prompt token."""
        return _shrunk(self._prefill_of.get(slot), self._prefill)

    def step_seconds(self, slot: int) -> float:
        """Seconds of a decode step at the usual batch."""
        return _shrunk(self._step_of.get(slot), self._step)

    def step_growth_seconds(self) -> float:
        """How many seconds one more sequence adds to a step."""
        base = math.exp(self._step.log)
        if self._step.samples < SAMPLES_FIRST or self._variance < 1.0:
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
            self._prefill.learn(math.log(value))
            _own(self._prefill_of, slot).learn(math.log(value) - self._prefill.log)

    def learn_error(self, predicted: float, seconds: float) -> None:
        """A first token came after ``seconds`` where the model says ``predicted``."""
        if predicted > 0 and seconds > 0:
            self._error += GAIN_MIN * (abs(math.log(seconds / predicted)) - self._error)

    def learn_step(self, slot: int, batch: int, seconds: float) -> None:
        """One output token took ``seconds`` among ``batch`` sequences."""
        low, high = PLAUSIBLE_STEP_SECONDS
        if not low <= seconds <= high:
            return
        usual = math.exp(self._step.log)
        self._step.learn(math.log(seconds))
        _own(self._step_of, slot).learn(math.log(seconds) - self._step.log)
        if self._step.samples > SAMPLES_FIRST and seconds > 4 * usual:
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

    def moved(self) -> bool:
        """Whether the group's rates have changed so much that those of all endpoints have."""
        told_prefill, told_step = self._told
        if (
            abs(self._prefill.log - told_prefill) < LOG_MOVED_MIN
            and abs(self._step.log - told_step) < LOG_MOVED_MIN
        ):
            return False
        self._told = (self._prefill.log, self._step.log)
        return True

    def drop(self, slot: int) -> None:
        """Forgets an endpoint that is gone."""
        self._prefill_of.pop(slot, None)
        self._step_of.pop(slot, None)


def _own(estimates: dict[int, _Estimate], slot: int) -> _Estimate:
    estimate = estimates.get(slot)
    if estimate is None:
        estimate = estimates[slot] = _Estimate(0.0)
    return estimate


def _shrunk(own: _Estimate | None, group: _Estimate) -> float:
    if own is None:
        return math.exp(group.log)
    return math.exp(group.log + own.log * own.samples / (own.samples + SHRINK_SAMPLES))
