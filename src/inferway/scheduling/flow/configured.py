"""What an EndpointPickerConfig says of flow control, as options of the queue.

A file that says nothing of it gets Inferway's own defaults; one that does gets the published ones
for what it leaves out. A feature gate that is off leaves shedding, and the queue of empty pools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from inferway.scheduling.flow import ordering
from inferway.scheduling.flow.capacity import (
    ConcurrencyDetector,
    Detector,
    UtilizationDetector,
)
from inferway.scheduling.flow.fairness import Fairness, GlobalStrict, ProgramAware, RoundRobin
from inferway.scheduling.flow.options import BYTES_MAX, REQUESTS_MAX, BandOptions, FlowOptions
from inferway.scheduling.flow.ordering import Ordering
from inferway.scheduling.flow.usage import (
    Holdback,
    OnlySheddable,
    SoftReflective,
    Static,
    UsageLimit,
)
from inferway.scheduling.settings import BandSettings, FlowSettings, Setting

_ORDERINGS: Mapping[str, Ordering] = {
    "fcfs-ordering-policy": ordering.first_come,
    "edf-ordering-policy": ordering.earliest_deadline,
    "slo-deadline-ordering-policy": ordering.slo_deadline,
}


def options_of(settings: FlowSettings) -> FlowOptions:
    """The options; annotations of the pool may change them."""
    if settings.gate is False:
        return FlowOptions(usage_limit=OnlySheddable(), detector=_detector(settings.detector))
    if settings.gate is None and not settings.given:
        return FlowOptions()
    return FlowOptions(
        bands={band.priority: _band(band) for band in settings.bands},
        default_band=_band(settings.default_band),
        negative_band=_band(settings.negative_band),
        max_bytes=settings.max_bytes or BYTES_MAX,
        max_requests=settings.max_requests or REQUESTS_MAX,
        ttl_seconds=settings.request_ttl_seconds,
        # 0 says that there is no limit but the proxies' own.
        empty_ttl_seconds=settings.no_endpoint_ttl_seconds or math.inf,
        usage_limit=_usage_limit(settings.usage_limit),
        detector=_detector(settings.detector),
    )


def _band(settings: BandSettings) -> BandOptions:
    return BandOptions(
        fairness=_fairness(settings.fairness),
        ordering=_ORDERINGS[settings.ordering.type],
        max_bytes=settings.max_bytes,
        max_requests=settings.max_requests,
        ttl_seconds=settings.request_ttl_seconds,
    )


def _fairness(setting: Setting) -> Callable[[], Fairness]:
    given = setting.parameters
    if setting.type == "program-aware-fairness":
        return partial(
            ProgramAware,
            given["lasWeightService"],
            given["lasWeightHeadWait"],
            given["lasHalfLifeSeconds"] or math.inf,
        )
    return RoundRobin if setting.type == "round-robin-fairness-policy" else GlobalStrict


def _usage_limit(setting: Setting) -> UsageLimit:
    given = setting.parameters
    if setting.type == "priority-holdback-policy":
        return Holdback(
            given["minCeiling"], given["maxCeiling"], by_value=given["domain"] == "value"
        )
    if setting.type == "soft-reflective-ceiling-policy":
        return SoftReflective()
    return Static(given["threshold"])


def _detector(setting: Setting) -> Callable[[], Detector]:
    given: Mapping[str, Any] = setting.parameters
    if setting.type == "concurrency-detector":
        return partial(
            ConcurrencyDetector,
            given["concurrencyMode"],
            float(given["maxConcurrency"]),
            float(given["maxTokenConcurrency"]),
        )
    return partial(
        UtilizationDetector,
        float(given["queueDepthThreshold"]),
        given["kvCacheUtilThreshold"],
        given["metricsStalenessThreshold"],
    )
