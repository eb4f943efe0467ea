"""``probabilistic-admitter``: the fuller the pool, the more of what may be shed is refused."""

from __future__ import annotations

from inferway.scheduling.decision import Refusal, RefusalReason
from inferway.scheduling.plugins.base import Admitter, Context
from inferway.scheduling.plugins.types import Kind, Making, Parameter, PluginType, Signal, above

RETRY_SECONDS = 1.0


class ProbabilisticAdmitter(Admitter):
    """Refuses a request of negative priority with the chance min(k * saturation^power, 1)."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        self._waiting: float = values["queueDepthThreshold"]
        self._kv_use: float = values["kvCacheUtilThreshold"]
        self._power: float = values["power"]
        self._k: float = values["k"]

    def admit(self, context: Context, slots: list[int]) -> Refusal | None:
        if context.request.priority >= 0:
            return None
        chance = self.chance(context, slots)
        if context.rng.random() >= chance:
            return None
        return Refusal(
            RefusalReason.SHED,
            "The pool is busy and the request's priority allows to shed it.",
            retry_after_seconds=RETRY_SECONDS,
        )

    def chance(self, context: Context, slots: list[int]) -> float:
        """Saturation is the mean of the servers' max(waiting / threshold, KV use / threshold)."""
        c = context.snapshot.columns
        total: float = sum(
            [max(c.waiting[slot] / self._waiting, c.kv_use[slot] / self._kv_use) for slot in slots]
        )
        saturation = total / len(slots)
        return float(min(self._k * saturation**self._power, 1.0))


TYPE = PluginType(
    "probabilistic-admitter",
    Kind.ADMITTER,
    ProbabilisticAdmitter,
    {
        "queueDepthThreshold": Parameter(int, 5, above(0), "Waiting requests of a full server."),
        "kvCacheUtilThreshold": Parameter(float, 0.8, above(0), "KV cache use of a full server."),
        "power": Parameter(float, 5.0, above(0), "How steeply the chance grows."),
        "k": Parameter(float, 300.0, above(0), "How early it grows."),
    },
    does=(
        "Priority < 0: refused with the chance min(saturation^power * k, 1), saturation = mean of "
        "max(waiting / queueDepthThreshold, KV use / kvCacheUtilThreshold)."
    ),
    signals=(Signal.WAITING, Signal.KV_USE),
)
