"""What ``inferway calibrate`` asks a server, and what it learns from each question.

Pure. A probe is one or several sequences that are asked at once; ten prompts say the least that a
profile needs, thirty say most of it twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PROMPTS_MIN = 10
PROMPTS_MAX = 30
# Longer prompts say nothing more about a token and take long on a CPU.
PROMPT_TOKENS_MAX = 1920
SHORT_TOKENS = 16
# Enough steps that the first and the last, which are cut, do not count.
DECODE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Probe:
    """Sequences that are asked at once, each with a prompt and an output of so many tokens."""

    sequences: int
    prompt_tokens: int
    output_tokens: int
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a probe took, in seconds.

    ``prefill`` and ``step`` are the engine's own means for a sequence: from its first step to its
    first token, and between two tokens. ``overhead`` is what a client waits for a first token
    beyond the engine. ``running`` is how many sequences were decoding at once, ``gaps`` are the
    times between the tokens of one sequence that was alone.
    """

    probe: Probe
    prefill: float
    step: float
    overhead: float
    running: float
    gaps: tuple[float, ...] = ()

    @property
    def context_tokens(self) -> float:
        """Tokens that a step of this probe reads from the cache."""
        return self.running * (self.probe.prompt_tokens + self.probe.output_tokens / 2)


def plan(prompts: int, room_tokens: int, adapters: Sequence[str] = ()) -> list[Probe]:
    """Probes of at most ``prompts`` sequences for a model with room for ``room_tokens``."""
    longest = max(min(PROMPT_TOKENS_MAX, room_tokens - DECODE_TOKENS - 1), SHORT_TOKENS)
    wished = [Probe(1, SHORT_TOKENS, DECODE_TOKENS)]
    wished += [Probe(1, longest // share, 2) for share in (1, 8, 2)]
    wished += [Probe(4, SHORT_TOKENS, DECODE_TOKENS), Probe(1, SHORT_TOKENS, DECODE_TOKENS)]
    wished += [Probe(1, longest // 4, 2)]
    # The first use of an adapter also loads it.
    wished += [Probe(1, SHORT_TOKENS, DECODE_TOKENS, name) for name in list(adapters[:1]) * 2]
    wished += [Probe(8, SHORT_TOKENS, DECODE_TOKENS)]
    # Alone, because the prefill of another sequence would count as its step.
    wished += [Probe(1, longest, DECODE_TOKENS)]
    wished += [Probe(1, longest // share, 2) for share in (1, 2)]
    wished += [Probe(1, SHORT_TOKENS, DECODE_TOKENS), Probe(1, longest // 8, 2)]
    wished += [Probe(4, SHORT_TOKENS, DECODE_TOKENS)]
    chosen = []
    for probe in wished:
        if probe.sequences <= prompts:
            prompts -= probe.sequences
            chosen.append(probe)
    return chosen
