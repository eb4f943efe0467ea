"""The table of plugin types, in the order in which the reference page shows them."""

from __future__ import annotations

from collections.abc import Mapping

from inferway.scheduling.plugins import (
    active_request_scorer,
    approx_prefix_cache_producer,
    attributes,
    burst_prefix_cache_producer,
    context_length_aware,
    cost_scorer,
    data_parallel_profile_handler,
    deciders,
    detectors,
    disagg_profile_handler,
    disaggregatedset_rollout_screener,
    flow_types,
    header_based_testing_filter,
    header_label_affinity_scorer,
    header_profile_handler,
    inflight_load_producer,
    kv_cache_utilization_scorer,
    label_filters,
    latency_scorer,
    latency_slo_admitter,
    layer_types,
    load_aware_scorer,
    lora_affinity_scorer,
    max_score_picker,
    media,
    no_hit_lru_scorer,
    p2p_source_producer,
    precise_prefix_cache_producer,
    predicted_latency_producer,
    prefix_cache_affinity_filter,
    prefix_cache_scorer,
    probabilistic_admitter,
    queue_scorer,
    random_picker,
    response_types,
    role_filters,
    running_requests_scorer,
    session_affinity_filter,
    session_affinity_scorer,
    session_producers,
    single_profile_handler,
    slo_headroom_tier_filter,
    token_load_scorer,
    token_producer,
    topology_affinity_filter,
    topology_affinity_scorer,
    utilization_filter,
    weighted_random_picker,
)
from inferway.scheduling.plugins.types import Data, PluginType

# Which type makes data that a plugin reads where the configuration names none.
DEFAULT_PRODUCERS: Mapping[Data, str] = {
    Data.PREFIX: "approx-prefix-cache-producer",
    Data.LOAD: "inflight-load-producer",
    Data.LATENCY: "predicted-latency-producer",
    Data.MEDIA: "mm-embeddings-cache-producer",
    Data.TOPOLOGY: "topology-extractor",
}


ROWS: tuple[PluginType, ...] = (
    # Filters.
    *role_filters.TYPES,
    *label_filters.TYPES,
    context_length_aware.TYPE,
    utilization_filter.TYPE,
    prefix_cache_affinity_filter.TYPE,
    slo_headroom_tier_filter.TYPE,
    session_affinity_filter.TYPE,
    attributes.FILTER_TYPE,
    topology_affinity_filter.TYPE,
    header_based_testing_filter.TYPE,
    # Scorers.
    cost_scorer.TYPE,
    queue_scorer.TYPE,
    running_requests_scorer.TYPE,
    kv_cache_utilization_scorer.TYPE,
    load_aware_scorer.TYPE,
    active_request_scorer.TYPE,
    token_load_scorer.TYPE,
    prefix_cache_scorer.TYPE,
    precise_prefix_cache_producer.SCORER_TYPE,
    no_hit_lru_scorer.TYPE,
    lora_affinity_scorer.TYPE,
    media.SCORER_TYPE,
    latency_scorer.TYPE,
    session_affinity_scorer.TYPE,
    attributes.SCORER_TYPE,
    header_label_affinity_scorer.TYPE,
    topology_affinity_scorer.TYPE,
    # Pickers.
    max_score_picker.TYPE,
    random_picker.TYPE,
    weighted_random_picker.TYPE,
    # Profile handlers and what belongs to them.
    single_profile_handler.TYPE,
    *disagg_profile_handler.TYPES,
    header_profile_handler.TYPE,
    data_parallel_profile_handler.TYPE,
    *deciders.TYPES,
    # Producers.
    approx_prefix_cache_producer.TYPE,
    precise_prefix_cache_producer.TYPE,
    burst_prefix_cache_producer.TYPE,
    inflight_load_producer.TYPE,
    token_producer.TYPE,
    predicted_latency_producer.TYPE,
    media.PRODUCER_TYPE,
    session_producers.TYPE,
    p2p_source_producer.TYPE,
    # Around the profiles.
    disaggregatedset_rollout_screener.TYPE,
    session_producers.AGENT_TYPE,
    latency_slo_admitter.TYPE,
    probabilistic_admitter.TYPE,
    detectors.UTILIZATION_TYPE,
    detectors.CONCURRENCY_TYPE,
    *flow_types.TYPES,
    *layer_types.SOURCES,
    *layer_types.PARSERS,
    *response_types.TYPES,
    *layer_types.REFUSED,
)


def plugin_types() -> Mapping[str, PluginType]:
    """All types by name."""
    return {row.name: row for row in ROWS}
