"""The metrics of llm-d's picker under its canonical prefix. Bounds are those of the older names."""

from __future__ import annotations

from inferway.observe.catalogue_gie import (
    HIT_BYTES_BUCKETS,
    HIT_RATIO_BUCKETS,
    INPUT_TOKENS_BUCKETS,
    LATENCY_BUCKETS,
    NTPOT_BUCKETS,
    OUTPUT_TOKENS_BUCKETS,
    REQUEST_SIZE_BUCKETS,
    RESPONSE_SIZE_BUCKETS,
    SCHEDULING_BUCKETS,
)
from inferway.observe.metric import Family, Kind, Metric

TPOT_BUCKETS = (
    *(0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0),
)

_MODELS = ("model_name", "target_model_name", "fairness_id", "priority")


def _llm_d(
    name: str,
    kind: Kind,
    labels: tuple[str, ...],
    text: str,
    buckets: tuple[float, ...] = (),
    note: str = "",
) -> Metric:
    return Metric("llm_d_epp_" + name, kind, labels, text, Family.LLM_D, buckets, note)


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

_REQUESTS: tuple[Metric, ...] = (
    _llm_d("request_total", _C, _MODELS, "Requests that a server was chosen for."),
    _llm_d(
        "request_error_total",
        _C,
        (*_MODELS, "error_code"),
        "Requests that the picker refused, that a server answered with an error, or that no server "
        "answered.",
    ),
    _llm_d("request_running", _G, _MODELS, "Requests on their way or in a server."),
    _llm_d(
        "request_duration_seconds",
        _H,
        _MODELS,
        "Time from a request's arrival at the proxy to the last byte for the client.",
        LATENCY_BUCKETS,
    ),
    _llm_d("request_size_bytes", _H, _MODELS, "Bytes of request bodies.", REQUEST_SIZE_BUCKETS),
    _llm_d(
        "response_size_bytes",
        _H,
        _MODELS,
        "Bytes of answers' bodies, of those whose size the proxy tells.",
        RESPONSE_SIZE_BUCKETS,
    ),
    _llm_d(
        "request_input_tokens",
        _H,
        _MODELS,
        "Prompt tokens as servers report.",
        INPUT_TOKENS_BUCKETS,
    ),
    _llm_d(
        "request_output_tokens",
        _H,
        _MODELS,
        "Completion tokens as servers report.",
        OUTPUT_TOKENS_BUCKETS,
    ),
    _llm_d(
        "request_cached_tokens",
        _H,
        _MODELS,
        "Prompt tokens that came from a server's cache, as servers report.",
        INPUT_TOKENS_BUCKETS,
    ),
    _llm_d(
        "request_ntpot_seconds",
        _H,
        _MODELS,
        "A request's duration divided by its completion tokens.",
        NTPOT_BUCKETS,
    ),
    _llm_d(
        "request_streaming_tpot_seconds",
        _H,
        _MODELS,
        "Time between the tokens of a streamed answer: from its first byte to its last, divided by "
        "its completion tokens less one.",
        TPOT_BUCKETS,
    ),
    _llm_d(
        "request_ttft_seconds",
        _H,
        (*_MODELS, "streaming"),
        "Time from a request's arrival at the proxy to the first byte of the server's answer.",
        LATENCY_BUCKETS,
    ),
    _llm_d(
        "request_processing_duration_seconds",
        _H,
        (),
        "Time from a question to its answer, waiting included.",
        SCHEDULING_BUCKETS,
    ),
)

_PREDICTED: tuple[Metric, ...] = (
    _llm_d(
        "request_predicted_ttft_seconds",
        _H,
        ("model_name", "target_model_name"),
        "Time to first token that the cost model predicts for the chosen server.",
        LATENCY_BUCKETS,
        "Of the decisions that are explained, about one of 256; both labels are the server's name.",
    ),
)

_INFLIGHT: tuple[Metric, ...] = tuple(
    _llm_d(
        f"inflight_{what}",
        _G,
        ("endpoint_name", "namespace", "producer_name", "fairness_id", "priority"),
        text,
        note="Of all flows and priorities together, whose labels are empty.",
    )
    for what, text in (
        ("requests", "Requests that this picker has on an endpoint."),
        ("tokens", "Prompt tokens of those requests, without what is expected in the cache."),
    )
)

_STREAMS: tuple[Metric, ...] = (
    _llm_d("extproc_streams_inflight", _G, (), "Streams of ext_proc that are open."),
    _llm_d(
        "extproc_streams_total",
        _C,
        ("code",),
        "Streams of ext_proc that have ended; OK: the proxy ended it.",
    ),
    _llm_d(
        "extproc_stream_duration_seconds",
        _H,
        ("code",),
        "How long streams of ext_proc were open.",
        LATENCY_BUCKETS,
        "All three need `--enable-grpc-stream-metrics`.",
    ),
)

_POOL: tuple[Metric, ...] = (
    *(
        _llm_d(f"{prefix}_{name}", _G, ("name",), f"{text}, {means} of the pool's servers.")
        for prefix, means in (("average", "mean"), ("std_dev", "standard deviation"))
        for name, text in (
            ("kv_cache_utilization", "Share of the KV cache in use"),
            ("queue_size", "Requests that wait in servers"),
            ("running_requests", "Requests that run in servers"),
        )
    ),
    _llm_d("ready_endpoints", _G, ("name",), "Servers of the pool that are ready."),
    _llm_d(
        "per_endpoint_queue_size",
        _G,
        ("name", "model_server_endpoint"),
        "Requests that wait in one server.",
    ),
)

_SCHEDULING: tuple[Metric, ...] = (
    _llm_d(
        "scheduler_e2e_duration_seconds",
        _H,
        (),
        "Time of a decision, waiting left out.",
        SCHEDULING_BUCKETS,
    ),
    _llm_d(
        "scheduler_attempts_total",
        _C,
        ("status", "target_model_name", "endpoint_name", "namespace", "port"),
        "Decisions by the endpoint that was chosen; without one the status is failure.",
    ),
    _llm_d("info", _G, ("commit", "build_ref"), "1, with what this program was built from."),
    _llm_d(
        "model_rewrite_decisions_total",
        _C,
        ("model_rewrite_name", "model_name", "target_model"),
        "Requests that a rule of an InferenceModelRewrite has decided about.",
    ),
    *(
        _llm_d(
            f"{name}_decision_total",
            _C,
            ("plugin_name", "plugin_type", "model_name", "decision_type"),
            text,
        )
        for name, text in (
            ("disagg", "Requests by the stages that other servers do for them."),
            ("pd", "The same, of those whose encoding is nobody else's."),
        )
    ),
    _llm_d(
        "datalayer_poll_errors_total",
        _C,
        ("source_type",),
        "Questions to model servers that got no usable answer.",
    ),
    _llm_d("prefix_indexer_size", _G, (), "Pairs of prompt block and server in the index."),
    _llm_d(
        "prefix_indexer_hit_ratio",
        _H,
        (),
        "Share of a prompt that the index expects in the chosen server's cache.",
        HIT_RATIO_BUCKETS,
    ),
    _llm_d(
        "prefix_indexer_hit_bytes",
        _H,
        (),
        "Bytes of a prompt that the index expects in the chosen server's cache.",
        HIT_BYTES_BUCKETS,
    ),
)

LLM_D: tuple[Metric, ...] = (*_REQUESTS, *_PREDICTED, *_POOL, *_INFLIGHT, *_STREAMS, *_SCHEDULING)
