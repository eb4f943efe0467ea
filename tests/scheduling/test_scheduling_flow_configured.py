"""Flow control of configurations as options of the queue."""

from __future__ import annotations

import math
from typing import Any

from inferway.scheduling.config import load
from inferway.scheduling.flow import ordering
from inferway.scheduling.flow.capacity import (
    ConcurrencyDetector,
    StartSoonDetector,
    UtilizationDetector,
)
from inferway.scheduling.flow.configured import options_of
from inferway.scheduling.flow.fairness import (
    GlobalStrict,
    ProgramAware,
    RoundRobin,
    TokenFairness,
)
from inferway.scheduling.flow.options import FlowOptions
from inferway.scheduling.flow.usage import Holdback, SoftReflective, Static
from inferway.scheduling.plugins.registry import plugin_types


def options(**document: Any) -> FlowOptions:
    head = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}
    plugins = [{"type": "queue-scorer"}, *document.pop("plugins", ())]
    profile = [{"name": "default", "plugins": [{"pluginRef": "queue-scorer"}]}]
    loaded = load(
        {**head, "plugins": plugins, "schedulingProfiles": profile, **document},
        plugin_types(),
        allow_alpha=True,
    )
    return options_of(loaded.flow)


def test_a_file_that_says_nothing_has_our_defaults() -> None:
    found = options()
    assert found == FlowOptions()
    assert isinstance(found.detector(), StartSoonDetector)
    assert isinstance(found.band(0).fairness(), TokenFairness)
    assert found.band(-1).max_requests == 0


def test_the_gate_switches_it_off_and_on() -> None:
    off = options(featureGates=["flowControl=false"])
    assert isinstance(off.detector(), UtilizationDetector)
    # Shedding stays, as the published pickers have it.
    assert list(off.usage_limit.ceilings([0, -1], 2.0)) == [math.inf, 1.0]
    assert off.band(-1).max_requests == 0
    found = options(featureGates=["flowControl"])
    assert isinstance(found.detector(), UtilizationDetector)
    assert isinstance(found.band(0).fairness(), GlobalStrict)
    assert found.band(0).ordering is ordering.first_come
    assert (found.ttl_seconds, found.empty_ttl_seconds) == (60.0, 60.0)
    # Whoever configures it as published has negative bands that wait.
    assert found.band(-1).max_requests == 5000


def test_bands_limits_and_times() -> None:
    found = options(
        plugins=[
            {"type": "round-robin-fairness-policy"},
            {"type": "program-aware-fairness", "parameters": {"lasHalfLifeSeconds": 0}},
            {"type": "edf-ordering-policy"},
            {"type": "slo-deadline-ordering-policy"},
            {"type": "concurrency-detector", "parameters": {"maxConcurrency": 7}},
        ],
        flowControl={
            "maxBytes": "1Gi",
            "maxRequests": 9,
            "defaultRequestTTL": "30s",
            "noEndpointRequestTTL": "0s",
            "saturationDetector": {"pluginRef": "concurrency-detector"},
            "priorityBands": [
                {
                    "priority": 10,
                    "maxRequests": 3,
                    "maxBytes": "10M",
                    "fairnessPolicyRef": "round-robin-fairness-policy",
                    "orderingPolicyRef": "edf-ordering-policy",
                    "defaultRequestTTL": "5s",
                },
            ],
            "defaultPriorityBand": {"orderingPolicyRef": "slo-deadline-ordering-policy"},
            "defaultNegativePriorityBand": {"fairnessPolicyRef": "program-aware-fairness"},
        },
    )
    assert (found.max_bytes, found.max_requests) == (2**30, 9)
    assert (found.ttl_seconds, found.empty_ttl_seconds) == (30.0, math.inf)
    ten = found.band(10)
    assert (ten.max_requests, ten.max_bytes, ten.ttl_seconds) == (3, 10_000_000, 5.0)
    assert isinstance(ten.fairness(), RoundRobin)
    assert ten.ordering is ordering.earliest_deadline
    assert found.band(3).ordering is ordering.slo_deadline
    programs = found.band(-3).fairness()
    assert isinstance(programs, ProgramAware)
    detector = found.detector()
    assert isinstance(detector, ConcurrencyDetector)
    assert detector.requests == 7.0


def test_usage_limits() -> None:
    def limit(kind: str, **parameters: Any) -> Any:
        return options(
            plugins=[{"type": kind, "parameters": parameters}],
            flowControl={"usageLimitPolicyPluginRef": kind},
        ).usage_limit

    found = limit("static-usage-limit-policy", threshold=0.5)
    assert isinstance(found, Static)
    assert list(found.ceilings([1, 0], 0.2)) == [0.5, 0.5]
    found = limit("priority-holdback-policy", minCeiling=0.4, maxCeiling=0.8)
    assert isinstance(found, Holdback)
    assert [round(c, 6) for c in found.ceilings([10, 1, 0], 0.2)] == [0.8, 0.6, 0.4]
    found = limit("priority-holdback-policy", minCeiling=0.0, domain="value")
    assert [round(c, 6) for c in found.ceilings([10, 1, 0], 0.2)] == [1.0, 0.1, 0.0]
    assert list(found.ceilings([10], 0.2)) == [1.0]
    assert isinstance(limit("soft-reflective-ceiling-policy"), SoftReflective)


def test_the_soft_ceiling_opens_one_call_in_some() -> None:
    """At 0.75 the lower of two bands may go at one question of three."""
    found = SoftReflective()
    calls = [found.ceilings([1, 0], 0.75)[1] for _ in range(6)]
    assert calls == [0.25, 0.25, 1.0, 0.25, 0.25, 1.0]
    assert list(found.ceilings([1, 0], 0.2)) == [1.0, 0.8]
    assert list(found.ceilings([1, 0], 1.0)) == [1.0, 0.0]
