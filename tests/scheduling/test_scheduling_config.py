"""EndpointPickerConfig: what loads, what it becomes, and what is refused where."""

from __future__ import annotations

import random
from typing import Any

import pytest
import yaml

from inferway.base.errors import UsageError
from inferway.scheduling.config import load as load_document
from inferway.scheduling.events import Scrape
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.profile import Profile, ProfilePolicy
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint


def only(policy: ProfilePolicy) -> Profile:
    (profile,) = policy.profiles.values()
    return profile


PUBLISHED_DEFAULT = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: queue-scorer
    weight: 1
  - pluginRef: kv-cache-utilization-scorer
    weight: 1
  - pluginRef: prefix-cache-scorer
    weight: 1
"""


def load(text: str, **options: Any) -> ProfilePolicy:
    policy = load_document(yaml.safe_load(text), plugin_types(), **options).policy
    assert isinstance(policy, ProfilePolicy)
    return policy


def test_the_published_charts_default_loads_and_decides() -> None:
    policy = load(PUBLISHED_DEFAULT)
    assert [w.name for w in only(policy).scorers] == [
        "queue-scorer",
        "kv-cache-utilization-scorer",
        "prefix-cache-scorer",
    ]
    pool = PoolScheduler(policy)
    pool.set_endpoints([Endpoint("a:1"), Endpoint("b:1")], 0.0)
    pool.observe("a:1", Scrape(waiting=4, kv_use=0.5), 0.0)
    request = Request("m", ApiKind.COMPLETIONS, b"x" * 640)
    decision = pool.pick(request, "1", "", 0.0, random.Random(1))
    # The picker that nobody configured names endpoints for retries too.
    assert [pool.columns.address[slot] for slot in decision.slots] == ["b:1", "a:1"]
    rows = pool.explain(request, decision, 0.0).candidates
    assert [(row["endpoint"], row["score"]) for row in rows] == [("a:1", 0.5), ("b:1", 3.0)]


def test_newer_group_names_weights_and_parameters() -> None:
    policy = load("""
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {name: near, type: prefix-cache-scorer, parameters: {blockSize: 16}}
- {type: inferway-cost-scorer}
- {type: weighted-random-picker, parameters: {maxNumOfEndpoints: 2}}
- {type: single-profile-handler}
schedulingProfiles:
- name: main
  plugins:
  - {pluginRef: near, weight: 2.5}
  - {pluginRef: inferway-cost-scorer}
  - {pluginRef: weighted-random-picker}
""")
    assert [(w.name, w.weight) for w in only(policy).scorers] == [
        ("near", 2.5),
        ("inferway-cost-scorer", 1.0),
    ]
    assert policy.name == "profile main"


def test_without_profiles_there_is_one_of_all_plugins() -> None:
    policy = load("""
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: queue-scorer}, {type: decode-filter}, {type: random-picker}]
""")
    assert (len(only(policy).filters), len(only(policy).scorers)) == (1, 1)
    assert type(only(policy).picker).__name__ == "RandomPicker"


def test_the_cost_scorer_alone_is_the_default_policy() -> None:
    document = {**HEAD, "plugins": [{"type": "inferway-cost-scorer"}]}
    assert isinstance(load_document(document, plugin_types()).policy, CostPolicy)
    document["plugins"].append({"type": "max-score-picker"})
    assert isinstance(load_document(document, plugin_types()).policy, ProfilePolicy)


HEAD: dict[str, Any] = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"plugin": []}, "plugin: unknown field 'plugin'; did you mean plugins?"),
        ({"kind": "Pod"}, "kind: must be EndpointPickerConfig"),
        ({"apiVersion": "v1"}, "apiVersion: must be one of"),
        (
            {"plugins": [{"type": "queue-scoreer"}]},
            "plugins[0].type: unknown plugin type 'queue-scoreer'; did you mean queue-scorer?",
        ),
        ({"plugins": [{"name": "x"}]}, "plugins[0].type: is missing"),
        ({"plugins": [3]}, "plugins[0]: must be a mapping"),
        ({"plugins": {}}, "plugins: must be a list"),
        (
            {"plugins": [{"type": "queue-scorer"}, {"type": "queue-scorer"}]},
            "plugins[1].name: 'queue-scorer' is used twice",
        ),
        (
            {"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoint": 1}}]},
            "maxNumOfEndpoint: unknown field 'maxNumOfEndpoint'; did you mean maxNumOfEndpoints?",
        ),
        (
            {"plugins": [{"type": "max-score-picker", "parameters": {"maxNumOfEndpoints": 0}}]},
            "plugins[0].parameters.maxNumOfEndpoints: must be at least 1",
        ),
        (
            {"plugins": [{"type": "prefix-cache-scorer", "parameters": {"blockSize": True}}]},
            "plugins[0].parameters.blockSize: must be a whole number, not True",
        ),
        (
            {
                "plugins": [
                    {"type": "label-selector-filter", "parameters": {"matchLabels": {"a": 1}}}
                ]
            },
            "plugins[0].parameters.matchLabels: must map text to text",
        ),
        (
            {"plugins": [{"type": "max-score-picker"}, {"type": "random-picker"}]},
            "plugins: has more than one picker",
        ),
        (
            {"schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "nobody"}]}]},
            "schedulingProfiles[0].plugins[0].pluginRef: unknown plugin 'nobody'",
        ),
        (
            {
                "plugins": [{"type": "queue-scorer"}],
                "schedulingProfiles": [
                    {"name": "a", "plugins": [{"pluginRef": "queue-scorer", "weight": -1}]}
                ],
            },
            "schedulingProfiles[0].plugins[0].weight: must be a number that is not negative",
        ),
        ({"schedulingProfiles": [{}]}, "schedulingProfiles[0].name: is missing"),
        (
            {"schedulingProfiles": [{"name": "a"}, {"name": "b"}]},
            "schedulingProfiles: single-profile-handler takes exactly one profile",
        ),
    ],
)
def test_refusals_name_place_and_suggestion(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_document({**HEAD, **changes}, plugin_types())
    assert caught.value.code == "INFERWAY0406"
    assert expected in str(caught.value)


@pytest.mark.parametrize("document", [None, [], "text", 3, {}])
def test_a_document_that_is_no_mapping(document: Any) -> None:
    with pytest.raises(UsageError, match=r"document: (must be a mapping|is empty)"):
        load_document(document, plugin_types())


@pytest.mark.parametrize(
    ("handler", "parsers"),
    [
        ("", ()),
        ("requestHandler: {parsers: [{pluginRef: openai-parser}]}", ("openai-parser",)),
        ("requestHandler: {parsers: [{pluginRef: mine}]}", ("anthropic-parser",)),
        (
            "requestHandler: {parsers: [{pluginRef: passthrough-parser}, {pluginRef: mine}]}",
            ("passthrough-parser",),
        ),
        ("parser: {pluginRef: vllmhttp-parser}", ("vllmhttp-parser",)),
    ],
)
def test_parsers_that_are_listed(handler: str, parsers: tuple[str, ...]) -> None:
    text = f"""
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{{type: queue-scorer}}, {{type: anthropic-parser, name: mine}}]
{handler}
"""
    assert load_document(yaml.safe_load(text), plugin_types()).data.parsers == parsers
