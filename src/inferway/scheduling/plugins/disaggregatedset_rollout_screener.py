"""``disaggregatedset-rollout-screener``: keeps a request on one revision while a rollout goes on.

Prefill and decode servers of different revisions must not meet. A revision takes part once every
role has a ready Pod in it, and gets requests by how many it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferway.scheduling.plugins.base import Context, Placed, Screener
from inferway.scheduling.plugins.selectors import parse
from inferway.scheduling.plugins.types import (
    REQUIRED,
    Kind,
    Making,
    Parameter,
    Parameters,
    PluginType,
    Signal,
    Stability,
    not_empty,
    one_of,
)
from inferway.scheduling.request import Rng
from inferway.scheduling.snapshot import Columns

REVISION_LABEL = "disaggregatedset.x-k8s.io/revision"
ROLE_LABEL = "disaggregatedset.x-k8s.io/role"
SUM, MAX_ROLE, DISABLED = "sum", "max-role", "disabled"
STRICT, PREFER = "strict", "prefer"
# Pods are counted anew after this time; counting a thousand costs more than a decision.
COUNTED_SECONDS = 0.05


class DisaggregatedsetRolloutScreener(Screener):
    """Endpoints of one revision: the one in the header, else a weighted draw."""

    def __init__(self, making: Making) -> None:
        values = making.parameters
        try:
            self._scope = parse(values["scope"]["labelSelector"])
        except ValueError as error:
            raise ValueError(f"scope.labelSelector: {error}") from None
        self._selectors = [
            (one["headerName"].lower(), one["labelKey"], one["mode"] == STRICT)
            for one in values["headerSelectors"]
        ]
        gating = values["revisionGating"]
        self._mode: str = gating["mode"]
        self._revision: str = gating["revisionLabelKey"]
        self._role: str = gating["roleLabelKey"]
        self._roles: list[str] = (gating["requireRoles"] or {}).get("values") or []
        if self._mode != DISABLED and not self._roles:
            raise ValueError("revisionGating.requireRoles: is missing")
        self._counted: tuple[object, float, Mapping[str, int]] = (None, 0.0, {})

    def screen(self, context: Context, slots: list[int]) -> list[int]:
        labels = context.snapshot.columns.labels
        pinned = ""
        for header, key, strict in self._selectors:
            wanted = context.request.headers.get(header, "") if strict else ""
            if wanted:
                slots = [slot for slot in slots if labels[slot].get(key) == wanted]
                if key == self._revision:
                    pinned = wanted
        if self._mode == DISABLED or not slots:
            return slots
        weights = self._weights(context)
        if pinned:
            return slots if pinned in weights else []
        chosen = _drawn(weights, context.rng)
        return [slot for slot in slots if labels[slot].get(self._revision) == chosen]

    def _weights(self, context: Context) -> Mapping[str, int]:
        """The weight of each revision that is complete."""
        columns = context.snapshot.columns
        live, at, known = self._counted
        if live is columns.live and context.now - at <= COUNTED_SECONDS:
            return known
        counts = self._counts(columns)
        whole = {name: n for name, n in counts.items() if all(n.get(role) for role in self._roles)}
        if self._mode == SUM:
            weights = {name: sum(n[role] for role in self._roles) for name, n in whole.items()}
        else:
            totals = {role: sum(n[role] for n in whole.values()) for role in self._roles}
            most = max(self._roles, key=lambda role: totals[role])
            weights = {name: n[most] for name, n in whole.items()}
        self._counted = (columns.live, context.now, weights)
        return weights

    def _counts(self, columns: Columns) -> dict[str, dict[str, int]]:
        """Ready Pods by revision and role; a Pod with several ports counts once."""
        counts: dict[str, dict[str, int]] = {}
        seen = set()
        for slot in columns.live:
            labels, name = columns.labels[slot], columns.name[slot]
            if name in seen or not all(part.fits(labels) for part in self._scope):
                continue
            seen.add(name)
            revision = labels.get(self._revision)
            if revision:
                of_revision = counts.setdefault(revision, {})
                role = labels.get(self._role, "")
                of_revision[role] = of_revision.get(role, 0) + 1
        return counts

    def response_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        slot = placed.slot()
        if slot is None:
            return ()
        labels = placed.context.snapshot.columns.labels[slot]
        return [(header, labels[key]) for header, key, _ in self._selectors if labels.get(key)]


def _drawn(weights: Mapping[str, int], rng: Rng) -> str | None:
    """A revision by chance in proportion to its weight."""
    mark = rng.random() * sum(weights.values())
    for name in sorted(weights):
        mark -= weights[name]
        if mark < 0:
            return name
    return None


def _headers(values: Parameters) -> list[str]:
    return [one["headerName"] for one in values["headerSelectors"]]


_SELECTOR: dict[str, Any] = {
    "name": Parameter(str, REQUIRED, not_empty, "Name of the pair."),
    "headerName": Parameter(str, REQUIRED, not_empty, "Header of request and answer."),
    "labelKey": Parameter(str, REQUIRED, not_empty, "Label of the Pods."),
    "mode": Parameter(
        str,
        REQUIRED,
        one_of(STRICT, PREFER),
        "strict screens, prefer only marks the answer.",
    ),
}
_GATING: dict[str, Any] = {
    "mode": Parameter(str, REQUIRED, one_of(SUM, MAX_ROLE, DISABLED), "sum, max-role or disabled."),
    "requireRoles": Parameter(
        dict,
        None,
        fields={"values": Parameter(list, REQUIRED, not_empty, "The roles.", items=Parameter(str))},
        help="Roles that each need a ready Pod.",
    ),
    "revisionLabelKey": Parameter(str, REVISION_LABEL, not_empty, "Label of the revision."),
    "roleLabelKey": Parameter(str, ROLE_LABEL, not_empty, "Label of the role."),
}

TYPE = PluginType(
    "disaggregatedset-rollout-screener",
    Kind.SCREENER,
    DisaggregatedsetRolloutScreener,
    {
        "scope": Parameter(
            dict,
            REQUIRED,
            fields={"labelSelector": Parameter(str, REQUIRED, not_empty, "Pods that are counted.")},
        ),
        "headerSelectors": Parameter(
            list,
            [],
            help="Headers and the labels that they stand for.",
            items=Parameter(dict, {}, fields=_SELECTOR),
        ),
        "revisionGating": Parameter(dict, REQUIRED, fields=_GATING),
    },
    does=(
        "One revision of those with a ready Pod in every role, drawn by weight: sum: its Pods; "
        "max-role: its Pods of the role that has most; a strict header decides by itself."
    ),
    signals=(Signal.LABELS, Signal.HEADERS),
    stability=Stability.ALPHA,
    headers=_headers,
)
