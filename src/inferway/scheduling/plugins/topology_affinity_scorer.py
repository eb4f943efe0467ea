"""``topology-affinity-scorer``: nearness to the server that an earlier stage has chosen."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.topology import Nearness, TopologyExtractor
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Need,
    PluginType,
    Signal,
    Stability,
    named,
)

# As the bandwidth between two servers falls with the distance.
SCORES = {
    Nearness.HOST: 1.0,
    Nearness.RACK: 0.2,
    Nearness.ZONE: 0.05,
    Nearness.REGION: 0.02,
    Nearness.NONE: 0.0,
}


class TopologyAffinityScorer(Scorer):
    """1 on the same host, 0.2 in the rack, 0.05 in the zone, 0.02 in the region."""

    def __init__(self, making: Making) -> None:
        topology = making.sources[Data.TOPOLOGY]
        assert isinstance(topology, TopologyExtractor)
        self._topology = topology

    def score(self, context: Context, slots: list[int]) -> list[float]:
        if context.peer is None:
            return [0.0] * len(slots)
        labels = context.snapshot.columns.labels
        there = labels[context.peer]
        return [SCORES[self._topology.between(labels[slot], there)] for slot in slots]


TYPE = PluginType(
    "topology-affinity-scorer",
    Kind.SCORER,
    TopologyAffinityScorer,
    {"topologyProducerName": named(Data.TOPOLOGY)},
    does="Same host 1, rack 0.2, zone 0.05, region 0.02, else 0; no earlier stage: 0.",
    signals=(Signal.LABELS,),
    stability=Stability.ALPHA,
    needs=(Need(Data.TOPOLOGY, "topologyProducerName"),),
)
