"""``endpoint-attribute-filter`` and ``endpoint-attribute-scorer``: any number that is scraped.

Attributes are the custom metrics of ``core-metrics-extractor``, and the standard metrics under
their published names.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from inferway.scheduling.plugins.base import Context, Filter, Scorer
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    Stability,
    not_empty,
    one_of,
    section,
)

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "LessThan": operator.lt,
    "LessThanOrEqual": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqual": operator.ge,
    "Equal": operator.eq,
    "NotEqual": operator.ne,
}
LOWER, HIGHER = "linear_lower_is_better", "linear_higher_is_better"
# Those of which the servers' metrics are the only makers.
PRODUCERS = ("", "core-metrics-extractor")


def read(context: Context, name: str, slots: list[int]) -> list[float | None]:
    """The attribute of each slot; None where it is missing."""
    columns = context.snapshot.columns
    standard = {
        "WaitingQueueSize": columns.waiting,
        "RunningRequestsSize": columns.running,
        "KVCacheUsagePercent": columns.kv_use,
    }.get(name)
    if standard is not None:
        return [standard[slot] for slot in slots]
    return [columns.attributes[slot].get(name) for slot in slots]


class EndpointAttributeFilter(Filter):
    """Compares with a threshold."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        _check_producer(values["producer"])
        self._name: str = values["attribute"]
        self._passes: bool = values["onMissing"] == "Pass"
        self._soft: bool = values["fallbackOnEmpty"]
        threshold = values["algorithm"]["threshold"]
        self._fits = OPERATORS[threshold["operator"]]
        self._value: float = threshold["value"]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        found = read(context, self._name, slots)
        kept = [
            slot
            for slot, value in zip(slots, found, strict=True)
            if (self._passes if value is None else self._fits(value, self._value))
        ]
        return slots if self._soft and not kept else kept


class EndpointAttributeScorer(Scorer):
    """(v - min) / (max - min) or its opposite, within the candidates or a fixed range."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        _check_producer(values["producer"])
        self._name: str = values["attributeKey"]
        algorithm = values["algorithm"]
        self._lower: bool = algorithm["type"] == LOWER
        normal = algorithm["normalization"]
        fixed = normal["fixedRange"]
        if fixed is not None and normal["adaptiveRange"] is not None:
            raise ValueError("algorithm.normalization: only one range may be given")
        if fixed is not None and fixed["min"] >= fixed["max"]:
            raise ValueError("algorithm.normalization.fixedRange: min must be less than max")
        self._range: tuple[float, float] | None = fixed and (fixed["min"], fixed["max"])

    def score(self, context: Context, slots: list[int]) -> list[float]:
        found = read(context, self._name, slots)
        known = [value for value in found if value is not None]
        low, high = self._range or ((min(known), max(known)) if known else (0.0, 0.0))
        return [0.0 if value is None else self._one(value, low, high) for value in found]

    def _one(self, value: float, low: float, high: float) -> float:
        if low == high:
            return 1.0
        share = (min(max(value, low), high) - low) / (high - low)
        return 1.0 - share if self._lower else share


def _check_producer(name: str) -> None:
    """Raises ValueError."""
    if name not in PRODUCERS:
        raise ValueError(f"producer: only core-metrics-extractor makes attributes, not {name!r}")


_PRODUCER = Parameter(
    str, "core-metrics-extractor", help="Plugin that makes the attribute: core-metrics-extractor."
)
_THRESHOLD: dict[str, Any] = {
    "operator": Parameter(str, REQUIRED, one_of(*OPERATORS), f"One of {', '.join(OPERATORS)}."),
    "value": Parameter(float, REQUIRED, help="What the attribute is compared with."),
}
_RANGE: dict[str, Any] = {
    "min": Parameter(float, REQUIRED, help="Worth 0, or 1 if lower is better."),
    "max": Parameter(float, REQUIRED, help="Worth 1, or 0 if lower is better."),
}

FILTER_TYPE = PluginType(
    "endpoint-attribute-filter",
    Kind.FILTER,
    EndpointAttributeFilter,
    {
        "attribute": Parameter(str, REQUIRED, not_empty, "Attribute to read."),
        "producer": _PRODUCER,
        "onMissing": Parameter(
            str, "Pass", one_of("Pass", "Fail"), "Whether servers without it pass: Pass or Fail."
        ),
        "fallbackOnEmpty": Parameter(bool, False, help="Whether all are kept if none passes."),
        "algorithm": Parameter(
            dict,
            REQUIRED,
            fields={
                "type": Parameter(str, REQUIRED, one_of("threshold"), "threshold."),
                "threshold": Parameter(dict, REQUIRED, fields=_THRESHOLD),
            },
        ),
    },
    does="attribute operator value.",
    signals=(Signal.WAITING, Signal.RUNNING, Signal.KV_USE),
    stability=Stability.ALPHA,
)
SCORER_TYPE = PluginType(
    "endpoint-attribute-scorer",
    Kind.SCORER,
    EndpointAttributeScorer,
    {
        "attributeKey": Parameter(str, REQUIRED, not_empty, "Attribute to read."),
        "producer": _PRODUCER,
        "algorithm": Parameter(
            dict,
            REQUIRED,
            fields={
                "type": Parameter(str, REQUIRED, one_of(LOWER, HIGHER), f"{LOWER} or {HIGHER}."),
                "normalization": section(
                    {
                        "fixedRange": section(_RANGE, "Within these bounds.", optional=True),
                        "adaptiveRange": section({}, "Within the candidates.", optional=True),
                    }
                ),
            },
        ),
    },
    does="(v - min) / (max - min), or 1 - that if lower is better; all equal: 1; missing: 0.",
    signals=(Signal.WAITING, Signal.RUNNING, Signal.KV_USE),
    stability=Stability.ALPHA,
)
