"""What a plugin is: filters keep, scorers value, pickers order; and how parameters are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeAlias

from inferway.scheduling.policy import blocks_of
from inferway.scheduling.prefix import Blocks
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot


class Context:
    """One decision as plugins see it; the prompt is cut into blocks when first asked for."""

    __slots__ = ("_blocks", "_matched", "now", "request", "rng", "snapshot")

    def __init__(self, request: Request, snapshot: Snapshot, now: float, rng: Rng) -> None:
        self.request = request
        self.snapshot = snapshot
        self.now = now
        self.rng = rng
        self._blocks: Blocks | None = None
        self._matched: Mapping[int, int] | None = None

    @property
    def blocks(self) -> Blocks:
        """The prompt's blocks under the pool's own schedule."""
        if self._blocks is None:
            self._blocks = blocks_of(self.request)
        return self._blocks

    @property
    def matched(self) -> Mapping[int, int]:
        """Bytes of prompt that a slot is taken to have cached."""
        if self._matched is None:
            self._matched = self.snapshot.prefixes.match(self.blocks)
        return self._matched


class Plugin:
    """Common to all kinds; most plugins keep nothing between decisions."""

    def placed(self, request: Request, slot: int) -> None:
        """The request goes to this slot."""

    def drop(self, slot: int) -> None:
        """The slot's endpoint is gone."""


class Filter(Plugin):
    """Leaves out endpoints that must not get the request."""

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        """The slots that may; order is kept."""
        raise NotImplementedError


class Scorer(Plugin):
    """Values endpoints from 0 (worst) to 1."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        """One value per slot."""
        raise NotImplementedError


class Picker(Plugin):
    """Orders endpoints by their summed scores."""

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        """The slots to name, best first."""
        raise NotImplementedError


class ProfileHandler(Plugin):
    """Says which profiles run; with the single one there is nothing to say."""

    profiles_max: ClassVar[int] = 1


class Kind(StrEnum):
    """What a plugin does in a profile."""

    FILTER = "filter"
    SCORER = "scorer"
    PICKER = "picker"
    PROFILE_HANDLER = "profile handler"


class Stability(StrEnum):
    """Whether a plugin's behaviour may change; alpha ones must be allowed by a flag."""

    ALPHA = "alpha"
    BETA = "beta"
    STABLE = "stable"


class Signal(StrEnum):
    """What a plugin reads."""

    WAITING = "waiting requests"
    RUNNING = "running requests"
    KV_USE = "KV cache use"
    ADAPTERS = "adapters"
    PROMPT = "prompt"
    LABELS = "labels"
    OWN = "own accounting"


Parameters: TypeAlias = Mapping[str, Any]


class Built(Protocol):
    """A class or function that makes a plugin of checked parameters."""

    def __call__(self, parameters: Parameters) -> Plugin: ...


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its type, its default, and what else must hold."""

    type: type
    default: Any
    check: Callable[[Any], str] = lambda value: ""


@dataclass(frozen=True, slots=True)
class PluginType:
    """One row of the registry."""

    name: str
    kind: Kind
    build: Built
    parameters: Mapping[str, Parameter]
    signals: Sequence[Signal] = ()
    stability: Stability = Stability.BETA


def at_least(low: float) -> Callable[[Any], str]:
    """A check for numbers."""
    return lambda value: "" if value >= low else f"must be at least {low:g}"


def between(low: float, high: float) -> Callable[[Any], str]:
    """A check for numbers."""
    return lambda value: "" if low <= value <= high else f"must be from {low:g} to {high:g}"


def spread(values: list[float]) -> list[float]:
    """(max - v) / (max - min): the least is 1, the greatest 0; all equal are 1."""
    high, low = max(values), min(values)
    if high == low:
        return [1.0] * len(values)
    return [(high - value) / (high - low) for value in values]
