"""Profiles as a policy: screeners, admitters, and the profiles that a handler runs.

A profile is filters, then weighted scorers, then a picker. What a policy's plugins do not read is
not worked out: without a prefix plugin no prompt is hashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inferway.scheduling.decision import Decision, Refusal
from inferway.scheduling.plugins.base import (
    Admitter,
    Context,
    Filter,
    LoadProducer,
    Picker,
    Placed,
    Plugin,
    PrefixProducer,
    Scorer,
    Screener,
)
from inferway.scheduling.prefix import NO_BLOCKS
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

    def run(self, context: Context, slots: list[int]) -> tuple[list[int], float]:
        """Endpoints best first and the best score; none if the filters leave none."""
        for one in self.filters:
            slots = one.keep(context, slots)
            if not slots:
                return [], 0.0
        scores = [0.0] * len(slots)
        for weighted in self.scorers:
            weight = weighted.weight
            for position, value in enumerate(weighted.scorer.score(context, slots)):
                within = value if 0.0 <= value <= 1.0 else 0.0 if value < 0.0 else 1.0
                scores[position] += weight * within
        return self.picker.order(context, slots, scores), max(scores)


class Choice:
    """What a profile handler has come to; ``picked`` has the profiles that ran, by name."""

    __slots__ = ("picked", "prefill", "primary", "refusal", "score", "stages")

    def __init__(self, primary: str) -> None:
        self.primary = primary
        self.picked: dict[str, Sequence[int]] = {}
        self.score = 0.0
        self.refusal: Refusal | None = None
        # The profile whose server computes the prompt for another one; empty: there is none.
        self.prefill = ""
        # Which stages run, as a label of metrics; empty where nothing is disaggregated.
        self.stages = ""


class ProfileHandler(Plugin):
    """Says which profiles run, in which order.

    ``port``: requests go there on the chosen Pod instead of the endpoint's own port; 0: they do
    not.
    """

    port: int = 0

    def choose(self, profiles: Mapping[str, Profile], context: Context, slots: list[int]) -> Choice:
        """Runs profiles."""
        raise NotImplementedError

    def check(self, profiles: Sequence[str]) -> str:
        """What is wrong with the names of the configured profiles, or nothing."""
        return ""

    def primary(self, profiles: Sequence[str]) -> frozenset[str]:
        """Profiles whose endpoints get the request itself."""
        return frozenset(profiles)


@dataclass(frozen=True, slots=True)
class Parts:
    """The plugins of a policy. ``plugins`` are all of them, each once, ``names`` theirs."""

    profiles: Mapping[str, Profile]
    handler: ProfileHandler
    plugins: Sequence[Plugin]
    names: Sequence[str] = ()
    handler_type: str = ""
    screeners: Sequence[Screener] = ()
    admitters: Sequence[Admitter] = ()
    headers: frozenset[str] = frozenset()
    # Whose word counts for what the chosen server has cached.
    prefixes: PrefixProducer | None = None
    # Whether any plugin reads the pool's own index of prefixes.
    reads_prefixes: bool = False


class ProfilePolicy:
    """The plugins of a configuration as a policy."""

    def __init__(self, parts: Parts) -> None:
        names = list(parts.profiles)
        self.name = f"profile {names[0]}" if len(names) == 1 else f"profiles {', '.join(names)}"
        self.headers = parts.headers
        self.port = parts.handler.port
        self.profiles = parts.profiles
        self.handler = parts.handler
        self.plugins = parts.plugins
        self.names = dict(zip(parts.plugins, parts.names, strict=True))
        # Name and type, as labels of metrics.
        self.handler_names = (self.names[parts.handler], parts.handler_type)
        self._screeners = parts.screeners
        self._admitters = parts.admitters
        self._prefixes = parts.prefixes
        self._reads_prefixes = parts.reads_prefixes
        self._loads = [one for one in parts.plugins if isinstance(one, LoadProducer)]
        self._placers = _overriding(parts.plugins, "placed")
        self._droppers = _overriding(parts.plugins, "drop")
        self._requesters = _overriding(parts.plugins, "request_headers")
        self._responders = _overriding(parts.plugins, "response_headers")

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision | Refusal:
        context = Context(request, snapshot, now, rng)
        for screener in self._screeners:
            slots = screener.screen(context, slots)
            if not slots:
                return Decision([])
        for admitter in self._admitters:
            refusal = admitter.admit(context, slots)
            if refusal is not None:
                return refusal
        choice = self.handler.choose(self.profiles, context, slots)
        if choice.refusal is not None:
            return choice.refusal
        order = choice.picked.get(choice.primary)
        if not order:
            return Decision([])
        return self._decision(choice, order, Placed(context, choice.primary, choice.picked))

    def _decision(self, choice: Choice, order: Sequence[int], placed: Placed) -> Decision:
        context = placed.context
        decision = Decision(
            order,
            self._matched(context, order[0]),
            context.prompt_tokens,
            context.blocks if self._reads_prefixes else NO_BLOCKS,
            choice.score,
            trail=placed,
        )
        for load in self._loads:
            decision.output_tokens = max(decision.output_tokens, load.output_tokens(context))
        if choice.stages:
            decision.stages = choice.stages
            computing = placed.slot(choice.prefill) if choice.prefill else None
            if computing is not None:
                decision.prefill = computing
                decision.prefill_matched_bytes = self._matched(context, computing)
                # The cache comes along with the request: nothing is left to compute.
                decision.matched_bytes = len(context.request.prompt)
        if self._requesters:
            decision.headers = [h for one in self._requesters for h in one.request_headers(placed)]
        if self._responders:
            decision.response_headers = [
                h for one in self._responders for h in one.response_headers(placed)
            ]
        return decision

    def _matched(self, context: Context, slot: int) -> int:
        """Bytes of the prompt that a server has cached, if a plugin has asked for it anyway."""
        if self._reads_prefixes:
            return context.matched.get(slot, 0)
        if self._prefixes is not None:
            return self._prefixes.match(context).matched.get(slot, 0)
        return 0

    def placed(self, request: Request, decision: Decision) -> None:
        if decision.trail is not None:
            for plugin in self._placers:
                plugin.placed(decision.trail)

    def drop(self, slot: int) -> None:
        for plugin in self._droppers:
            plugin.drop(slot)

    def explain(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float
    ) -> list[dict[str, Any]]:
        context = Context(request, snapshot, now, _NoChance())
        kept = slots
        for screener in self._screeners:
            kept = screener.screen(context, kept)
        rows: dict[int, dict[str, Any]] = {slot: {"kept": False} for slot in slots}
        primaries = self.handler.primary(list(self.profiles))
        for name, profile in self.profiles.items():
            prefix = "" if len(self.profiles) == 1 else f"{name}/"
            _explain(profile, context, kept, rows, prefix, primary=name in primaries)
        return [rows[slot] for slot in slots]


def _explain(
    profile: Profile,
    context: Context,
    slots: list[int],
    rows: dict[int, dict[str, Any]],
    prefix: str,
    *,
    primary: bool,
) -> None:
    """Adds what a profile thinks of each endpoint, under its name if there are several."""
    for one in profile.filters:
        slots = one.keep(context, slots) if slots else slots
    scores = dict.fromkeys(slots, 0.0)
    for weighted in profile.scorers if slots else ():
        for slot, value in zip(slots, weighted.scorer.score(context, slots), strict=True):
            rows[slot][f"{prefix}{weighted.name}"] = value
            scores[slot] += weighted.weight * min(max(value, 0.0), 1.0)
    for slot in slots:
        rows[slot]["kept"] = rows[slot]["kept"] or primary
        rows[slot][f"{prefix}score"] = scores[slot]


def _overriding(plugins: Sequence[Plugin], method: str) -> list[Plugin]:
    """The plugins that do something at an event, so that the others cost nothing."""
    return [one for one in plugins if getattr(type(one), method) is not getattr(Plugin, method)]
