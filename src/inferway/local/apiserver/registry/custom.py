"""CustomResourceDefinitions: judged, completed, and turned into kinds.

Pure: objects in, kinds and statuses out. Conversion between versions is by name only (strategy
None); webhooks are refused when the definition is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.jsonpath import compile_path
from inferway.local.apiserver.registry.kinds import (
    Cells,
    Column,
    Kind,
    Object,
    Printer,
    ScalePaths,
    Strategy,
)
from inferway.local.apiserver.registry.table import since

RESOURCE = "customresourcedefinitions.apiextensions.k8s.io"
CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
_STRATEGY = Strategy(generation=True, unconditional_update=False)


def complete(crd: Object, old: Object | None) -> None:
    """Defaults of the definition, in place."""
    spec = crd.setdefault("spec", {})
    names = spec.get("names")
    if isinstance(names, dict) and isinstance(names.get("kind"), str):
        names.setdefault("singular", names["kind"].lower())
        names.setdefault("listKind", names["kind"] + "List")
    spec.setdefault("conversion", {"strategy": "None"})
    metadata = crd["metadata"]
    going = old is not None and old["metadata"].get("deletionTimestamp")
    if not going and CLEANUP_FINALIZER not in (metadata.get("finalizers") or ()):
        metadata["finalizers"] = [*(metadata.get("finalizers") or ()), CLEANUP_FINALIZER]


def validate(crd: Object, old: Object | None) -> list[Cause]:
    """What is wrong with a definition."""
    spec = crd["spec"]
    names = spec.get("names") or {}
    causes = []
    for path, value in (
        ("spec.group", spec.get("group")),
        ("spec.names.plural", names.get("plural")),
        ("spec.names.kind", names.get("kind")),
        ("spec.versions", spec.get("versions")),
    ):
        if not value:
            causes.append(Cause("FieldValueRequired", path, "Required value"))
    if causes:
        return causes
    expected = f"{names['plural']}.{spec['group']}"
    if crd["metadata"].get("name") != expected:
        text = f'Invalid value: "{crd["metadata"].get("name")}": must be spec.names.plural+"."+'
        causes.append(Cause("FieldValueInvalid", "metadata.name", f"{text}spec.group"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        text = f'Unsupported value: "{spec.get("scope")}": supported values: "Cluster", '
        causes.append(Cause("FieldValueNotSupported", "spec.scope", f'{text}"Namespaced"'))
    strategy = (spec.get("conversion") or {}).get("strategy")
    if strategy != "None":
        text = f'Unsupported value: "{strategy}": supported values: "None"'
        causes.append(Cause("FieldValueNotSupported", "spec.conversion.strategy", text))
    return [*causes, *_version_causes(spec["versions"]), *_fixed_causes(crd, old)]


def _version_causes(versions: Any) -> list[Cause]:
    if not isinstance(versions, list) or not all(isinstance(v, dict) for v in versions):
        return [Cause("FieldValueTypeInvalid", "spec.versions", "Invalid value: expected a list")]
    causes = []
    if sum(bool(version.get("storage")) for version in versions) != 1:
        text = "must have exactly one version marked as storage version"
        causes.append(Cause("FieldValueInvalid", "spec.versions", f"Invalid value: {text}"))
    for number, version in enumerate(versions):
        path = f"spec.versions[{number}]"
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if not isinstance(schema, dict):
            text = "Required value: schemas are required"
            causes.append(Cause("FieldValueRequired", f"{path}.schema.openAPIV3Schema", text))
        for place, column in enumerate(version.get("additionalPrinterColumns") or ()):
            try:
                compile_path(str(column.get("jsonPath") or ""))
            except ValueError as error:
                where = f"{path}.additionalPrinterColumns[{place}].jsonPath"
                causes.append(Cause("FieldValueInvalid", where, f"Invalid value: {error}"))
    return causes


def _fixed_causes(crd: Object, old: Object | None) -> list[Cause]:
    """Group, plural, kind and scope stay, because objects are kept under them."""
    if old is None:
        return []
    before, after = old["spec"], crd["spec"]
    pairs = (
        ("spec.scope", before.get("scope"), after.get("scope")),
        ("spec.names.kind", before["names"].get("kind"), after["names"].get("kind")),
        ("spec.names.plural", before["names"].get("plural"), after["names"].get("plural")),
    )
    return [
        Cause("FieldValueInvalid", path, f'Invalid value: "{wanted}": field is immutable')
        for path, was, wanted in pairs
        if was != wanted
    ]


def status_of(crd: Object, now: str, conflict: str) -> Object:
    """The status of a definition; ``conflict`` says who has its names already."""
    old = crd.get("status") or {}
    storage = next(v["name"] for v in crd["spec"]["versions"] if v.get("storage"))
    stored = list(old.get("storedVersions") or ())
    if storage not in stored:
        stored.append(storage)
    accepted = not conflict
    wanted = (
        (
            "NamesAccepted",
            accepted,
            "NoConflicts" if accepted else "PluralConflict",
            "no conflicts found" if accepted else conflict,
        ),
        (
            "Established",
            accepted,
            "InitialNamesAccepted" if accepted else "NotAccepted",
            "the initial names have been accepted" if accepted else "not all names are accepted",
        ),
    )
    before = {condition["type"]: condition for condition in old.get("conditions") or ()}
    conditions = []
    for name, holds, reason, message in wanted:
        value = "True" if holds else "False"
        last = before.get(name) or {}
        since_when = last.get("lastTransitionTime") if last.get("status") == value else now
        conditions.append(
            {
                "type": name,
                "status": value,
                "reason": reason,
                "message": message,
                "lastTransitionTime": since_when or now,
            }
        )
    names = crd["spec"]["names"] if accepted else {"plural": "", "kind": ""}
    return {"conditions": conditions, "acceptedNames": names, "storedVersions": stored}


def kinds_of(crd: Object) -> tuple[Kind, ...]:
    """The kinds that a valid definition serves, one for each served version."""
    versions = crd["spec"]["versions"]
    storage = next(version["name"] for version in versions if version.get("storage"))
    return tuple(_kind(crd, version, storage) for version in versions if version.get("served"))


def _kind(crd: Object, version: Object, storage: str) -> Kind:
    spec = crd["spec"]
    names, group = spec["names"], spec["group"]
    subresources = version.get("subresources") or {}
    stored_versions = (crd.get("status") or {}).get("storedVersions") or [storage]
    kept_as = f"{group}/{storage}"
    served_as = f"{group}/{version['name']}"
    plain = version["name"] == storage and stored_versions == [storage]
    return Kind(
        group,
        version["name"],
        names["kind"],
        names["plural"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular", ""),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(subresources) & {"status", "scale"},
        list_kind=names.get("listKind", ""),
        strategy=_STRATEGY,
        printer=_printer(version.get("additionalPrinterColumns") or ()),
        scale=_scale(subresources.get("scale")),
        storage_version=kept_as,
        from_storage=None if plain else _renamed(served_as),
        to_storage=None if plain else _renamed(kept_as),
        schema=version["schema"]["openAPIV3Schema"],
        custom=True,
    )


def _renamed(api_version: str) -> Callable[[Object], Object]:
    return lambda obj: {**obj, "apiVersion": api_version}


def _scale(scale: Any) -> ScalePaths | None:
    if not isinstance(scale, dict):
        return None

    def path(name: str) -> tuple[str, ...]:
        return tuple(part for part in str(scale.get(name) or "").split(".") if part)

    return ScalePaths(
        path("specReplicasPath"), path("statusReplicasPath"), path("labelSelectorPath")
    )


_NAME = Column("Name", format="name", description="The name of the object.")


def _printer(columns: Any) -> Printer:
    if not columns:
        columns = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]
    shown = [_NAME]
    finders = []
    for column in columns:
        shown.append(
            Column(
                str(column["name"]),
                str(column.get("type") or "string"),
                str(column.get("format") or ""),
                str(column.get("description") or "Custom resource definition column"),
                int(column.get("priority") or 0),
            )
        )
        finders.append((shown[-1].type, compile_path(str(column["jsonPath"]))))

    def cells(obj: Object, now: float) -> Cells:
        return [
            obj["metadata"]["name"],
            *(_cell(kind, find(obj), now) for kind, find in finders),
        ]

    return Printer(tuple(shown), cells)


def _cell(kind: str, found: list[Any], now: float) -> Any:
    """The first value at a column's path, as Kubernetes shows it; None if there is none."""
    if not found or found[0] is None:
        return None
    value = found[0]
    if kind == "date":
        return since(value, now)
    if kind == "string":
        if isinstance(value, list | dict):
            return json.dumps(value, separators=(",", ":"))
        return str(value).lower() if isinstance(value, bool) else str(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
