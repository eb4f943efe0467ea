"""How near two servers are: the Pods' topology labels, for the affinity filter and scorer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from inferway.scheduling.plugins.base import Plugin
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    Stability,
    not_empty,
)

LABELS = {
    "hostname": "kubernetes.io/hostname",
    "rack": "topology.kubernetes.io/rack",
    "zone": "topology.kubernetes.io/zone",
    "region": "topology.kubernetes.io/region",
}


class Nearness(IntEnum):
    """What two servers share at least, the nearest first."""

    HOST = 0
    RACK = 1
    ZONE = 2
    REGION = 3
    NONE = 4


class TopologyExtractor(Plugin):
    """Names the labels that say where a Pod runs."""

    def __init__(self, making: Making) -> None:
        self._keys = [making.parameters[name] for name in LABELS]

    def knows(self, labels: Mapping[str, str]) -> bool:
        """Whether a Pod says anything of where it runs."""
        return any(labels.get(key) for key in self._keys)

    def between(self, one: Mapping[str, str], other: Mapping[str, str]) -> Nearness:
        """The nearest that both share; what a label does not say is shared with nobody."""
        for nearness, key in enumerate(self._keys):
            value = one.get(key)
            if value and value == other.get(key):
                return Nearness(nearness)
        return Nearness.NONE


TYPE = PluginType(
    "topology-extractor",
    Kind.EXTRACTOR,
    TopologyExtractor,
    {
        name: Parameter(str, label, not_empty, f"Label of the {name}.")
        for name, label in LABELS.items()
    },
    does="Reads host, rack, zone and region off the Pods' labels.",
    signals=(Signal.LABELS,),
    stability=Stability.ALPHA,
    gives=Data.TOPOLOGY,
)
