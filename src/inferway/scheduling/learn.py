"""What an answered request teaches about rates, ratios and adapter loads."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.scheduling.events import Finished
from inferway.scheduling.lora import IN_PLACE, LoraState
from inferway.scheduling.rates import Rates
from inferway.scheduling.reservation import Reservation
from inferway.scheduling.snapshot import Usual
from inferway.scheduling.tokens import TokenRatios

# A first token after fewer tokens than this measures the network and not the prefill.
PREFILL_TOKENS_MIN = 64
# Fewer output tokens measure single steps, which vary too much.
STEP_TOKENS_MIN = 8


@dataclass(frozen=True, slots=True)
class Learners:
    """Everything that learns."""

    rates: Rates
    ratios: TokenRatios
    lora: LoraState
    usual: Usual


def from_answer(learners: Learners, taken: Reservation, event: Finished) -> None:
    """Learns from one undisturbed answer of the endpoint that was chosen first."""
    # Times of the upstream's bytes are used, so that a slow client is not taken for a slow server.
    total = event.last_byte_seconds
    if total is None:
        total = event.duration_seconds
    learners.usual.learn(total, event.completion_tokens)
    if event.prompt_tokens:
        learners.ratios.learn(taken.model, taken.prompt_bytes, event.prompt_tokens)
        learners.ratios.learn("", taken.prompt_bytes, event.prompt_tokens)
    if total is None:
        return
    computed = _computed_tokens(taken, event)
    rates, slot = learners.rates, taken.slot
    per_token = rates.prefill_seconds_per_token(slot)
    step = rates.step_seconds(slot)
    ahead = taken.backlog_tokens + computed
    if taken.stream and event.first_byte_seconds is not None:
        first = event.first_byte_seconds
        if taken.found != IN_PLACE:
            learners.lora.learn_load(first - ahead * per_token - step, taken.found)
        elif ahead >= PREFILL_TOKENS_MIN:
            rates.learn_error(ahead * per_token + step, first)
            rates.learn_prefill(slot, ahead, first - min(step, first / 2))
        if event.completion_tokens >= STEP_TOKENS_MIN:
            seconds = (total - first) / (event.completion_tokens - 1)
            rates.learn_step(slot, taken.in_flight + 1, seconds)
        return
    if taken.found != IN_PLACE:
        return
    if event.completion_tokens >= STEP_TOKENS_MIN:
        decode = total - ahead * per_token
        if decode > 0:
            rates.learn_step(slot, taken.in_flight + 1, decode / event.completion_tokens)
        elif ahead >= PREFILL_TOKENS_MIN:
            # The whole answer took less than the prefill alone was thought to take.
            rates.learn_prefill(slot, ahead, total / 2)
    elif ahead >= PREFILL_TOKENS_MIN:
        spent = event.completion_tokens * step
        rates.learn_prefill(slot, ahead, total - min(spent, total / 2))


def _computed_tokens(taken: Reservation, event: Finished) -> float:
    """Prompt tokens that the server really computed, else the estimate."""
    if event.prompt_tokens and event.cached_tokens is not None:
        return float(max(event.prompt_tokens - event.cached_tokens, 1))
    if event.prompt_tokens and taken.prompt_bytes:
        share = 1 - taken.matched_bytes / taken.prompt_bytes
        return max(event.prompt_tokens * share, 1.0)
    return float(taken.tokens)
