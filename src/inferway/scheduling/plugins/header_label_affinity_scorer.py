"""``header-label-affinity-scorer``: Pods whose label has the value of a request header."""

from __future__ import annotations

from inferway.scheduling.plugins.base import Context, Scorer
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Making,
    Parameter,
    PluginType,
    Signal,
    Stability,
    not_empty,
)


class HeaderLabelAffinityScorer(Scorer):
    """1 if the label equals the header, else 0."""

    def __init__(self, making: Making) -> None:
        self._header: str = making.parameters["headerName"].lower()
        self._label: str = making.parameters["labelKey"]

    def score(self, context: Context, slots: list[int]) -> list[float]:
        wanted = context.request.headers.get(self._header, "")
        if not wanted:
            return [0.0] * len(slots)
        labels = context.snapshot.columns.labels
        return [1.0 if labels[slot].get(self._label) == wanted else 0.0 for slot in slots]


TYPE = PluginType(
    "header-label-affinity-scorer",
    Kind.SCORER,
    HeaderLabelAffinityScorer,
    {
        "headerName": Parameter(str, REQUIRED, not_empty, "Request header."),
        "labelKey": Parameter(str, REQUIRED, not_empty, "Label to compare it with."),
    },
    does="1 if the label's value is the header's, else 0.",
    signals=(Signal.HEADERS, Signal.LABELS),
    stability=Stability.ALPHA,
    headers=lambda values: (values["headerName"],),
)
