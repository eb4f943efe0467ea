"""``context-length-aware``: servers for short and for long prompts, by a label with a range."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter, Scorer
from inferway.scheduling.plugins.types import (
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    not_empty,
)

LABEL = "llm-d.ai/context-length-range"
UNLABELLED = 0.5
# What is in range is always worth more than this, and what is not, less.
OUTSIDE_MAX = 0.3
WIDTH_SHARE = 0.7
WIDTH_SCALE_TOKENS = 10_000
DISTANCE_SCALE_TOKENS = 1_000


class ContextLengthAware(Filter, Scorer):
    """0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * (max - n) / width) inside the range."""

    def __init__(self, making: Making) -> None:
        self._label: str = making.parameters["label"]
        self._filters: bool = making.parameters["enableFiltering"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        if not self._filters:
            return slots
        tokens = int(context.prompt_tokens)
        labels = context.snapshot.columns.labels
        kept = []
        for slot in slots:
            text = labels[slot].get(self._label)
            limits = None if text is None else parse_range(text)
            if text is None or (limits is not None and limits[0] <= tokens <= limits[1]):
                kept.append(slot)
        return kept

    def score(self, context: Context, slots: list[int]) -> list[float]:
        tokens = int(context.prompt_tokens)
        labels = context.snapshot.columns.labels
        return [_value(labels[slot].get(self._label), tokens) for slot in slots]


def _value(text: str | None, tokens: int) -> float:
    if text is None:
        return UNLABELLED
    limits = parse_range(text)
    if limits is None:
        return 0.0
    low, high = limits
    if not low <= tokens <= high:
        distance = max(tokens - high, low - tokens)
        return OUTSIDE_MAX / (1 + distance / DISTANCE_SCALE_TOKENS)
    width = high - low
    if not width:
        return 1.0
    narrow = WIDTH_SHARE / (1 + width / WIDTH_SCALE_TOKENS)
    room = (1 - WIDTH_SHARE) * (high - tokens) / width
    return OUTSIDE_MAX + (1 - OUTSIDE_MAX) * (narrow + room)


def parse_range(text: str) -> tuple[int, int] | None:
    """``min-max`` of a label; None if it is something else."""
    low, dash, high = text.partition("-")
    low, high = low.strip(), high.strip()
    if not (dash and low.isdecimal() and high.isdecimal()) or int(low) > int(high):
        return None
    return int(low), int(high)


TYPE = PluginType(
    "context-length-aware",
    Kind.SCORER,
    ContextLengthAware,
    {
        "label": Parameter(str, LABEL, not_empty, "Label that holds the range, as `0-2048`."),
        "enableFiltering": Parameter(bool, False, help="Whether to leave out others."),
    },
    does=(
        "In range: 0.3 + 0.7 * (0.7 / (1 + width / 10000) + 0.3 * (max - tokens) / width); out of "
        "it: 0.3 / (1 + distance / 1000); without label: 0.5; a label that is no range: 0."
    ),
    signals=(Signal.PROMPT, Signal.LABELS),
    also=(Kind.FILTER,),
)
