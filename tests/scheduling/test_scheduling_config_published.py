"""Configurations in the forms of the published pickers load; what they leave out is filled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.base.errors import UsageError
from inferway.scheduling.config import Loaded, load
from inferway.scheduling.plugins.registry import ROWS, plugin_types
from inferway.scheduling.plugins.types import Parameter, Stability
from inferway.scheduling.profile import ProfilePolicy

FILES = sorted((Path(__file__).parent / "testdata" / "configs").glob("*.yaml"))
HEAD = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}


def loaded(name: str) -> Loaded:
    (file,) = [file for file in FILES if file.stem == name]
    return load(yaml.safe_load(file.read_text()), plugin_types(), allow_alpha=True)


def policy(name: str) -> ProfilePolicy:
    found = loaded(name).policy
    assert isinstance(found, ProfilePolicy)
    return found


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_file_loads(name: str) -> None:
    assert policy(name).profiles


def test_weights_behind_a_picker_count() -> None:
    (profile,) = policy("gie-1.1-prefix-parameters").profiles.values()
    assert [(w.name, w.weight) for w in profile.scorers] == [
        ("prefix-cache-scorer", 3.0),
        ("lora-affinity-scorer", 2.0),
    ]


def test_deprecated_fields_are_read_and_noted() -> None:
    found = loaded("gie-1.5-deprecated")
    assert found.flow.gate is True
    assert found.flow.detector.parameters == {
        "queueDepthThreshold": 7,
        "kvCacheUtilThreshold": 0.9,
        "metricsStalenessThreshold": 0.5,
        "headroom": 0.0,
    }
    assert found.data.metrics is not None
    assert found.data.metrics.parameters["scheme"] == "https"
    assert any("saturationDetector: is deprecated" in note for note in found.notes)


def test_flow_control_with_its_defaults() -> None:
    flow = loaded("llm-d-flow-control").flow
    assert (flow.max_bytes, flow.max_requests) == (4 * 1024**3, 10_000)
    assert (flow.request_ttl_seconds, flow.no_endpoint_ttl_seconds) == (30.0, 300.0)
    assert (flow.usage_limit.type, flow.usage_limit.parameters["minCeiling"]) == (
        "priority-holdback-policy",
        0.4,
    )
    assert flow.detector.parameters["maxConcurrency"] == 64
    first, second = flow.bands
    assert (first.priority, first.max_bytes, first.max_requests) == (10, 1024**3, 5000)
    assert (first.ordering.type, first.fairness.type) == (
        "edf-ordering-policy",
        "global-strict-fairness-policy",
    )
    assert (second.request_ttl_seconds, second.max_bytes) == (0.0, 1_000_000_000)
    assert flow.default_band.fairness.type == "program-aware-fairness"
    assert flow.default_band.fairness.parameters["lasHalfLifeSeconds"] == 60.0
    assert flow.negative_band.max_requests == 10
    nothing = loaded("gie-1.1-chart").flow
    assert (nothing.gate, nothing.request_ttl_seconds) == (None, 60.0)
    assert nothing.usage_limit.parameters == {"threshold": 1.0}
    assert nothing.detector.parameters["metricsStalenessThreshold"] == 0.2


def test_headers_are_declared_and_only_used_plugins_take_part() -> None:
    found = policy("llm-d-sessions")
    assert found.headers == {
        "x-session-id",
        "x-claude-code-session-id",
        "x-session-affinity",
        "session-id",
        "session_id",
    }
    names = {type(plugin).__name__ for plugin in policy("gie-1.1-prefix-parameters").plugins}
    assert "ApproxPrefixCacheProducer" not in names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gie-1.1-chart", {"QueueScorer", "KvCacheUtilizationScorer", "PrefixCacheScorer"}),
        ("llm-d-recommended", {"InflightLoadProducer", "ApproxPrefixCacheProducer"}),
        ("gie-1.5-deprecated", {"PredictedLatencyProducer", "InflightLoadProducer"}),
    ],
)
def test_producers_are_made_of_what_plugins_read(name: str, expected: set[str]) -> None:
    names = {type(plugin).__name__ for plugin in policy(name).plugins}
    assert expected <= names
    assert "ApproxPrefixCacheProducer" in names


REFUSED = {row.name: row.refused for row in ROWS if row.refused}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_needs_a_sidecar_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load({**HEAD, "plugins": [{"type": name}]}, plugin_types(), allow_alpha=True)
    assert f"plugins[0].type: {name} {REFUSED[name]}" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            {"type": "token-producer", "parameters": {"vllm": {"url": "http://x"}}},
            "plugins[0].parameters.vllm: needs a server that renders prompts",
        ),
        (
            {"type": "prefix-cache-scorer", "parameters": {"prefixMatchInfoProducerName": "appro"}},
            "plugins[0].parameters.prefixMatchInfoProducerName: unknown plugin 'appro'",
        ),
        (
            {
                "type": "disagg-profile-handler",
                "parameters": {"deciders": {"prefill": "prefix-based"}},
            },
            "plugins[0].parameters.deciders.prefill: no decider is called 'prefix-based'",
        ),
        (
            {"type": "utilization-detector", "parameters": {"metricsStalenessThreshold": "2 s"}},
            "metricsStalenessThreshold: '2 s' is not a duration such as 200ms or 5m",
        ),
        (
            {"type": "endpoint-attribute-filter", "parameters": {"attribute": "x"}},
            "plugins[0].parameters.algorithm: is missing",
        ),
        (
            {
                "type": "utilization-filter",
                "parameters": {"conditions": [{"metric": "waitin-queue", "maxValue": 1}]},
            },
            "plugins[0].parameters.conditions[0].metric: must be one of active-requests",
        ),
    ],
)
def test_refusals_of_parameters(entry: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load({**HEAD, "plugins": [entry]}, plugin_types(), allow_alpha=True)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"featureGates": ["flowControll"]}, "did you mean flowControl?"),
        ({"flowControl": {"maxByte": 1}}, "flowControl.maxByte: unknown field"),
        ({"flowControl": {"maxBytes": "many"}}, "flowControl.maxBytes: 'many' is not a quantity"),
        ({"flowControl": {"defaultRequestTTL": "soon"}}, "'soon' is not a duration"),
        ({"flowControl": {"priorityBands": [{}]}}, "priorityBands[0].priority: is missing"),
        (
            {"flowControl": {"priorityBands": [{"priority": 1}, {"priority": 1}]}},
            "flowControl.priorityBands[1].priority: is given twice",
        ),
        (
            {"flowControl": {"saturationDetector": {"pluginRef": "utilisation-detector"}}},
            "flowControl.saturationDetector.pluginRef: unknown plugin",
        ),
        ({"requestHandler": {"parsers": [{"pluginRef": "openai"}]}}, "mean openai-parser?"),
        ({"dataLayer": {"sources": [{"pluginRef": "x"}]}}, "dataLayer.sources[0].pluginRef"),
        (
            {"schedulingProfiles": [{"name": "a"}, {"name": "a"}]},
            "schedulingProfiles[1].name: 'a' is used twice",
        ),
    ],
)
def test_refusals_around_the_plugins(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load({**HEAD, **changes}, plugin_types())
    assert expected in str(caught.value)


def test_alpha_plugins_need_the_flag() -> None:
    alpha = [row.name for row in ROWS if row.stability is Stability.ALPHA and not row.refused]
    assert "session-affinity-filter" in alpha
    for name in alpha:
        with pytest.raises(UsageError, match="allow it by --allow-experimental-plugins"):
            load({**HEAD, "plugins": [{"type": name}]}, plugin_types())


def test_every_type_says_what_it_does_and_what_its_parameters_mean() -> None:
    def silent(place: str, parameters: dict[str, Parameter]) -> list[str]:
        found = []
        for name, one in parameters.items():
            inside = dict(one.fields or (one.items.fields if one.items else None) or {})
            if not one.help and not inside and not one.unused:
                found.append(f"{place}.{name}")
            found += silent(f"{place}.{name}", inside)
        return found

    assert len({row.name for row in ROWS}) == len(ROWS)
    assert [row.name for row in ROWS if not row.refused and not row.does] == []
    missing = [silent(row.name, dict(row.parameters)) for row in ROWS]
    assert [place for places in missing for place in places] == []
