"""The table of plugin types: name, kind, parameters, what they read, how stable they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from inferway.scheduling.plugins import (
    label_filters,
    max_score_picker,
    prefix_cache_scorer,
    random_picker,
    role_filters,
    weighted_random_picker,
)
from inferway.scheduling.plugins.base import (
    Built,
    Kind,
    Parameters,
    Plugin,
    PluginType,
    ProfileHandler,
    Signal,
    Stability,
)
from inferway.scheduling.plugins.cost_scorer import CostScorer
from inferway.scheduling.plugins.header_based_testing_filter import HeaderBasedTestingFilter
from inferway.scheduling.plugins.kv_cache_utilization_scorer import KvCacheUtilizationScorer
from inferway.scheduling.plugins.lora_affinity_scorer import LoraAffinityScorer
from inferway.scheduling.plugins.queue_scorer import QueueScorer
from inferway.scheduling.plugins.running_requests_scorer import RunningRequestsScorer

# Types of the published pickers that are refused by name, so that the message can say why.
LATER = frozenset(
    [
        "active-request-scorer",
        "agent-identity",
        "always-disagg-multimodal-decider",
        "always-disagg-pd-decider",
        "approx-prefix-cache-producer",
        "burst-prefix-cache-producer",
        "concurrency-detector",
        "context-length-aware",
        "core-metrics-extractor",
        "data-parallel-profile-handler",
        "disagg-headers-handler",
        "disagg-profile-handler",
        "edf-ordering-policy",
        "endpoint-attribute-filter",
        "endpoint-attribute-scorer",
        "fcfs-ordering-policy",
        "file-discovery",
        "global-strict-fairness-policy",
        "header-label-affinity-scorer",
        "header-profile-handler",
        "inflight-load-producer",
        "latency-scorer",
        "latency-slo-admitter",
        "load-aware-scorer",
        "metrics-data-source",
        "mm-embeddings-cache-producer",
        "mm-embeddings-cache-scorer",
        "models-data-extractor",
        "models-data-source",
        "no-hit-lru-scorer",
        "openai-parser",
        "p2p-source-producer",
        "passthrough-parser",
        "pd-profile-handler",
        "precise-prefix-cache-producer",
        "precise-prefix-cache-scorer",
        "predicted-latency-producer",
        "prefill-header-handler",
        "prefix-based-pd-decider",
        "prefix-cache-affinity-filter",
        "probabilistic-admitter",
        "program-aware-fairness",
        "round-robin-fairness-policy",
        "session-affinity-filter",
        "session-affinity-scorer",
        "session-id-producer",
        "slo-deadline-ordering-policy",
        "slo-headroom-tier-filter",
        "static-usage-limit-policy",
        "token-load-scorer",
        "token-producer",
        "topology-affinity-filter",
        "topology-affinity-scorer",
        "utilization-detector",
        "utilization-filter",
    ]
)


def plugin_types() -> Mapping[str, PluginType]:
    """All types by name."""
    rows = [*_filters(), *_scorers(), *_pickers()]
    rows.append(
        PluginType("single-profile-handler", Kind.PROFILE_HANDLER, plain(ProfileHandler), {})
    )
    return {row.name: row for row in rows}


def plain(make: Callable[[], Plugin]) -> Built:
    """A plugin without parameters."""

    def build(parameters: Parameters) -> Plugin:
        return make()

    return build


def _role(roles: frozenset[str], *, unlabelled: bool = False) -> Built:
    return plain(lambda: role_filters.RoleFilter(roles, unlabelled=unlabelled))


def _filters() -> list[PluginType]:
    labels = (Signal.LABELS,)
    selector = label_filters.SELECTOR_PARAMETERS
    decode = _role(role_filters.DECODE_ROLES, unlabelled=True)
    return [
        PluginType("decode-filter", Kind.FILTER, decode, {}, labels),
        PluginType("prefill-filter", Kind.FILTER, _role(role_filters.PREFILL_ROLES), {}, labels),
        PluginType("encode-filter", Kind.FILTER, _role(role_filters.ENCODE_ROLES), {}, labels),
        PluginType(
            "label-selector-filter",
            Kind.FILTER,
            label_filters.LabelSelectorFilter,
            selector,
            labels,
        ),
        PluginType(
            "by-label-selector", Kind.FILTER, label_filters.LabelSelectorFilter, selector, labels
        ),
        PluginType(
            "by-label",
            Kind.FILTER,
            label_filters.ByLabelFilter,
            label_filters.BY_LABEL_PARAMETERS,
            labels,
        ),
        PluginType("header-based-testing-filter", Kind.FILTER, plain(HeaderBasedTestingFilter), {}),
    ]


def _scorers() -> list[PluginType]:
    return [
        PluginType("queue-scorer", Kind.SCORER, plain(QueueScorer), {}, (Signal.WAITING,)),
        PluginType(
            "running-requests-size-scorer",
            Kind.SCORER,
            plain(RunningRequestsScorer),
            {},
            (Signal.RUNNING,),
        ),
        PluginType(
            "kv-cache-utilization-scorer",
            Kind.SCORER,
            plain(KvCacheUtilizationScorer),
            {},
            (Signal.KV_USE,),
        ),
        PluginType(
            "prefix-cache-scorer",
            Kind.SCORER,
            prefix_cache_scorer.PrefixCacheScorer,
            prefix_cache_scorer.PARAMETERS,
            (Signal.PROMPT,),
        ),
        PluginType(
            "lora-affinity-scorer",
            Kind.SCORER,
            plain(LoraAffinityScorer),
            {},
            (Signal.ADAPTERS,),
        ),
        PluginType(
            "inferway-cost-scorer",
            Kind.SCORER,
            plain(CostScorer),
            {},
            (Signal.OWN, Signal.PROMPT, Signal.WAITING, Signal.KV_USE, Signal.ADAPTERS),
            Stability.BETA,
        ),
    ]


def _pickers() -> list[PluginType]:
    return [
        PluginType(
            "max-score-picker",
            Kind.PICKER,
            max_score_picker.MaxScorePicker,
            max_score_picker.PARAMETERS,
        ),
        PluginType(
            "random-picker",
            Kind.PICKER,
            random_picker.RandomPicker,
            random_picker.PARAMETERS,
        ),
        PluginType(
            "weighted-random-picker",
            Kind.PICKER,
            weighted_random_picker.WeightedRandomPicker,
            weighted_random_picker.PARAMETERS,
        ),
    ]
