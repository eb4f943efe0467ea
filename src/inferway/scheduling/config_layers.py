"""``dataLayer``, ``requestHandler`` and their older forms in a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inferway.scheduling.config_plugins import Plugins
from inferway.scheduling.config_reader import Reader, unknown
from inferway.scheduling.plugins.types import Kind
from inferway.scheduling.settings import DataSettings, Setting

# Claims every path, so that parsers listed behind it are never asked.
PASSTHROUGH = "passthrough-parser"


def read(
    reader: Reader, plugins: Plugins, root: Mapping[str, Any], settings: Mapping[str, Setting]
) -> DataSettings:
    """``dataLayer``, its older form ``data``, ``requestHandler`` and its older form ``parser``."""
    layer = reader.keys(
        "dataLayer",
        root.get("dataLayer"),
        (
            "injectDefaults",
            "sources",
            "discovery",
            "peerDiscovery",
            "crossReplicaSyncerPluginRef",
            "crossReplicaSyncInterval",
        ),
    )
    older = reader.keys("data", root.get("data"), ("sources",))
    for name, part in (("dataLayer", layer), ("data", older)):
        for index, one in enumerate(reader.items(f"{name}.sources", part.get("sources"))):
            place = f"{name}.sources[{index}]"
            source = reader.keys(place, one, ("pluginRef", "extractors"))
            _plugin_ref(reader, plugins, place, source)
            for number, extractor in enumerate(
                reader.items(f"{place}.extractors", source.get("extractors"))
            ):
                where = f"{place}.extractors[{number}]"
                _plugin_ref(reader, plugins, where, reader.keys(where, extractor, ("pluginRef",)))
    for name in ("peerDiscovery", "crossReplicaSyncerPluginRef", "crossReplicaSyncInterval"):
        if layer.get(name) is not None:
            reader.note(
                f"dataLayer.{name}", "has no effect: replicas find each other by themselves"
            )
    discovery = None
    if layer.get("discovery") is not None:
        place = "dataLayer.discovery"
        entry = reader.keys(place, layer["discovery"], ("pluginRef", "endpoints"))
        if entry.get("endpoints") is not None:
            # The newest files have the reference one level down.
            place = f"{place}.endpoints"
            entry = reader.keys(place, entry["endpoints"], ("pluginRef",))
        discovery = settings.get(_plugin_ref(reader, plugins, place, entry))
    parsers = _parsers(reader, plugins, root)
    by_type = {setting.type: setting for setting in settings.values()}
    return DataSettings(
        by_type.get("metrics-data-source"),
        by_type.get("core-metrics-extractor"),
        discovery,
        parsers,
    )


def _parsers(reader: Reader, plugins: Plugins, root: Mapping[str, Any]) -> tuple[str, ...]:
    """Types of the parsers that are listed; what follows the one that passes all is never asked."""
    handler = reader.keys("requestHandler", root.get("requestHandler"), ("parsers", "parser"))
    refs = [
        (f"requestHandler.parsers[{index}]", one)
        for index, one in enumerate(reader.items("requestHandler.parsers", handler.get("parsers")))
    ]
    refs += [
        (place, value)
        for place, value in (
            ("requestHandler.parser", handler.get("parser")),
            ("parser", root.get("parser")),
        )
        if value is not None
    ]
    found = []
    for place, value in refs:
        entry = reader.keys(place, value, ("pluginRef",))
        ref = _plugin_ref(reader, plugins, place, entry, Kind.PARSER)
        configured = plugins.entries.get(ref)
        found.append(configured.row.name if configured else ref)
    last = found.index(PASSTHROUGH) + 1 if PASSTHROUGH in found else len(found)
    return tuple(found[:last])


def _plugin_ref(
    reader: Reader,
    plugins: Plugins,
    place: str,
    entry: Mapping[str, Any],
    kind: Kind | None = None,
) -> str:
    """A reference to a configured plugin; parsers may be named by their type alone."""
    ref = reader.text(f"{place}.pluginRef", entry.get("pluginRef"))
    if not ref:
        return ""
    found = plugins.entries.get(ref)
    row = found.row if found else plugins.types_of(kind).get(ref)
    if row is None:
        known = [*plugins.entries, *plugins.types_of(kind)]
        reader.problem(f"{place}.pluginRef", unknown("plugin", ref, known))
    elif kind is not None and kind not in row.kinds:
        reader.problem(f"{place}.pluginRef", f"{ref!r} is a {row.kind}, not a {kind}")
    elif found is None and row.refused:
        reader.problem(f"{place}.pluginRef", f"{ref} {row.refused}")
    return ref
