"""Metrics of a pool's queue under the published names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from inferway.cluster.store import Key
from inferway.observe.metric import Rows
from inferway.picker.flow import FlowGate
from inferway.scheduling.flow.capacity import stale_endpoints
from inferway.scheduling.pool import PoolScheduler

_LLM_D = "llm_d_epp_flow_control_"
_GIE = "inference_extension_flow_control_"
# Metrics that are older are called stale; own accounting is what counts then.
STALE_SECONDS = 1.0


class FlowSource:
    """One pool."""

    def __init__(self, flow: FlowGate, scheduler: PoolScheduler, key: Key) -> None:
        self._both = f"{key.namespace}/{key.name}", key.name
        self._flow = flow
        self._scheduler = scheduler
        self._name = key.name

    def read(self) -> Iterator[tuple[str, Rows]]:
        yield from self._ended()
        yield from self._waiting()
        yield from self._full()

    def _ended(self) -> Iterator[tuple[str, Rows]]:
        counts = self._flow.counts
        name = self._name
        by_flow = {
            (flow, str(priority), outcome): histogram
            for (flow, priority, outcome), histogram in counts.seconds.items()
        }
        yield (
            _LLM_D + "request_queue_duration_seconds",
            {(*labels, name): h.read() for labels, h in by_flow.items()},
        )
        yield (
            _GIE + "request_queue_duration_seconds",
            {labels: h.read() for labels, h in by_flow.items()},
        )
        yield (
            _LLM_D + "requests_total",
            {(what, str(p), name): count for (what, p), count in counts.requests.items()},
        )

    def _waiting(self) -> Iterator[tuple[str, Rows]]:
        requests: Counter[tuple[str, ...]] = Counter()
        sizes: Counter[tuple[str, ...]] = Counter()
        for item in self._flow.queue.waiting():
            labels = self._flow.counts.flow(item.flow), str(item.priority)
            requests[labels] += 1
            sizes[labels] += item.size
        name = self._name
        yield _LLM_D + "queue_size", {(*labels, name): n for labels, n in requests.items()}
        yield _GIE + "queue_size", requests
        yield _LLM_D + "queue_bytes", {(*labels, name): n for labels, n in sizes.items()}

    def _full(self) -> Iterator[tuple[str, Rows]]:
        queue, name = self._flow.queue, self._name
        columns = self._scheduler.columns
        yield "inferway_pool_saturation", {self._both: queue.capacity.saturation}
        yield _LLM_D + "pool_saturation", {(name, "effective"): queue.capacity.saturation}
        now = self._flow.now()
        yield (
            _LLM_D + "stale_endpoints",
            {("utilization-detector",): stale_endpoints(columns, now, STALE_SECONDS)},
        )
        bands = [(band, band.options) for band in queue.bands if band.options.max_requests]
        yield (
            _LLM_D + "capacity_utilization_requests",
            {(str(b.priority), name): len(b.items) / o.max_requests for b, o in bands},
        )
        yield (
            _LLM_D + "capacity_utilization_bytes",
            {(str(b.priority), name): b.bytes / o.max_bytes for b, o in bands},
        )
        options = queue.options
        yield (
            _LLM_D + "global_capacity_utilization_requests",
            {(name,): len(queue) / options.max_requests},
        )
        yield (
            _LLM_D + "global_capacity_utilization_bytes",
            {(name,): queue.bytes / options.max_bytes},
        )
