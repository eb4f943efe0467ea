"""Tables and partial metadata: other forms of the same objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferway.base.clock import parse_rfc3339
from inferway.local.apiserver.registry.kinds import Column, Kind, Object, Printer

TABLE_VERSIONS = ("v1", "v1beta1")

_NAME = Column(
    "Name",
    format="name",
    description=(
        "Name must be unique within a namespace. Is required when creating resources, although "
        "some resources may allow a client to request the generation of an appropriate name "
        "automatically."
    ),
)
_AGE = Column(
    "Age",
    type="date",
    description="CreationTimestamp is a timestamp representing the server time of creation.",
)


def plain_printer() -> Printer:
    """Name and age, for kinds without columns of their own."""
    return Printer((_NAME, _AGE), lambda obj, now: [obj["metadata"]["name"], age(obj, now)])


def table(kind: Kind, objects: Iterable[Object], now: float, include: str) -> dict[str, Any]:
    """A ``meta.k8s.io`` Table. ``include`` is None, Metadata or Object."""
    printer = kind.printer or plain_printer()
    rows = []
    for obj in objects:
        row: dict[str, Any] = {"cells": printer.cells(obj, now)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj)
        rows.append(row)
    columns = [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in printer.columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    }


def partial(obj: Object) -> Object:
    """Only the metadata of an object."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }


def age(obj: Object, now: float) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def since(timestamp: Any, now: float) -> str:
    """How long ago a Kubernetes time was, in kubectl's short form."""
    if not timestamp:
        return "<unknown>"
    try:
        return duration(now - parse_rfc3339(str(timestamp)))
    except ValueError:
        return "<invalid>"


def duration(seconds: float) -> str:
    """``5s``, ``3m20s``, ``2h5m``, ``7h``, ``2d3h``, ``9d``, ``2y100d``: as Kubernetes rounds."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(0, whole)
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        rest = whole % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        rest = hours % 24
        return f"{days}d{rest}h" if rest else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, rest = days // 365, days % 365
    if years < 8 and rest:
        return f"{years}y{rest}d"
    return f"{years}y"
