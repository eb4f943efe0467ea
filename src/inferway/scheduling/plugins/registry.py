"""The table of plugin types, in the order in which the reference page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inferway.scheduling.plugins import (
    active_request_scorer,
    approx_prefix_cache_producer,
    context_length_aware,
    cost_scorer,
    data_parallel_profile_handler,
    deciders,
    detectors,
    disagg_profile_handler,
    flow_types,
    header_based_testing_filter,
    header_label_affinity_scorer,
    header_profile_handler,
    inflight_load_producer,
    kv_cache_utilization_scorer,
    label_filters,
    layer_types,
    load_aware_scorer,
    lora_affinity_scorer,
    max_score_picker,
    media,
    no_hit_lru_scorer,
    precise_prefix_cache_producer,
    prefix_cache_scorer,
    probabilistic_admitter,
    queue_scorer,
    random_picker,
    role_filters,
    running_requests_scorer,
    single_profile_handler,
    token_load_scorer,
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


def plugin_types() -> Mapping[str, PluginType]:
    """All types by name."""
    return {row.name: row for row in _rows()}


def _rows() -> Iterable[PluginType]:
    yield from (
        # Filters.
        *role_filters.TYPES,
        *label_filters.TYPES,
        context_length_aware.TYPE,
        utilization_filter.TYPE,
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
        inflight_load_producer.TYPE,
        media.PRODUCER_TYPE,
        # Around the profiles.
        probabilistic_admitter.TYPE,
        detectors.UTILIZATION_TYPE,
        detectors.CONCURRENCY_TYPE,
        *flow_types.TYPES,
        *layer_types.SOURCES,
        *layer_types.PARSERS,
        *layer_types.REFUSED,
    )
