"""The scheduling configuration from a flag: text or a file, YAML or JSON; none is the default."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferway.base.errors import UsageError
from inferway.picker import flags
from inferway.picker.config_text import ConfigTextError, parse
from inferway.picker.flags import Options
from inferway.scheduling.config import Loaded, load
from inferway.scheduling.decision import Policy
from inferway.scheduling.flow.configured import options_of
from inferway.scheduling.flow.options import FlowOptions
from inferway.scheduling.plugins.registry import plugin_types
from inferway.scheduling.policy import CostPolicy

_log = logging.getLogger(__name__)

FILE_DISCOVERY = "file-discovery"
# A configuration is a page of text.
CONFIG_BYTES_MAX = 1024 * 1024


def policy(options: Options) -> Policy:
    """Raises UsageError."""
    loaded = configuration(options)
    return CostPolicy() if loaded is None else loaded.policy


def parsers(options: Options) -> tuple[str, ...]:
    """Types of the parsers that the configuration lists; none: any. Raises UsageError."""
    loaded = configuration(options)
    return () if loaded is None else loaded.data.parsers


def flow(options: Options) -> FlowOptions:
    """How requests wait. Raises UsageError."""
    loaded = configuration(options)
    return FlowOptions() if loaded is None else options_of(loaded.flow)


def log_notes(options: Options) -> None:
    """Deprecated things of the configuration, and things without effect. Raises UsageError."""
    loaded = configuration(options)
    if loaded is not None and loaded.notes:
        _log.warning("scheduling configuration", extra={"data": {"notes": list(loaded.notes)}})


def configuration(options: Options) -> Loaded | None:
    """What the configuration says, None without one. Raises UsageError."""
    place, document, places = _document(options)
    if document is None:
        return None
    if options.saturation and isinstance(document, dict) and _names_no_detector(document):
        document = {**document, "saturationDetector": dict(options.saturation)}
    return load(
        document,
        plugin_types(),
        allow_alpha=options.flag("allow-experimental-plugins"),
        about=place,
        places=places,
    )


def _names_no_detector(document: Mapping[str, Any]) -> bool:
    flow_control = document.get("flowControl")
    inner = isinstance(flow_control, dict) and "saturationDetector" in flow_control
    return not inner and "saturationDetector" not in document


def with_discovery(options: Options, env: Mapping[str, str]) -> Options:
    """The options with the file of servers that the configuration names. Raises UsageError."""
    place, document, _ = _document(options)
    found = _file_discovery(document)
    if found is not None:
        return flags.with_file(options, found, env, place)
    if not options.pools:
        raise flags.missing_pool()
    return options


def _file_discovery(document: Any) -> tuple[str, bool] | None:
    """Path, and whether to watch it. What has another form is ``load``'s to refuse."""
    if not isinstance(document, dict):
        return None
    layer = document.get("dataLayer")
    discovery = layer.get("discovery") if isinstance(layer, dict) else None
    if not isinstance(discovery, dict):
        return None
    # llm-d moved the reference one level down.
    inner = discovery.get("endpoints")
    ref = inner.get("pluginRef") if isinstance(inner, dict) else discovery.get("pluginRef")
    for plugin in document.get("plugins") or ():
        if isinstance(plugin, dict) and ref in (plugin.get("name"), plugin.get("type")):
            given = plugin.get("parameters")
            if plugin.get("type") == FILE_DISCOVERY and isinstance(given, dict):
                return str(given.get("path", "")), given.get("watchFile") is True
    return None


def _document(options: Options) -> tuple[str, Any, dict[str, tuple[int, int]]]:
    """Where it stands, the decoded configuration (None without one), and where its parts stand."""
    place, text = "--config-text", options.text("config-text")
    if options.text("config-file"):
        place = options.text("config-file")
        text = _read(place)
    try:
        return place, *parse(text)
    except ConfigTextError as error:
        raise UsageError(
            "INFERWAY0407", f"it is not YAML: {error}", about=place, fix="Mend the text."
        ) from None


def _read(path: str) -> str:
    try:
        data = Path(path).read_bytes()
        if len(data) > CONFIG_BYTES_MAX:
            raise UsageError("INFERWAY0407", "it is too large", about=path, fix="Shorten it.")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "INFERWAY0407",
            f"it can not be read: {error}",
            about=path,
            fix="Give a readable file, or leave --config-file out for the default policy.",
        ) from None
