"""A scheduling profile as a policy: filters, then weighted scorers, then a picker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inferway.scheduling.decision import Decision
from inferway.scheduling.plugins.base import Context, Filter, Picker, Plugin, Scorer
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot


class _NoChance:
    """For explanations, which must not use up random numbers."""

    def random(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class WeightedScorer:
    """One scorer of a profile; ``name`` is the plugin's name in the configuration."""

    name: str
    scorer: Scorer
    weight: float


@dataclass(frozen=True, slots=True)
class Profile:
    """What runs, in order."""

    name: str
    filters: Sequence[Filter]
    scorers: Sequence[WeightedScorer]
    picker: Picker


class ProfilePolicy:
    """One profile for every request."""

    def __init__(self, profile: Profile) -> None:
        self.name = f"profile {profile.name}"
        self.profile = profile
        plugins: list[Plugin] = [*profile.filters, *(w.scorer for w in profile.scorers)]
        self._plugins = [*plugins, profile.picker]
        self.headers: frozenset[str] = frozenset()

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision:
        context = Context(request, snapshot, now, rng)
        for one in self.profile.filters:
            slots = one.keep(context, slots)
            if not slots:
                return Decision([])
        scores = [0.0] * len(slots)
        for weighted in self.profile.scorers:
            weight = weighted.weight
            values = weighted.scorer.score(context, slots)
            scores = [score + weight * value for score, value in zip(scores, values, strict=True)]
        order = self.profile.picker.order(context, slots, scores)
        size = len(request.prompt)
        tokens = size / snapshot.ratios.bytes_per_token(request.model) if size else 0.0
        matched = context.matched.get(order[0], 0) if order else 0
        return Decision(order, matched, tokens, context.blocks, max(scores))

    def placed(self, request: Request, decision: Decision) -> None:
        for plugin in self._plugins:
            plugin.placed(request, decision.slots[0])

    def drop(self, slot: int) -> None:
        for plugin in self._plugins:
            plugin.drop(slot)

    def explain(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float
    ) -> list[dict[str, Any]]:
        context = Context(request, snapshot, now, _NoChance())
        kept = slots
        for one in self.profile.filters:
            kept = one.keep(context, kept)
        rows: dict[int, dict[str, Any]] = {slot: {"kept": False} for slot in slots}
        scores = dict.fromkeys(kept, 0.0)
        for slot in kept:
            rows[slot] = {"kept": True}
        for weighted in self.profile.scorers if kept else ():
            for slot, value in zip(kept, weighted.scorer.score(context, kept), strict=True):
                rows[slot][weighted.name] = value
                scores[slot] += weighted.weight * value
        for slot in kept:
            rows[slot]["score"] = scores[slot]
        return [rows[slot] for slot in slots]
