"""How a plugin type is described: a row of the registry, and its parameters.

Parameters are data, so that the loader checks them, and the reference page is written from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, TypeAlias

from inferway.base import durations
from inferway.scheduling.plugins.base import Plugin

Parameters: TypeAlias = Mapping[str, Any]


class Kind(StrEnum):
    """What a plugin does."""

    SCREENER = "screener"
    ADMITTER = "admitter"
    PRODUCER = "data producer"
    FILTER = "filter"
    SCORER = "scorer"
    PICKER = "picker"
    PROFILE_HANDLER = "profile handler"
    DECIDER = "decider"
    HEADERS = "header handler"
    DETECTOR = "saturation detector"
    FAIRNESS = "fairness policy"
    ORDERING = "ordering policy"
    USAGE_LIMIT = "usage limit policy"
    EVICTION_FILTER = "eviction filter"
    EVICTION_ORDER = "eviction order"
    SOURCE = "data source"
    EXTRACTOR = "extractor"
    DISCOVERY = "discovery"
    PARSER = "parser"


class Stability(StrEnum):
    """Whether a plugin's behaviour may change; alpha ones must be allowed by a flag."""

    ALPHA = "alpha"
    BETA = "beta"


class Signal(StrEnum):
    """What a plugin reads."""

    WAITING = "waiting requests"
    RUNNING = "running requests"
    KV_USE = "KV cache use"
    ADAPTERS = "adapters"
    PROMPT = "prompt"
    PREFIXES = "prefix index of the pool"
    LABELS = "labels"
    OWN = "own accounting"
    RATES = "learned rates"
    HEADERS = "request headers"


class Data(StrEnum):
    """What producers make for other plugins."""

    PREFIX = "prefix match"
    LOAD = "load in flight"
    TOKENS = "prompt tokens"
    LATENCY = "predicted latency"
    MEDIA = "encoder cache match"
    SESSION = "session"
    TOPOLOGY = "topology"


class Need(NamedTuple):
    """Data that a plugin reads. ``by`` is the parameter that names its producer."""

    data: Data
    by: str = ""
    when: Callable[[Parameters], bool] = lambda parameters: True


REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its type, its default, and what else must hold.

    ``fields`` describes what is inside a mapping, ``items`` each entry of a list. ``convert`` makes
    the value that the plugin gets of the one that is written, and raises ValueError. ``unused``
    marks what is accepted for the sake of existing files.
    """

    type: type
    default: Any = None
    check: Callable[[Any], str] = lambda value: ""
    help: str = ""
    fields: Mapping[str, Parameter] | None = None
    items: Parameter | None = None
    convert: Callable[[Any], Any] | None = None
    unused: bool = False


@dataclass(frozen=True, slots=True)
class Making:
    """What a plugin is made of: its name, checked parameters, and the plugins it reads from.

    ``named`` are those of the kind that its parameters may name in their own ways.
    """

    name: str
    parameters: Parameters
    sources: Mapping[Data, Plugin] = field(default_factory=dict)
    named: Mapping[str, Plugin] = field(default_factory=dict)


class Built(Protocol):
    """A class or function that makes a plugin. May raise ValueError with what does not fit."""

    def __call__(self, making: Making) -> Plugin: ...


@dataclass(frozen=True, slots=True)
class PluginType:
    """One row of the registry. ``does`` is a sentence with the formula, for people.

    ``build`` is None for what is no part of a decision: it becomes a setting. ``instead`` names
    what replaces a deprecated type, ``refused`` says why a type can not be had, ``idle`` why it
    does nothing here. ``names`` tells the types of plugins that the parameters may name.
    """

    name: str
    kind: Kind
    build: Built | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    does: str = ""
    signals: Sequence[Signal] = ()
    stability: Stability = Stability.BETA
    also: Sequence[Kind] = ()
    needs: Sequence[Need] = ()
    gives: Data | None = None
    headers: Callable[[Parameters], Sequence[str]] = lambda parameters: ()
    names: Callable[[PluginType], bool] = lambda other: False
    instead: str = ""
    idle: str = ""
    refused: str = ""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All that it does."""
        return (self.kind, *self.also)


def plain(make: Callable[[], Plugin]) -> Built:
    """A plugin without parameters."""

    def build(making: Making) -> Plugin:
        return make()

    return build


def at_least(low: float) -> Callable[[Any], str]:
    """A check for numbers."""
    return lambda value: "" if value >= low else f"must be at least {low:g}"


def above(low: float) -> Callable[[Any], str]:
    """A check for numbers."""
    return lambda value: "" if value > low else f"must be greater than {low:g}"


def between(low: float, high: float) -> Callable[[Any], str]:
    """A check for numbers."""
    return lambda value: "" if low <= value <= high else f"must be from {low:g} to {high:g}"


def one_of(*words: str) -> Callable[[Any], str]:
    """A check for text."""
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def not_empty(value: Any) -> str:
    """A check for text, lists and mappings."""
    return "" if value else "must not be empty"


def named(data: Data) -> Parameter:
    """A parameter that names the producer of some data."""
    return Parameter(str, "", help=f"Which plugin makes the {data.value}; else the default one.")


def duration(text: str, help: str = "", *, unused: bool = False) -> Parameter:
    """A Go duration; the plugin gets seconds."""
    return Parameter(str, text, help=help, convert=seconds, unused=unused)


def seconds(text: str) -> float:
    """Seconds of a Go duration. Raises ValueError."""
    try:
        return durations.parse_go(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a duration such as 200ms or 5m") from None


def section(
    fields: Mapping[str, Parameter], help: str = "", *, optional: bool = False
) -> Parameter:
    """A mapping with known keys; an optional one is None unless it is given."""
    return Parameter(dict, None if optional else {}, fields=fields, help=help)
