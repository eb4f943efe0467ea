"""Metrics about the pool as a whole: what an autoscaler looks at, waiting requests, rewrites.

``inferway_pool_*`` are sums over the pool, so that ``sum / target`` is a number of servers; the
published pickers' averages and counts stand beside them under their own names.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

from inferway.cluster.store import Key
from inferway.observe.metric import Rows
from inferway.picker.flow import FlowGate
from inferway.picker.telemetry import Telemetry


class PoolSource:
    """One pool."""

    def __init__(self, telemetry: Telemetry, key: Key, flow: FlowGate) -> None:
        self._telemetry = telemetry
        self._key = key
        self._flow = flow

    def read(self) -> Iterator[tuple[str, Rows]]:
        yield from self._load()
        yield from self._published()
        yield from self._held()
        yield from self._rewrites()

    def _load(self) -> Iterator[tuple[str, Rows]]:
        c = self._telemetry.scheduler.columns
        held = len(self._flow.queue)
        waiting = sum(c.waiting[slot] for slot in c.live)
        running = sum(c.running[slot] for slot in c.live)
        both = (self._telemetry.pool, self._key.name)
        yield "inferway_pool_ready_endpoints", {both: len(c.live)}
        yield "inferway_pool_held_requests", {both: held}
        yield "inferway_pool_queued_requests", {both: held + waiting}
        yield "inferway_pool_active_requests", {both: held + waiting + running}
        yield "inferway_pool_held_bytes", {both: self._flow.queue.bytes}
        yield "inferway_pool_held_oldest_seconds", {both: self._flow.oldest_seconds()}

    def _published(self) -> Iterator[tuple[str, Rows]]:
        """The pool gauges of the reference pickers; they know a pool by its bare name."""
        c = self._telemetry.scheduler.columns
        name = self._key.name
        one = (name,)
        for what, column in (
            ("queue_size", c.waiting),
            ("running_requests", c.running),
            ("kv_cache_utilization", c.kv_use),
        ):
            values = [column[slot] for slot in c.live] or [0.0]
            mean = statistics.fmean(values)
            yield f"inference_pool_average_{what}", {one: mean}
            yield f"llm_d_epp_average_{what}", {one: mean}
            yield f"llm_d_epp_std_dev_{what}", {one: statistics.pstdev(values, mean)}
        yield "inference_pool_ready_pods", {one: len(c.live)}
        yield "llm_d_epp_ready_endpoints", {one: len(c.live)}
        # A Pod with several target ports is several endpoints, told apart by their addresses.
        names = [c.name[slot] for slot in c.live]
        alone = len(set(names)) == len(names)
        queues = {
            (name, c.name[slot] if alone else f"{c.name[slot]}-{c.address[slot]}"): c.waiting[slot]
            for slot in c.live
        }
        yield "inference_pool_per_pod_queue_size", queues
        yield "llm_d_epp_per_endpoint_queue_size", queues

    def _held(self) -> Iterator[tuple[str, Rows]]:
        pool = self._telemetry.pool
        counts = self._flow.counts
        ended: Counter[tuple[str, ...]] = Counter()
        for (outcome, _), count in counts.requests.items():
            ended[pool, outcome] += count
        yield "inferway_pool_held_ended_total", ended
        yield "inferway_pool_held_seconds_total", {(pool,): counts.waited_seconds}

    def _rewrites(self) -> Iterator[tuple[str, Rows]]:
        t = self._telemetry
        yield (
            "inferway_pool_model_rewrites_total",
            {(t.pool, *labels): count for labels, count in t.rewrites.items()},
        )
        yield "llm_d_epp_model_rewrite_decisions_total", dict(t.rewrites)
