"""EndpointPickerConfig -> policy and settings. Takes the decoded document; others read the file.

Nothing is guessed: an unknown field, type or parameter is a problem with its place and, where
something is near, a suggestion. All problems of a document are told at once. What a document leaves
out is filled in as the published pickers do: picker, profile handler, profile, weights, producers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from inferway.base.errors import UsageError
from inferway.scheduling import config_flow, config_layers
from inferway.scheduling.config_plugins import Plugins
from inferway.scheduling.config_reader import Places, Reader, unknown
from inferway.scheduling.decision import Policy
from inferway.scheduling.plugins.base import (
    Admitter,
    Filter,
    Picker,
    PrefixProducer,
    Scorer,
    Screener,
)
from inferway.scheduling.plugins.cost_scorer import CostScorer
from inferway.scheduling.plugins.types import Kind, Making, PluginType, Signal
from inferway.scheduling.policy import ENDPOINTS_NAMED_MAX, CostPolicy
from inferway.scheduling.profile import (
    Parts,
    Profile,
    ProfileHandler,
    ProfilePolicy,
    WeightedScorer,
)
from inferway.scheduling.settings import DataSettings, FlowSettings

OLD_GROUP = "inference.networking.x-k8s.io/v1alpha1"
API_VERSIONS = (OLD_GROUP, "llm-d.ai/v1alpha1")
KIND = "EndpointPickerConfig"
FIELDS = (
    "apiVersion",
    "kind",
    "metadata",
    "featureGates",
    "plugins",
    "schedulingProfiles",
    "dataLayer",
    "data",
    "flowControl",
    "requestHandler",
    "saturationDetector",
    "parser",
)
# Those of the published pickers; what is not flow control goes without saying here.
GATES = (
    config_flow.GATE,
    "haPopulateNonLeaderDatastore",
    "enableLegacyMetrics",
    "dataLayer",
    "prepareDataPlugins",
)
DEFAULT_PICKER = "max-score-picker"
DEFAULT_HANDLER = "single-profile-handler"
PROFILE_KINDS = frozenset({Kind.FILTER, Kind.SCORER, Kind.PICKER})
# Kinds that act on every request by being configured.
ALWAYS_KINDS = frozenset({Kind.SCREENER, Kind.ADMITTER, Kind.HEADERS})


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a document says. ``notes`` are for the log: deprecated things, things without effect."""

    policy: Policy
    flow: FlowSettings
    data: DataSettings
    notes: Sequence[str] = ()


class _Part(NamedTuple):
    """One plugin of a profile."""

    name: str
    weight: float


class _Loader:
    """The profiles of one document, and the policy of them."""

    def __init__(self, reader: Reader, plugins: Plugins) -> None:
        self._reader = reader
        self._plugins = plugins

    # -- profiles --------------------------------------------------------------------------

    def profiles(self, value: Any) -> dict[str, list[_Part]]:
        """Parts by name of the profile; without profiles one of all plugins."""
        found: dict[str, list[_Part]] = {}
        for index, one in enumerate(self._reader.items("schedulingProfiles", value)):
            place = f"schedulingProfiles[{index}]"
            entry = self._reader.keys(place, one, ("name", "plugins"))
            name = self._reader.text(f"{place}.name", entry.get("name"))
            if name in found:
                self._reader.problem(f"{place}.name", f"{name!r} is used twice")
            parts = [
                self._part(f"{place}.plugins[{number}]", part)
                for number, part in enumerate(
                    self._reader.items(f"{place}.plugins", entry.get("plugins"))
                )
            ]
            found[name] = [part for part in parts if part is not None]
            self._one_picker(place, found[name])
        if not found:
            found["default"] = [
                _Part(name, 1.0)
                for name, one in self._plugins.entries.items()
                # Detectors are for profiles that name them.
                if one.row.kind in PROFILE_KINDS
            ]
            self._one_picker("plugins", found["default"])
        return found

    def _one_picker(self, place: str, parts: Sequence[_Part]) -> None:
        pickers = [p.name for p in parts if self._plugins.entries[p.name].row.kind is Kind.PICKER]
        if len(pickers) > 1:
            self._reader.problem(place, f"has more than one picker: {', '.join(pickers)}")

    def _part(self, place: str, value: Any) -> _Part | None:
        entry = self._reader.keys(place, value, ("pluginRef", "weight"))
        weight = entry.get("weight")
        if weight is None:
            weight = 1.0
        elif isinstance(weight, bool) or not isinstance(weight, int | float) or weight < 0:
            self._reader.problem(f"{place}.weight", "must be a number that is not negative")
        ref = self._reader.text(f"{place}.pluginRef", entry.get("pluginRef"))
        if not ref:
            return None
        if ref not in self._plugins.entries:
            what = unknown("plugin", ref, self._plugins.entries)
            self._reader.problem(f"{place}.pluginRef", what)
            return None
        kinds = self._plugins.entries[ref].row.kinds
        if not PROFILE_KINDS.intersection(kinds):
            self._reader.note(f"{place}.pluginRef", f"a {kinds[0]} does nothing in a profile")
        return _Part(ref, weight)

    def profile(self, name: str, parts: Sequence[_Part], *, primary: bool) -> Profile | None:
        """Plugins in their order, weights as given; a picker if there is none."""
        filters: list[Filter] = []
        scorers: list[WeightedScorer] = []
        picker: Picker | None = None
        for part in parts:
            plugin = self._plugins.make(part.name)
            if isinstance(plugin, Filter):
                filters.append(plugin)
            if isinstance(plugin, Scorer):
                scorers.append(WeightedScorer(part.name, plugin, part.weight))
            if isinstance(plugin, Picker):
                picker = plugin
        if picker is None:
            picker = self._default_picker(primary=primary)
        return None if picker is None else Profile(name, filters, scorers, picker)

    def _default_picker(self, *, primary: bool) -> Picker | None:
        """The first one that is configured; else one that names endpoints for retries too."""
        for name, entry in self._plugins.entries.items():
            if entry.row.kind is Kind.PICKER:
                made = self._plugins.make(name)
                return made if isinstance(made, Picker) else None
        row = self._plugins.types[DEFAULT_PICKER]
        count = ENDPOINTS_NAMED_MAX if primary else 1
        assert row.build is not None
        made = row.build(Making(DEFAULT_PICKER, {"maxNumOfEndpoints": count}))
        return made if isinstance(made, Picker) else None

    def handler(self, profiles: Sequence[str]) -> tuple[str, ProfileHandler] | None:
        """The configured profile handler, the single one without."""
        names = [n for n, e in self._plugins.entries.items() if e.row.kind is Kind.PROFILE_HANDLER]
        if len(names) > 1:
            self._reader.problem(
                "plugins", f"has more than one profile handler: {', '.join(names)}"
            )
            return None
        name = names[0] if names else self._plugins.imply(DEFAULT_HANDLER).name
        made = self._plugins.make(name)
        if not isinstance(made, ProfileHandler):
            return None
        what = made.check(profiles)
        if what:
            self._reader.problem("schedulingProfiles", what)
        return name, made

    # -- the policy ------------------------------------------------------------------------

    def policy(self, root: Mapping[str, Any]) -> Policy | None:
        """The policy; None if something is wrong."""
        named = self.profiles(root.get("schedulingProfiles"))
        found = self.handler(list(named))
        for name in list(self._plugins.entries):
            self._plugins.make(name)
        if found is None:
            return None
        handler_name, handler = found
        primaries = handler.primary(list(named))
        made = {
            name: self.profile(name, parts, primary=name in primaries)
            for name, parts in named.items()
        }
        if self._reader.problems or None in made.values():
            return None
        profiles = {name: profile for name, profile in made.items() if profile is not None}
        if _is_default(profiles, named):
            return CostPolicy()
        used = self._used(handler_name, named)
        return ProfilePolicy(self._parts(profiles, handler_name, used))

    def _used(self, handler: str, named: Mapping[str, Sequence[_Part]]) -> list[str]:
        """Names of the plugins that take part in decisions, with all that they read from."""
        wanted = [handler, *(part.name for parts in named.values() for part in parts)]
        wanted += [
            name
            for name, entry in self._plugins.entries.items()
            if entry.row.kind in ALWAYS_KINDS
            or (entry.row.kind is Kind.PRODUCER and entry.row.gives is None)
        ]
        found: dict[str, None] = {}
        while wanted:
            name = wanted.pop(0)
            if name not in found and name in self._plugins.made:
                found[name] = None
                wanted += self._plugins.sources[name]
        return list(found)

    def _parts(
        self, profiles: Mapping[str, Profile], handler_name: str, used: Sequence[str]
    ) -> Parts:
        handler = self._plugins.made[handler_name]
        assert isinstance(handler, ProfileHandler)
        plugins = [self._plugins.made[name] for name in used]
        rows = [self._plugins.entries[name] for name in used]
        headers = {h.lower() for entry in rows for h in entry.row.headers(entry.values)}
        prefixes = [plugin for plugin in plugins if isinstance(plugin, PrefixProducer)]
        return Parts(
            profiles,
            handler,
            plugins,
            used,
            self._plugins.entries[handler_name].row.name,
            [plugin for plugin in plugins if isinstance(plugin, Screener)],
            [plugin for plugin in plugins if isinstance(plugin, Admitter)],
            frozenset(headers),
            prefixes[0] if prefixes else None,
            reads_prefixes=any(Signal.PREFIXES in entry.row.signals for entry in rows),
        )


def load(
    document: Any,
    types: Mapping[str, PluginType],
    *,
    allow_alpha: bool = False,
    about: str = "",
    places: Places | None = None,
) -> Loaded:
    """What a document says. ``places`` tells where its parts stand, so that messages can say so.

    Raises UsageError with every problem in it.
    """
    reader = Reader(places or {})
    loaded = _load(reader, document, types, allow_alpha=allow_alpha)
    if reader.problems or loaded is None:
        raise UsageError(
            "INFERWAY0406",
            "the scheduling configuration is not usable:\n  " + "\n  ".join(reader.problems),
            about=about,
            fix="Correct the places named above.",
        )
    return loaded


def _load(
    reader: Reader, document: Any, types: Mapping[str, PluginType], *, allow_alpha: bool
) -> Loaded | None:
    root = reader.keys("", document, FIELDS)
    if not root:
        if not reader.problems:
            reader.problem("", "is empty")
        return None
    if root.get("apiVersion") not in API_VERSIONS:
        reader.problem("apiVersion", f"must be one of {', '.join(API_VERSIONS)}")
    if root.get("kind") != KIND:
        reader.problem("kind", f"must be {KIND}")
    gate = _gates(reader, root.get("featureGates"))
    old = root.get("apiVersion") == OLD_GROUP
    plugins = Plugins(reader, types, allow_alpha=allow_alpha, old=old)
    for index, entry in enumerate(reader.items("plugins", root.get("plugins"))):
        plugins.add(f"plugins[{index}]", entry)
    settings = plugins.settings()
    flow = config_flow.read(reader, config_flow.Known(settings, types), root, gate)
    data = config_layers.read(reader, plugins, root, settings)
    policy = _Loader(reader, plugins).policy(root)
    return None if policy is None else Loaded(policy, flow, data, tuple(reader.notes))


def _gates(reader: Reader, value: Any) -> bool | None:
    """What the gates say of flow control."""
    flow = None
    for index, one in enumerate(reader.items("featureGates", value)):
        place = f"featureGates[{index}]"
        name, equals, word = str(one).partition("=")
        if name not in GATES:
            reader.problem(place, unknown("feature gate", name, GATES))
        elif equals and word not in {"true", "false"}:
            reader.problem(place, "must be a name, name=true or name=false")
        elif name == config_flow.GATE:
            flow = word != "false"
    return flow


def _is_default(profiles: Mapping[str, Profile], named: Mapping[str, Sequence[_Part]]) -> bool:
    """Whether there is the cost scorer and nothing else, which is the default policy."""
    if len(profiles) != 1:
        return False
    ((name, profile),) = profiles.items()
    scorers = profile.scorers
    return len(named[name]) == 1 and len(scorers) == 1 and isinstance(scorers[0].scorer, CostScorer)
