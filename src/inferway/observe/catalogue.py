"""All metrics of the picker by name, and which of them a picker shows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from inferway.observe.catalogue_flow import FLOW
from inferway.observe.catalogue_gie import GIE
from inferway.observe.catalogue_llm_d import LLM_D
from inferway.observe.catalogue_own import OWN
from inferway.observe.metric import Family, Metric


def catalogue() -> Mapping[str, Metric]:
    """Name -> metric, in the order of the reference page."""
    metrics = (*OWN, *GIE, *LLM_D, *FLOW)
    found = {metric.name: metric for metric in metrics}
    assert len(found) == len(metrics), "a name stands twice in the catalogue"
    return MappingProxyType(found)


def families(text: str) -> frozenset[Family]:
    """What ``--metric-families`` asks for; our own names are always shown. Raises ValueError."""
    return frozenset({Family.OWN, *(Family(part.strip()) for part in text.split(",") if part)})
