"""The metrics of the Gateway API inference extension's picker, v1.1, under its names.

Names, labels and bounds are facts of that release, its slip 32778 for 32768 among them: who
compares two pickers' histograms needs the same bounds.
"""

from __future__ import annotations

from inferway.observe.metric import Family, Kind, Metric

LATENCY_BUCKETS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0),
    *(8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0),
    *(600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0),
)
REQUEST_SIZE_BUCKETS = tuple(float(1 << power) for power in range(6, 31))
RESPONSE_SIZE_BUCKETS = (1.0, *(float(1 << power) for power in range(3, 15)), 32778.0, 65536.0)
INPUT_TOKENS_BUCKETS = (*RESPONSE_SIZE_BUCKETS, *(float(1 << power) for power in range(17, 21)))
OUTPUT_TOKENS_BUCKETS = (1.0, *(float(1 << power) for power in range(3, 14)))
NTPOT_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SCHEDULING_BUCKETS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
HIT_RATIO_BUCKETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HIT_BYTES_BUCKETS = (0.0, *(float(1 << power) for power in range(4, 17)))
QUEUE_DURATION_BUCKETS = (
    *(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

_MODELS = ("model_name", "target_model_name")


def _gie(
    name: str,
    kind: Kind,
    labels: tuple[str, ...],
    text: str,
    buckets: tuple[float, ...] = (),
    note: str = "",
) -> Metric:
    return Metric(name, kind, labels, text, Family.GIE, buckets, note)


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_O, _P, _X = "inference_objective_", "inference_pool_", "inference_extension_"

GIE: tuple[Metric, ...] = (
    _gie(_O + "request_total", _C, _MODELS, "Requests that a server was chosen for."),
    _gie(
        _O + "request_error_total",
        _C,
        (*_MODELS, "error_code"),
        "Requests that the picker refused, that a server answered with an error, or that no server "
        "answered.",
        note="Errors of servers count too; the published picker counts only its own.",
    ),
    _gie(
        _O + "request_duration_seconds",
        _H,
        _MODELS,
        "Time from a request's arrival at the proxy to the last byte for the client.",
        LATENCY_BUCKETS,
    ),
    _gie(_O + "request_sizes", _H, _MODELS, "Bytes of request bodies.", REQUEST_SIZE_BUCKETS),
    _gie(
        _O + "response_sizes",
        _H,
        _MODELS,
        "Bytes of answers' bodies, of those whose size the proxy tells.",
        RESPONSE_SIZE_BUCKETS,
    ),
    _gie(
        _O + "input_tokens", _H, _MODELS, "Prompt tokens as servers report.", INPUT_TOKENS_BUCKETS
    ),
    _gie(
        _O + "output_tokens",
        _H,
        _MODELS,
        "Completion tokens as servers report.",
        OUTPUT_TOKENS_BUCKETS,
    ),
    _gie(_O + "running_requests", _G, ("model_name",), "Requests on their way or in a server."),
    _gie(
        _O + "normalized_time_per_output_token_seconds",
        _H,
        _MODELS,
        "A request's duration divided by its completion tokens.",
        NTPOT_BUCKETS,
    ),
    _gie(
        _P + "average_kv_cache_utilization",
        _G,
        ("name",),
        "Share of the KV cache in use, mean of the pool's servers.",
    ),
    _gie(
        _P + "average_queue_size",
        _G,
        ("name",),
        "Requests that wait in servers, mean of the pool's servers.",
    ),
    _gie(
        _P + "average_running_requests",
        _G,
        ("name",),
        "Requests that run in servers, mean of the pool's servers.",
        note="Of a later release.",
    ),
    _gie(_P + "ready_pods", _G, ("name",), "Servers of the pool that are ready."),
    _gie(
        _P + "per_pod_queue_size",
        _G,
        ("name", "model_server_pod"),
        "Requests that wait in one server.",
    ),
    _gie(
        _X + "scheduler_e2e_duration_seconds",
        _H,
        (),
        "Time of a decision, waiting left out.",
        SCHEDULING_BUCKETS,
    ),
    _gie(_X + "prefix_indexer_size", _G, (), "Pairs of prompt block and server in the index."),
    _gie(
        _X + "prefix_indexer_hit_ratio",
        _H,
        (),
        "Share of a prompt that the index expects in the chosen server's cache.",
        HIT_RATIO_BUCKETS,
    ),
    _gie(
        _X + "prefix_indexer_hit_bytes",
        _H,
        (),
        "Bytes of a prompt that the index expects in the chosen server's cache.",
        HIT_BYTES_BUCKETS,
    ),
    _gie(_X + "info", _G, ("commit", "build_ref"), "1, with what this program was built from."),
)
