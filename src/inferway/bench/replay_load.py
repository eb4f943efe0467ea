"""How much work a replay is, by the simulated engine in its own time: no clock, no waiting."""

from __future__ import annotations

from collections.abc import Sequence

from inferway.bench.replay_trace import Call, prompt
from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig, Request

# The gap depends on how much is batched, which depends on the gap; a few rounds settle it.
ROUNDS = 6


def busy_seconds(
    profile: Profile, config: EngineConfig, calls: Sequence[Call], gap: float
) -> float:
    """Seconds in which a server works on ``calls`` that come ``gap`` apart in the mean."""
    engine = Engine(config, profile)
    tokens = range(1, 5000)
    now = busy = 0.0
    waiting = list(reversed(calls))
    while waiting or not engine.idle:
        if engine.idle:
            now = max(now, waiting[-1].at * gap)
        while waiting and waiting[-1].at * gap <= now:
            call = waiting.pop()
            engine.add(
                Request(
                    id=call.number,
                    prompt=prompt(call, tokens, 0),
                    output=range(call.output_tokens),
                    arrived=now,
                )
            )
        step = engine.step(now)
        now += step.seconds
        busy += step.seconds
    # On one core the API server's work takes time from the engine.
    output = sum(call.output_tokens for call in calls)
    return busy + profile.request_seconds * len(calls) + profile.token_seconds * output


def gap_for(profile: Profile, config: EngineConfig, calls: Sequence[Call], share: float) -> float:
    """Seconds between arrivals at which a server works for ``share`` of the time."""
    gap = busy_seconds(profile, config, calls, 1.0) / (len(calls) * share)
    for _ in range(ROUNDS):
        gap = busy_seconds(profile, config, calls, gap) / (len(calls) * share)
    return gap
