"""``flowControl`` and the deprecated ``saturationDetector`` of a configuration -> settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from inferway.base import quantities
from inferway.scheduling.config_reader import Reader, unknown
from inferway.scheduling.plugins.types import Kind, PluginType, seconds
from inferway.scheduling.settings import (
    BAND_BYTES_MAX,
    BAND_REQUESTS_MAX,
    REQUEST_TTL_SECONDS,
    BandSettings,
    FlowSettings,
    Setting,
)

GATE = "flowControl"
FAIRNESS = "global-strict-fairness-policy"
ORDERING = "fcfs-ordering-policy"
USAGE_LIMIT = "static-usage-limit-policy"
DETECTOR = "utilization-detector"
EVICTION_FILTER = "sheddable-eviction-filter"
EVICTION_ORDER = "priority-then-time-eviction-order-policy"

FIELDS = (
    "maxBytes",
    "maxRequests",
    "defaultRequestTTL",
    "noEndpointRequestTTL",
    "priorityBands",
    "defaultPriorityBand",
    "defaultNegativePriorityBand",
    "usageLimitPolicyPluginRef",
    "saturationDetector",
    "enableEviction",
)
BAND_FIELDS = (
    "priority",
    "maxBytes",
    "maxRequests",
    "fairnessPolicyRef",
    "orderingPolicyRef",
    "defaultRequestTTL",
)
# Of the deprecated form at the top level, before detectors were plugins.
DETECTOR_FIELDS = ("queueDepthThreshold", "kvCacheUtilThreshold", "metricsStalenessThreshold")


class Known(NamedTuple):
    """The configured plugins that are no part of a decision, and all types."""

    settings: Mapping[str, Setting]
    types: Mapping[str, PluginType]


def read(reader: Reader, known: Known, root: Mapping[str, Any], gate: bool | None) -> FlowSettings:
    """The settings; with problems found they are of no use."""
    place = "flowControl"
    flow = reader.keys(place, root.get(place), FIELDS)
    default = _band(
        reader, known, f"{place}.defaultPriorityBand", flow.get("defaultPriorityBand"), None
    )
    negative = default
    if flow.get("defaultNegativePriorityBand") is not None:
        where = f"{place}.defaultNegativePriorityBand"
        negative = _band(reader, known, where, flow["defaultNegativePriorityBand"], None)
    bands = [
        _band(reader, known, f"{place}.priorityBands[{index}]", one, 0)
        for index, one in enumerate(
            reader.items(f"{place}.priorityBands", flow.get("priorityBands"))
        )
    ]
    for index, band in enumerate(bands):
        if band.priority in {other.priority for other in bands[:index]}:
            reader.problem(f"{place}.priorityBands[{index}].priority", "is given twice")
    ttl = _ttl(reader, f"{place}.defaultRequestTTL", flow.get("defaultRequestTTL"))
    empty = _ttl(reader, f"{place}.noEndpointRequestTTL", flow.get("noEndpointRequestTTL"))
    ttl = REQUEST_TTL_SECONDS if ttl is None else ttl
    eviction = flow.get("enableEviction", False)
    if not isinstance(eviction, bool):
        reader.problem(f"{place}.enableEviction", "must be true or false")
    return FlowSettings(
        gate,
        bands,
        default,
        negative,
        _ref(
            reader,
            known,
            f"{place}.usageLimitPolicyPluginRef",
            flow.get("usageLimitPolicyPluginRef"),
            (Kind.USAGE_LIMIT, USAGE_LIMIT),
        ),
        _detector(reader, known, root, flow),
        max_bytes=_amount(reader, f"{place}.maxBytes", flow.get("maxBytes"), 0),
        max_requests=_amount(reader, f"{place}.maxRequests", flow.get("maxRequests"), 0),
        request_ttl_seconds=ttl,
        no_endpoint_ttl_seconds=ttl if empty is None else empty,
        given=any(root.get(name) is not None for name in (place, "saturationDetector")),
        eviction=bool(eviction),
        eviction_filter=_given(known, Kind.EVICTION_FILTER, EVICTION_FILTER),
        eviction_order=_given(known, Kind.EVICTION_ORDER, EVICTION_ORDER),
    )


def _band(
    reader: Reader, known: Known, place: str, value: Any, priority: int | None
) -> BandSettings:
    """One band; ``priority`` None: it is a template."""
    band = reader.keys(place, value, BAND_FIELDS)
    number = band.get("priority", 0)
    if isinstance(number, bool) or not isinstance(number, int):
        reader.problem(f"{place}.priority", "must be a whole number")
    elif priority is not None and "priority" not in band:
        reader.problem(f"{place}.priority", "is missing")
    fairness = (Kind.FAIRNESS, FAIRNESS)
    ordering = (Kind.ORDERING, ORDERING)
    return BandSettings(
        number if isinstance(number, int) else 0,
        _ref(reader, known, f"{place}.fairnessPolicyRef", band.get("fairnessPolicyRef"), fairness),
        _ref(reader, known, f"{place}.orderingPolicyRef", band.get("orderingPolicyRef"), ordering),
        _amount(reader, f"{place}.maxBytes", band.get("maxBytes"), BAND_BYTES_MAX),
        _amount(reader, f"{place}.maxRequests", band.get("maxRequests"), BAND_REQUESTS_MAX),
        _ttl(reader, f"{place}.defaultRequestTTL", band.get("defaultRequestTTL")),
    )


def _detector(
    reader: Reader, known: Known, root: Mapping[str, Any], flow: Mapping[str, Any]
) -> Setting:
    """The newest of the forms that are given."""
    kind = (Kind.DETECTOR, DETECTOR)
    place = "flowControl.saturationDetector"
    newest = reader.keys(place, flow.get("saturationDetector"), ("pluginRef",))
    old = reader.keys(
        "saturationDetector", root.get("saturationDetector"), ("pluginRef", *DETECTOR_FIELDS)
    )
    if root.get("saturationDetector") is not None:
        reader.note("saturationDetector", "is deprecated; flowControl.saturationDetector is newer")
    if newest.get("pluginRef"):
        return _ref(reader, known, f"{place}.pluginRef", newest["pluginRef"], kind)
    thresholds = {name: old[name] for name in DETECTOR_FIELDS if name in old}
    if not thresholds:
        return _ref(reader, known, "saturationDetector.pluginRef", old.get("pluginRef"), kind)
    values = reader.values("saturationDetector", known.types[DETECTOR].parameters, thresholds)
    return Setting(DETECTOR, DETECTOR, values)


def _ref(reader: Reader, known: Known, place: str, name: Any, wanted: tuple[Kind, str]) -> Setting:
    """The plugin that is referred to; the default type of its kind without a reference."""
    kind, default = wanted
    name = default if name in (None, "") else name
    found = known.settings.get(name) if isinstance(name, str) else None
    if found is not None and kind in known.types[found.type].kinds:
        return found
    if found is not None:
        reader.problem(place, f"{name!r} is a {known.types[found.type].kind}, not a {kind}")
    elif name != default:
        reader.problem(place, unknown("plugin", str(name), known.settings))
    return Setting(default, default, reader.values(place, known.types[default].parameters, {}))


def _given(known: Known, kind: Kind, default: str) -> Setting:
    """The configured plugin of a kind, else the default one."""
    for setting in known.settings.values():
        if known.types[setting.type].kind is kind:
            return setting
    return Setting(default, default, {})


def _ttl(reader: Reader, place: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        return seconds(value if isinstance(value, str) else "not a duration")
    except ValueError:
        reader.problem(place, f"{value!r} is not a duration such as 60s")
        return None


def _amount(reader: Reader, place: str, value: Any, default: int) -> int:
    """A Kubernetes quantity; 0 and nothing are the default."""
    if value is None:
        return default
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = int(quantities.parse(value))
        if number < 0:
            raise ValueError
    except ValueError:
        reader.problem(place, f"{value!r} is not a quantity such as 5000 or 1Gi")
        return default
    return number or default
