"""``plugins`` of a configuration: what is configured, what is implied by it, and made of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferway.scheduling.config_reader import Reader, unknown
from inferway.scheduling.plugins.base import Plugin
from inferway.scheduling.plugins.registry import DEFAULT_PRODUCERS
from inferway.scheduling.plugins.types import (
    Data,
    Kind,
    Making,
    Parameters,
    PluginType,
    Stability,
)
from inferway.scheduling.settings import Setting

# What the first published pickers, which know the older group only, take for a prefix index.
OLD_PREFIX_INDEX = {"blockSize": 64, "maxPrefixTokensToMatch": 0, "maxPrefixBlocksToMatch": 256}


class Entry(NamedTuple):
    """One configured or implied plugin."""

    name: str
    place: str
    row: PluginType
    values: Parameters
    # Whether it can be made of its values.
    sound: bool = True


class Plugins:
    """The plugins of one document by name."""

    def __init__(
        self, reader: Reader, types: Mapping[str, PluginType], *, allow_alpha: bool, old: bool
    ) -> None:
        self.reader = reader
        self.types = types
        self._allow_alpha = allow_alpha
        self._old = old
        self.entries: dict[str, Entry] = {}
        self.made: dict[str, Plugin] = {}
        self.sources: dict[str, list[str]] = {}

    def add(self, place: str, value: Any) -> None:
        """One entry of ``plugins``."""
        reader = self.reader
        entry = reader.keys(place, value, ("name", "type", "parameters"))
        if not isinstance(value, dict):
            return
        type_name = reader.text(f"{place}.type", entry.get("type"))
        name = entry.get("name") or type_name
        row = self.types.get(type_name)
        if not type_name:
            return
        if row is None:
            reader.problem(f"{place}.type", unknown("plugin type", type_name, self.types))
            return
        if not isinstance(name, str):
            reader.problem(f"{place}.name", "must be text")
            return
        if name in self.entries:
            reader.problem(f"{place}.name", f"{name!r} is used twice")
            return
        before = reader.count
        if row.refused:
            reader.problem(f"{place}.type", f"{type_name} {row.refused}")
        elif row.stability is Stability.ALPHA and not self._allow_alpha:
            reader.problem(
                f"{place}.type", f"{type_name} is alpha; allow it by --allow-experimental-plugins"
            )
        elif row.instead:
            reader.note(f"{place}.type", f"{type_name} is deprecated; {row.instead} is newer")
        if row.idle:
            reader.note(f"{place}.type", f"{type_name} has no effect: {row.idle}")
        where = f"{place}.parameters"
        values = (
            {} if row.refused else reader.values(where, row.parameters, entry.get("parameters"))
        )
        self.entries[name] = Entry(name, place, row, values, reader.count == before)

    def imply(self, type_name: str, given: Parameters | None = None) -> Entry:
        """A plugin that is not configured, with its defaults, under the name of its type."""
        found = self.entries.get(type_name)
        if found is None:
            row = self.types[type_name]
            values = {**self.reader.values("", row.parameters, {}), **(given or {})}
            found = self.entries[type_name] = Entry(type_name, "", row, values)
        return found

    def make(self, name: str) -> Plugin | None:
        """The plugin of an entry and those it reads from; None if it can not be made."""
        if name in self.made:
            return self.made[name]
        entry = self.entries[name]
        if entry.row.build is None or not entry.sound:
            return None
        sources: dict[Data, Plugin] = {}
        used: list[str] = []
        for need in entry.row.needs:
            if need.when(entry.values):
                producer = self._producer(entry, need.data, need.by)
                made = self.make(producer) if producer else None
                if made is None:
                    return None
                sources[need.data] = made
                used.append(producer)
        named = self._named(entry)
        try:
            plugin = entry.row.build(Making(name, entry.values, sources, named))
        except ValueError as error:
            self.reader.misfit(f"{entry.place}.parameters", error)
            return None
        self.made[name] = plugin
        self.sources[name] = [*used, *named]
        return plugin

    def _producer(self, entry: Entry, data: Data, parameter: str) -> str:
        """The name of the plugin that makes the data for an entry."""
        name: str = entry.values.get(parameter) or DEFAULT_PRODUCERS[data]
        if name not in self.entries and name == DEFAULT_PRODUCERS[data]:
            given = OLD_PREFIX_INDEX if self._old and data is Data.PREFIX else None
            self.imply(name, given)
        found = self.entries.get(name)
        if found is not None and found.row.gives is data:
            return name
        place = f"{entry.place}.parameters.{parameter}"
        if found is None:
            makers = [one.name for one in self.entries.values() if one.row.gives is data]
            self.reader.problem(place, unknown("plugin", name, makers))
        else:
            self.reader.problem(place, f"{name!r} does not make the {data.value}")
        return ""

    def _named(self, entry: Entry) -> dict[str, Plugin]:
        """The plugins that the entry's parameters may name."""
        names = [name for name, one in self.entries.items() if entry.row.names(one.row)]
        made = ((name, self.make(name)) for name in names)
        return {name: plugin for name, plugin in made if plugin is not None}

    def settings(self) -> dict[str, Setting]:
        """What is configured for other parts, by name."""
        return {
            name: Setting(entry.row.name, name, entry.values)
            for name, entry in self.entries.items()
            if entry.row.build is None or entry.row.kind is Kind.DETECTOR
        }

    def types_of(self, kind: Kind | None) -> dict[str, PluginType]:
        """Types of a kind, where they may be named without being configured."""
        return {name: row for name, row in self.types.items() if row.kind is kind}
