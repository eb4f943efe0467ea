"""Metrics of flow control, under llm-d's names and the older ones.

Requests that pass while nothing is saturated are never asked about: they are in none of these.
"""

from __future__ import annotations

from inferway.observe.catalogue_gie import QUEUE_DURATION_BUCKETS
from inferway.observe.metric import Family, Kind, Metric

_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_FLOW = ("fairness_id", "priority")
_ONE = ("inference_pool",)
_BAND = ("priority", "inference_pool")


def _llm_d(
    name: str,
    kind: Kind,
    labels: tuple[str, ...],
    text: str,
    buckets: tuple[float, ...] = (),
) -> Metric:
    return Metric(f"llm_d_epp_flow_control_{name}", kind, labels, text, Family.LLM_D, buckets)


def _gie(
    name: str,
    kind: Kind,
    labels: tuple[str, ...],
    text: str,
    buckets: tuple[float, ...] = (),
) -> Metric:
    return Metric(
        f"inference_extension_flow_control_{name}", kind, labels, text, Family.GIE, buckets
    )


_WAITED = "How long requests waited in the picker, by what became of them."
_SIZE = "Requests that wait in the picker."
_OWN = ("pool", "name")

FLOW: tuple[Metric, ...] = (
    Metric(
        "inferway_pool_saturation",
        _G,
        _OWN,
        "How full the pool was when it was last looked at; at 1 requests wait.",
    ),
    _llm_d(
        "request_queue_duration_seconds",
        _H,
        (*_FLOW, "outcome", *_ONE),
        _WAITED,
        QUEUE_DURATION_BUCKETS,
    ),
    _gie(
        "request_queue_duration_seconds", _H, (*_FLOW, "outcome"), _WAITED, QUEUE_DURATION_BUCKETS
    ),
    _llm_d("requests_total", _C, ("outcome", *_BAND), "Requests that came to the queue."),
    _llm_d("queue_size", _G, (*_FLOW, *_ONE), _SIZE),
    _gie("queue_size", _G, _FLOW, _SIZE),
    _llm_d("queue_bytes", _G, (*_FLOW, *_ONE), "Bodies of requests that wait."),
    _llm_d(
        "pool_saturation",
        _G,
        (*_ONE, "stage"),
        "How full the pool was when it was last looked at; at 1 requests wait.",
    ),
    _llm_d(
        "stale_endpoints", _G, ("detector",), "Endpoints whose metrics are older than a second."
    ),
    _llm_d("capacity_utilization_requests", _G, _BAND, "Share of a band's requests that wait."),
    _llm_d("capacity_utilization_bytes", _G, _BAND, "Share of a band's bytes that wait."),
    _llm_d("global_capacity_utilization_requests", _G, _ONE, "The same of all bands together."),
    _llm_d("global_capacity_utilization_bytes", _G, _ONE, "The same of all bands together."),
)
