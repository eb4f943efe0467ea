"""Inferway's own metrics. To add one: a line here, and a ``Source`` that reads it.

The label ``pool`` is ``namespace/name``; ``name`` beside it is the pool's bare name, because a
selector of a cluster's metrics may have no slash.
"""

from __future__ import annotations

from inferway.observe.metric import Kind, Metric

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_ONE = ("pool",)
_NAMED = ("pool", "name")
_ADAPTER = ("pool", "adapter")

# Decisions take tens of microseconds; the last buckets show stalls.
DECISION_BUCKETS = (25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.1, 1.0)
# Tokens; a block of vLLM has 16.
PREFIX_BUCKETS = (0.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0)

_POOL: tuple[Metric, ...] = (
    Metric("inferway_pool_ready_endpoints", _G, _NAMED, "Endpoints of the pool that are ready."),
    Metric(
        "inferway_pool_held_requests",
        _G,
        _NAMED,
        "Requests that wait in the picker.",
    ),
    Metric(
        "inferway_pool_queued_requests",
        _G,
        _NAMED,
        "Requests that nobody works on: held by the picker, and waiting in servers.",
    ),
    Metric(
        "inferway_pool_active_requests",
        _G,
        _NAMED,
        "Requests held by the picker, waiting in servers and running there.",
    ),
    Metric("inferway_pool_held_bytes", _G, _NAMED, "Bodies of held requests."),
    Metric(
        "inferway_pool_held_oldest_seconds",
        _G,
        _NAMED,
        "How long the first of the held requests has waited.",
    ),
    Metric(
        "inferway_pool_held_ended_total",
        _C,
        ("pool", "outcome"),
        "Held requests by what ended their waiting.",
    ),
    Metric("inferway_pool_held_seconds_total", _C, _ONE, "Time that held requests have waited."),
    Metric(
        "inferway_pool_model_rewrites_total",
        _C,
        ("pool", "model_rewrite_name", "model_name", "target_model"),
        "Requests that a rule of an InferenceModelRewrite has decided about.",
    ),
)

_PICKER: tuple[Metric, ...] = (
    Metric(
        "inferway_picker_decisions_total",
        _C,
        ("pool", "outcome"),
        "Answers to pick callouts by outcome.",
    ),
    Metric(
        "inferway_picker_decision_seconds",
        _H,
        _ONE,
        "Time of a decision, without waiting.",
        buckets=DECISION_BUCKETS,
    ),
    Metric(
        "inferway_picker_requests_finished_total",
        _C,
        ("pool", "code"),
        "Requests as proxies report them, by response code.",
    ),
    Metric(
        "inferway_picker_requests_retried_total",
        _C,
        _ONE,
        "Finished requests that more than one endpoint was tried for.",
    ),
    Metric("inferway_picker_usage_reports_total", _C, _ONE, "Finished requests with token usage."),
    Metric(
        "inferway_picker_tokens_total",
        _C,
        ("pool", "kind"),
        "Tokens: prompt, completion and cached as servers report, cached_predicted as the prefix "
        "index expected.",
    ),
    Metric(
        "inferway_picker_reservations_released_total",
        _C,
        ("pool", "reason"),
        "Reservations by what ended them.",
    ),
    Metric("inferway_picker_endpoints_ready", _G, _ONE, "Endpoints of the pool that are ready."),
    Metric(
        "inferway_picker_reservations",
        _G,
        _ONE,
        "Requests that were picked for and have not ended.",
    ),
    Metric(
        "inferway_picker_prefix_entries",
        _G,
        _ONE,
        "Pairs of prompt block and endpoint in the prefix index.",
    ),
    Metric(
        "inferway_picker_in_flight",
        _G,
        ("pool", "endpoint"),
        "Requests of this picker on an endpoint.",
    ),
    Metric(
        "inferway_picker_scrape_errors_total",
        _C,
        ("pool", "endpoint"),
        "Questions to a model server that got no usable answer.",
    ),
    Metric(
        "inferway_picker_scrape_age_seconds",
        _G,
        ("pool", "endpoint"),
        "Age of an endpoint's metrics.",
    ),
    Metric(
        "inferway_picker_spans_total",
        _C,
        ("outcome",),
        "Spans of requests: sent to the collector, or dropped.",
    ),
    Metric(
        "inferway_picker_log_entries_skipped_total",
        _C,
        (),
        "Access log entries that could not be read.",
    ),
)

_PLACEMENT: tuple[Metric, ...] = (
    Metric("inferway_placement_leader", _G, _ONE, "1 in the picker that places."),
    Metric(
        "inferway_placement_waiting_requests",
        _G,
        _ADAPTER,
        "Requests that wait in this picker for an adapter.",
    ),
    Metric(
        "inferway_placement_waits_total",
        _C,
        (*_ADAPTER, "outcome"),
        "Requests that waited for an adapter, by what ended it.",
    ),
    Metric(
        "inferway_placement_wait_seconds_total",
        _C,
        _ADAPTER,
        "Time that requests have waited for an adapter.",
    ),
    Metric(
        "inferway_placement_actions_total",
        _C,
        (*_ADAPTER, "action", "outcome"),
        "Loads and unloads that this picker asked servers for, by how they ended.",
    ),
    Metric("inferway_placement_load_seconds_total", _C, _ADAPTER, "Time that loads took."),
    Metric(
        "inferway_placement_copies",
        _G,
        (*_ADAPTER, "state"),
        "Copies that placement has on servers, by state.",
    ),
    Metric(
        "inferway_placement_wanted_copies",
        _G,
        _ADAPTER,
        "Copies that minimum and demand ask for.",
    ),
    Metric(
        "inferway_placement_demand_requests",
        _G,
        _ADAPTER,
        "Requests in flight for an adapter, averaged; all pickers together.",
    ),
)

_PREFIX: tuple[Metric, ...] = (
    Metric(
        "inferway_picker_kv_event_messages_total",
        _C,
        ("pool", "endpoint"),
        "Messages of an endpoint's KV events.",
    ),
    Metric(
        "inferway_picker_kv_event_gaps_total",
        _C,
        ("pool", "endpoint"),
        "Places where messages of an endpoint's KV events were missing at first.",
    ),
    Metric(
        "inferway_picker_kv_events_skipped_total",
        _C,
        ("pool", "endpoint", "reason"),
        "KV events and messages of them that were passed over.",
    ),
    Metric("inferway_picker_kv_blocks", _G, _ONE, "Cached blocks that KV events told of."),
    Metric(
        "inferway_picker_kv_blocks_skipped_total",
        _C,
        _ONE,
        "Blocks of KV events that are not followed: what is in front of them is unknown.",
    ),
    Metric(
        "inferway_picker_prefix_tokens_total",
        _C,
        ("pool", "kind"),
        "Prompt tokens predicted to be cached, cached as the server reports, and both.",
    ),
    Metric(
        "inferway_picker_prefix_error_tokens",
        _H,
        _ONE,
        "Difference of predicted and reported cached tokens of a request.",
        buckets=PREFIX_BUCKETS,
    ),
)

OWN: tuple[Metric, ...] = (*_POOL, *_PICKER, *_PLACEMENT, *_PREFIX)
