"""What placement counts, as Prometheus families. Nothing for a pool without a LoRAAdapter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferway.picker.placement.keeper import PlacementKeeper

_LABELS = ("pool", "adapter")


class PlacementCollector(Collector):
    """One pool."""

    def __init__(self, keeper: PlacementKeeper) -> None:
        self._keeper = keeper
        self._pool = f"{keeper.pool.namespace}/{keeper.pool.name}"

    def collect(self) -> Iterator[Metric]:
        keeper = self._keeper
        if not keeper.reading.adapters:
            return
        leads = GaugeMetricFamily(
            "inferway_placement_leader", "1 in the picker that places.", labels=("pool",)
        )
        leads.add_metric((self._pool,), float(keeper.acting is not None))
        yield leads
        yield self._gauge(
            "waiting_requests",
            "Requests that wait in this picker for an adapter.",
            {name: float(count) for name, count in keeper.queue.counts().items()},
        )
        yield self._counter(
            "waits",
            "Requests that waited for an adapter, by what ended it.",
            ("outcome",),
            keeper.queue.ended.items(),
        )
        yield self._counter(
            "wait_seconds",
            "Time that requests have waited for an adapter.",
            (),
            [((adapter,), n) for adapter, n in keeper.queue.waited_seconds.items()],
        )
        yield self._counter(
            "actions",
            "Loads and unloads that this picker asked servers for, by how they ended.",
            ("action", "outcome"),
            keeper.counts.ended.items(),
        )
        yield self._counter(
            "load_seconds",
            "Time that loads took.",
            (),
            [((adapter,), n) for adapter, n in keeper.counts.load_seconds.items()],
        )
        if keeper.acting is not None:
            yield from self._placed()

    def _placed(self) -> Iterator[Metric]:
        keeper = self._keeper
        assert keeper.acting is not None
        placement = keeper.acting.placement
        states = Counter((name, copy.state.value) for (name, _), copy in placement.copies.items())
        family = GaugeMetricFamily(
            "inferway_placement_copies",
            "Copies that placement has on servers, by state.",
            labels=(*_LABELS, "state"),
        )
        for (adapter, state), count in states.items():
            family.add_metric((self._pool, adapter, state), float(count))
        yield family
        wanted = {name: float(count) for name, count in placement.last.wanted.items()}
        yield self._gauge("wanted_copies", "Copies that minimum and demand ask for.", wanted)
        usage = keeper.meter.usage({})
        yield self._gauge(
            "demand_requests",
            "Requests in flight for an adapter, averaged; all pickers together.",
            {name: usage[name].demand for name in keeper.reading.wishes if name in usage},
        )

    def _gauge(self, name: str, text: str, rows: dict[str, float]) -> Metric:
        family = GaugeMetricFamily(f"inferway_placement_{name}", text, labels=_LABELS)
        for adapter, value in rows.items():
            family.add_metric((self._pool, adapter), value)
        return family

    def _counter(
        self,
        name: str,
        text: str,
        labels: tuple[str, ...],
        rows: Iterable[tuple[tuple[str, ...], float]],
    ) -> Metric:
        family = CounterMetricFamily(f"inferway_placement_{name}", text, labels=(*_LABELS, *labels))
        for values, count in rows:
            family.add_metric((self._pool, *values), count)
        return family
