"""``topology-affinity-filter``: servers near the one that an earlier stage has chosen."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Filter
from inferway.scheduling.plugins.topology import Nearness, TopologyExtractor
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    Parameter,
    PluginType,
    Signal,
    Stability,
    named,
    one_of,
)

LEVELS = {n.name.lower(): n for n in Nearness if n is not Nearness.NONE}


class TopologyAffinityFilter(Filter):
    """Never leaves nothing: if none is near, or nobody knows where the other is, all are kept."""

    def __init__(self, making: Making) -> None:
        topology = making.sources[Data.TOPOLOGY]
        assert isinstance(topology, TopologyExtractor)
        self._topology = topology
        self._farthest = LEVELS[making.parameters["minAffinity"]]

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        if context.peer is None:
            return slots
        labels = context.snapshot.columns.labels
        there = labels[context.peer]
        between = self._topology.between
        return [slot for slot in slots if between(labels[slot], there) <= self._farthest] or slots


TYPE = PluginType(
    "topology-affinity-filter",
    Kind.FILTER,
    TopologyAffinityFilter,
    {
        "minAffinity": Parameter(
            str,
            "host",
            one_of(*LEVELS),
            "What must be shared: host, rack, zone or region.",
        ),
        "topologyProducerName": named(Data.TOPOLOGY),
    },
    does="Servers that share host, rack, zone or region with the earlier stage's; if none, all.",
    signals=(Signal.LABELS,),
    stability=Stability.ALPHA,
    needs=(Need(Data.TOPOLOGY, "topologyProducerName"),),
)
