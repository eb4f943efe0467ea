"""EndpointPickerConfig -> policy. Takes the decoded document; reading files is the caller's.

Nothing is guessed: an unknown field, type or parameter is a problem with its place and, where
something is near, a suggestion. All problems of a document are told at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inferway.base.errors import UsageError
from inferway.scheduling.decision import Policy
from inferway.scheduling.plugins.base import (
    Filter,
    Kind,
    Parameter,
    Picker,
    Plugin,
    PluginType,
    Scorer,
    Stability,
)
from inferway.scheduling.plugins.cost_scorer import CostScorer
from inferway.scheduling.plugins.registry import LATER
from inferway.scheduling.policy import ENDPOINTS_NAMED_MAX, CostPolicy
from inferway.scheduling.profile import Profile, ProfilePolicy, WeightedScorer

API_VERSIONS = ("inference.networking.x-k8s.io/v1alpha1", "llm-d.ai/v1alpha1")
KIND = "EndpointPickerConfig"
FIELDS = ("apiVersion", "kind", "metadata", "plugins", "schedulingProfiles")
FIELDS_LATER = (
    "featureGates",
    "dataLayer",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
)
DEFAULT_PICKER = "max-score-picker"


@dataclass(slots=True)
class _Reader:
    types: Mapping[str, PluginType]
    allow_alpha: bool
    problems: list[str] = field(default_factory=list)
    plugins: dict[str, tuple[PluginType, Plugin]] = field(default_factory=dict)
    # Whether the profile is the cost scorer alone, which is the default policy.
    is_default: bool = False

    def problem(self, place: str, what: str) -> None:
        self.problems.append(f"{place}: {what}")

    def keys(self, place: str, value: Any, known: Iterable[str]) -> dict[str, Any]:
        """The mapping at a place, its unknown keys reported."""
        if not isinstance(value, dict):
            self.problem(place or "document", "must be a mapping")
            return {}
        known = list(known)
        for key in value:
            if key not in known:
                self.problem(f"{place}.{key}" if place else str(key), _unknown("field", key, known))
        return value

    def items(self, place: str, value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            self.problem(place, "must be a list")
            return []
        return value

    def add_plugin(self, place: str, value: Any) -> None:
        entry = self.keys(place, value, ("name", "type", "parameters"))
        type_name = entry.get("type")
        if not isinstance(type_name, str) or not type_name:
            self.problem(f"{place}.type", "is missing")
            return
        name = entry.get("name") or type_name
        if not isinstance(name, str):
            self.problem(f"{place}.name", "must be text")
            return
        if name in self.plugins:
            self.problem(f"{place}.name", f"{name!r} is used twice")
            return
        found = self.types.get(type_name)
        if found is None:
            self.problem(f"{place}.type", self._unknown_type(type_name))
            return
        if found.stability is Stability.ALPHA and not self.allow_alpha:
            self.problem(
                f"{place}.type", f"{type_name} is alpha; allow it by --allow-experimental-plugins"
            )
            return
        parameters = self._parameters(f"{place}.parameters", found, entry.get("parameters"))
        if parameters is not None:
            self.plugins[name] = (found, found.build(parameters))

    def _unknown_type(self, name: str) -> str:
        if name in LATER:
            return f"{name} is a plugin of other pickers that this version does not have"
        return _unknown("plugin type", name, [*self.types, *LATER])

    def _parameters(self, place: str, found: PluginType, value: Any) -> dict[str, Any] | None:
        given = self.keys(place, {} if value is None else value, found.parameters)
        checked = {}
        before = len(self.problems)
        for name, parameter in found.parameters.items():
            raw = given.get(name)
            if raw is None:
                checked[name] = parameter.default
                continue
            what = _mismatch(parameter, raw)
            if what:
                self.problem(f"{place}.{name}", what)
            checked[name] = float(raw) if parameter.type is float and not what else raw
        unknown = set(given) - set(found.parameters)
        return checked if len(self.problems) == before and not unknown else None

    def profile(self, place: str, value: Any) -> Profile | None:
        entry = self.keys(place, value, ("name", "plugins"))
        name = entry.get("name")
        if not isinstance(name, str) or not name:
            self.problem(f"{place}.name", "is missing")
            return None
        parts = []
        for index, one in enumerate(self.items(f"{place}.plugins", entry.get("plugins"))):
            part = self._part(f"{place}.plugins[{index}]", one)
            if part is not None:
                parts.append(part)
        return self.assemble(place, name, parts)

    def _part(self, place: str, value: Any) -> tuple[str, float] | None:
        entry = self.keys(place, value, ("pluginRef", "weight"))
        ref = entry.get("pluginRef")
        if ref not in self.plugins:
            self.problem(f"{place}.pluginRef", _unknown("plugin", str(ref), self.plugins))
            return None
        weight = entry.get("weight")
        if weight is None:
            return ref, 1.0
        if isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
            self.problem(f"{place}.weight", "must be a number that is not negative")
            return None
        return ref, float(weight)

    def assemble(self, place: str, name: str, parts: list[tuple[str, float]]) -> Profile | None:
        """A profile of plugins by name; the default picker if it has none."""
        filters: list[Filter] = []
        scorers: list[WeightedScorer] = []
        pickers: list[Picker] = []
        for ref, weight in parts:
            plugin = self.plugins[ref][1]
            if isinstance(plugin, Filter):
                filters.append(plugin)
            elif isinstance(plugin, Scorer):
                scorers.append(WeightedScorer(ref, plugin, weight))
            elif isinstance(plugin, Picker):
                pickers.append(plugin)
        if len(pickers) > 1:
            self.problem(place, "has more than one picker")
            return None
        self.is_default = (
            not pickers
            and not filters
            and len(scorers) == 1
            and isinstance(scorers[0].scorer, CostScorer)
        )
        if not pickers:
            # One that nobody configured names endpoints for retries too.
            row = self.types[DEFAULT_PICKER]
            made = row.build({"maxNumOfEndpoints": ENDPOINTS_NAMED_MAX})
            assert isinstance(made, Picker)
            pickers = [made]
        return Profile(name, filters, scorers, pickers[0])


def build(
    document: Any, types: Mapping[str, PluginType], *, allow_alpha: bool = False, about: str = ""
) -> Policy:
    """The policy of a document. Raises UsageError with every problem in it."""
    reader = _Reader(types, allow_alpha)
    policy = _read(reader, document)
    if reader.problems or policy is None:
        raise UsageError(
            "INFERWAY0406",
            "the scheduling configuration is not usable:\n  " + "\n  ".join(reader.problems),
            about=about,
            fix="Correct the places named above.",
        )
    return policy


def _read(reader: _Reader, document: Any) -> Policy | None:
    root = reader.keys("", document, (*FIELDS, *FIELDS_LATER))
    if not root:
        if not reader.problems:
            reader.problem("document", "is empty")
        return None
    for name in FIELDS_LATER:
        if name in root:
            reader.problem(name, "is a field of other pickers that this version does not have")
    if root.get("apiVersion") not in API_VERSIONS:
        reader.problem("apiVersion", f"must be one of {', '.join(API_VERSIONS)}")
    if root.get("kind") != KIND:
        reader.problem("kind", f"must be {KIND}")
    for index, entry in enumerate(reader.items("plugins", root.get("plugins"))):
        reader.add_plugin(f"plugins[{index}]", entry)
    handlers = [n for n, (t, _) in reader.plugins.items() if t.kind is Kind.PROFILE_HANDLER]
    if len(handlers) > 1:
        reader.problem("plugins", f"only one profile handler may be given, not {handlers}")
    entries = reader.items("schedulingProfiles", root.get("schedulingProfiles"))
    if len(entries) > 1:
        reader.problem("schedulingProfiles", "single-profile-handler takes exactly one profile")
    if not entries:
        parts = [(name, 1.0) for name in reader.plugins]
        profile = reader.assemble("plugins", "default", parts)
    else:
        profile = reader.profile("schedulingProfiles[0]", entries[0])
    if profile is None:
        return None
    return CostPolicy() if reader.is_default else ProfilePolicy(profile)


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {what} {name!r}{hint}"


def _mismatch(parameter: Parameter, value: Any) -> str:
    wanted: tuple[type, ...] = (parameter.type,)
    if parameter.type is float:
        wanted = (int, float)
    if not isinstance(value, wanted) or (isinstance(value, bool) and parameter.type is not bool):
        return f"must be {_WORDS[parameter.type]}, not {value!r}"
    return parameter.check(value)


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a mapping",
    list: "a list",
}
