"""Metrics about the pool as a whole: what an autoscaler looks at, waiting requests, rewrites.

``inferway_pool_*`` are sums over the pool, so that ``sum / target`` is a number of servers; the
published pickers' averages and counts stand beside them under their own names.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferway.cluster.store import Key
from inferway.picker.holding import Holder
from inferway.picker.telemetry import Telemetry


class PoolCollector(Collector):
    """One pool."""

    def __init__(self, telemetry: Telemetry, key: Key, hold: Holder) -> None:
        self._telemetry = telemetry
        self._key = key
        self._hold = hold

    def collect(self) -> Iterator[Metric]:
        yield from self._load()
        yield from self._published()
        yield from self._held()
        yield from self._rewrites()

    def _load(self) -> Iterator[Metric]:
        s = self._telemetry.scheduler
        c = s.columns
        held = len(self._hold.queue)
        waiting = sum(c.waiting[slot] for slot in c.live)
        rows = (
            ("ready_endpoints", "Endpoints of the pool that are ready.", len(c.live)),
            ("held_requests", "Requests that wait in the picker for the first endpoint.", held),
            (
                "queued_requests",
                "Requests that nobody works on: held by the picker, and waiting in servers.",
                held + waiting,
            ),
            (
                "active_requests",
                "Requests held by the picker, waiting in servers and running there.",
                held + waiting + sum(c.running[slot] for slot in c.live),
            ),
        )
        for name, text, value in rows:
            yield self._gauge(f"inferway_pool_{name}", text, value)

    def _published(self) -> Iterator[Metric]:
        """The pool gauges of the reference pickers; they know a pool by its bare name."""
        s = self._telemetry.scheduler
        c = s.columns
        count = len(c.live)
        per = max(1, count)
        rows = (
            ("average_queue_size", sum(c.waiting[slot] for slot in c.live) / per),
            ("average_running_requests", sum(c.running[slot] for slot in c.live) / per),
            ("average_kv_cache_utilization", sum(c.kv_use[slot] for slot in c.live) / per),
        )
        for prefix, ready in (("inference_pool", "ready_pods"), ("llm_d_epp", "ready_endpoints")):
            for name, value in (*rows, (ready, float(count))):
                family = GaugeMetricFamily(
                    f"{prefix}_{name}", "As the published pickers name it.", labels=("name",)
                )
                family.add_metric((self._key.name,), value)
                yield family

    def _held(self) -> Iterator[Metric]:
        pool = self._telemetry.pool
        hold = self._hold
        yield self._gauge("inferway_pool_held_bytes", "Bodies of held requests.", hold.queue.bytes)
        yield self._gauge(
            "inferway_pool_held_oldest_seconds",
            "How long the first of the held requests has waited.",
            hold.oldest_seconds(),
        )
        ended = CounterMetricFamily(
            "inferway_pool_held_ended",
            "Held requests by what ended their waiting.",
            labels=("pool", "outcome"),
        )
        for outcome, count in hold.ended.items():
            ended.add_metric((pool, outcome), count)
        yield ended
        seconds = CounterMetricFamily(
            "inferway_pool_held_seconds", "Time that held requests have waited.", labels=("pool",)
        )
        seconds.add_metric((pool,), hold.waited_seconds)
        yield seconds

    def _rewrites(self) -> Iterator[Metric]:
        for name, own in (
            ("inferway_pool_model_rewrites", ("pool",)),
            ("llm_d_epp_model_rewrite_decisions", ()),
        ):
            family = CounterMetricFamily(
                name,
                "Requests that a rule of an InferenceModelRewrite has decided about.",
                labels=(*own, "model_rewrite_name", "model_name", "target_model"),
            )
            first = (self._telemetry.pool,) if own else ()
            for labels, count in self._telemetry.rewrites.items():
                family.add_metric((*first, *labels), count)
            yield family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        # A pool's full name has a slash, which a selector of a cluster's metrics may not have.
        family = GaugeMetricFamily(name, text, labels=("pool", "name"))
        family.add_metric((self._telemetry.pool, self._key.name), value)
        return family
