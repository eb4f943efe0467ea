"""The plugin types of flow control: names, parameters, defaults. ``flow`` acts on them."""

from __future__ import annotations

from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Parameter,
    PluginType,
    Stability,
    above,
    at_least,
    between,
    one_of,
)

_SHARE = between(0, 1)

TYPES = (
    PluginType(
        "global-strict-fairness-policy",
        Kind.FAIRNESS,
        does="The request that the ordering policy puts first, whoever sent it.",
    ),
    PluginType(
        "round-robin-fairness-policy",
        Kind.FAIRNESS,
        does="One request of each flow in turn.",
    ),
    PluginType(
        "program-aware-fairness",
        Kind.FAIRNESS,
        parameters={
            "strategy": Parameter(str, "las", one_of("las"), "las: least attained service."),
            "lasWeightService": Parameter(float, 0.8, at_least(0), "Weight of service so far."),
            "lasWeightHeadWait": Parameter(float, 0.2, at_least(0), "Weight of the first's wait."),
            "lasHalfLifeSeconds": Parameter(
                float, 60.0, at_least(0), "Half-life of service in seconds; 0: it is not forgotten."
            ),
            "evictionTtlSeconds": Parameter(
                float, 3600.0, above(0), "A flow that is idle so long is forgotten."
            ),
            "evictionSweepSeconds": Parameter(float, 300.0, above(0), unused=True),
        },
        does=(
            "The flow that had least: 0.8 * (1 - service / most) + 0.2 * wait / longest; service "
            "is prompt tokens + 2 * output tokens, halved every 60 s."
        ),
    ),
    PluginType(
        "fcfs-ordering-policy",
        Kind.ORDERING,
        does="The earliest request first.",
    ),
    PluginType(
        "edf-ordering-policy",
        Kind.ORDERING,
        does="The earliest deadline first: arrival + time to live; none: last.",
    ),
    PluginType(
        "slo-deadline-ordering-policy",
        Kind.ORDERING,
        does="The earliest arrival + `x-slo-ttft-ms` first; without the header: last.",
    ),
    PluginType(
        "static-usage-limit-policy",
        Kind.USAGE_LIMIT,
        parameters={"threshold": Parameter(float, 1.0, _SHARE, "Saturation that stops all bands.")},
        does="ceiling = threshold for every band.",
    ),
    PluginType(
        "priority-holdback-policy",
        Kind.USAGE_LIMIT,
        parameters={
            "minCeiling": Parameter(float, REQUIRED, _SHARE, "Ceiling of the lowest priority."),
            "maxCeiling": Parameter(float, 1.0, _SHARE, "Ceiling of the highest priority."),
            "domain": Parameter(str, "rank", one_of("rank", "value"), "rank or value."),
            "shape": Parameter(str, "linear", one_of("linear"), "linear."),
        },
        does=(
            "rank: ceiling = max - i * (max - min) / (N - 1), i = rank of the priority; value: min "
            "+ (p - lowest) / (highest - lowest) * (max - min)."
        ),
        stability=Stability.ALPHA,
    ),
    PluginType(
        "soft-reflective-ceiling-policy",
        Kind.USAGE_LIMIT,
        does=(
            "ceiling = 1 - i * saturation / (N - 1); at it one call in round(s / (1 - s)) is open; "
            "saturation 1: closed."
        ),
        stability=Stability.ALPHA,
    ),
    PluginType(
        "sheddable-eviction-filter",
        Kind.EVICTION_FILTER,
        does="Requests of negative priority may be evicted.",
        stability=Stability.ALPHA,
    ),
    PluginType(
        "priority-then-time-eviction-order-policy",
        Kind.EVICTION_ORDER,
        does="The lowest priority first, among equals the newest.",
        stability=Stability.ALPHA,
    ),
)
