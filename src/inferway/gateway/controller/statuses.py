"""Statuses as they are written: with times, and beside the entries of other controllers.

Pure. A condition keeps its lastTransitionTime unless its status changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inferway.api.codec import Object
from inferway.base.clock import rfc3339
from inferway.gateway.translate.snapshot import CONTROLLER_NAME


def stamped(wanted: Object, current: Mapping[str, Any], now: float) -> Object:
    """``wanted`` with the times of ``current`` where nothing changed, else ``now``.

    Conditions are found at the top, and in entries of ``listeners`` by name.
    """
    result = dict(wanted)
    if "conditions" in wanted:
        result["conditions"] = _conditions(
            wanted["conditions"], current.get("conditions") or (), now
        )
    if "listeners" in wanted:
        before = {item.get("name"): item for item in current.get("listeners") or ()}
        result["listeners"] = [
            stamped(item, before.get(item["name"]) or {}, now) for item in wanted["listeners"]
        ]
    return result


def merged_parents(
    ours: list[Object], current: Iterable[Mapping[str, Any]], now: float
) -> list[Object]:
    """All entries of ``status.parents``: those of others as they are, then ours."""
    known = list(current)
    foreign = [dict(item) for item in known if item.get("controllerName") != CONTROLLER_NAME]
    result = []
    for entry in ours:
        before = next(
            (
                item
                for item in known
                if item.get("controllerName") == CONTROLLER_NAME
                and item.get("parentRef") == entry["parentRef"]
            ),
            {},
        )
        result.append(stamped(entry, before, now))
    return foreign + result


def _conditions(
    wanted: Iterable[Object], current: Iterable[Mapping[str, Any]], now: float
) -> list[Object]:
    before = {item.get("type"): item for item in current}
    result = []
    for item in wanted:
        old = before.get(item["type"])
        same = old is not None and old.get("status") == item["status"]
        time = old.get("lastTransitionTime") if old is not None and same else None
        result.append({**item, "lastTransitionTime": time or rfc3339(now)})
    return result
