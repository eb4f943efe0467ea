"""``inferway-cost-scorer``: the default policy's cost as a score. See scheduling/cost.py."""

from __future__ import annotations

from inferway.scheduling.cost import costs, noise_limit
from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.types import Kind, PluginType, Signal, plain


class CostScorer(Scorer):
    """1 for the least cost and what equals it within noise, else that limit / cost."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        values = costs(context.request, context.snapshot, slots, context.matched, context.now)
        limit = noise_limit(min(values), context.snapshot)
        return [min(1.0, limit / value) for value in values]


TYPE = PluginType(
    "inferway-cost-scorer",
    Kind.SCORER,
    plain(CostScorer),
    does=(
        "Least cost: 1; else least cost / cost. The cost is the predicted time to the first token "
        "plus the delay of those already there."
    ),
    signals=(
        Signal.OWN,
        Signal.PROMPT,
        Signal.PREFIXES,
        Signal.WAITING,
        Signal.KV_USE,
        Signal.ADAPTERS,
        Signal.RATES,
    ),
)
