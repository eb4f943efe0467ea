"""Discovery: which groups, versions and resources there are, in the old and the aggregated form."""

from __future__ import annotations

from typing import Any

from inferway.local.apiserver.registry.kinds import Kind, KindTable

# Subresource -> the kind of its body (group, version, kind) and its verbs.
_SUBRESOURCES: dict[str, tuple[tuple[str, str, str] | None, tuple[str, ...]]] = {
    "status": (None, ("get", "patch", "update")),
    "finalize": (None, ("update",)),
    "scale": (("autoscaling", "v1", "Scale"), ("get", "patch", "update")),
    "log": (None, ("get",)),
    "portforward": (("", "v1", "PodPortForwardOptions"), ("create", "get")),
    "binding": (("", "v1", "Binding"), ("create",)),
    "eviction": (("policy", "v1", "Eviction"), ("create",)),
    "token": (("authentication.k8s.io", "v1", "TokenRequest"), ("create",)),
}


def _groups(table: KindTable) -> dict[str, dict[str, list[Kind]]]:
    groups: dict[str, dict[str, list[Kind]]] = {}
    for kind in table.all():
        groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    return groups


def version_rank(version: str) -> tuple[int, int, int, str]:
    """Sorts as Kubernetes prefers versions: v2 before v1 before v1beta1 before v1alpha1."""
    digits = version[1:]
    for stage, word in ((1, "beta"), (2, "alpha")):
        major, found, minor = digits.partition(word)
        if found and major.isdigit() and minor.isdigit():
            return (stage, -int(major), -int(minor), version)
    return (0, -int(digits), 0, version) if digits.isdigit() else (3, 0, 0, version)


def core_versions() -> dict[str, Any]:
    """``/api``"""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(table: KindTable) -> dict[str, Any]:
    """``/apis``"""
    groups = _groups(table)
    items = [_group(name, versions) for name, versions in sorted(groups.items()) if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": items}


def group(table: KindTable, name: str) -> dict[str, Any] | None:
    """``/apis/GROUP``"""
    versions = _groups(table).get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: dict[str, list[Kind]]) -> dict[str, Any]:
    entries = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for version in sorted(versions, key=version_rank)
    ]
    return {"name": name, "versions": entries, "preferredVersion": entries[0]}


def resource_list(table: KindTable, group_name: str, version: str) -> dict[str, Any] | None:
    """``/api/v1`` and ``/apis/GROUP/VERSION``"""
    kinds = _groups(table).get(group_name, {}).get(version)
    if kinds is None:
        return None
    resources = []
    for kind in sorted(kinds, key=lambda kind: kind.plural):
        entry: dict[str, Any] = {
            "name": kind.plural,
            "singularName": kind.name_singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": list(kind.verbs),
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        resources += [_subresource(kind, name) for name in sorted(kind.subresources)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version}" if group_name else version,
        "resources": resources,
    }


def _subresource(kind: Kind, name: str) -> dict[str, Any]:
    body, verbs = _SUBRESOURCES[name]
    entry: dict[str, Any] = {
        "name": f"{kind.plural}/{name}",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": body[2] if body else kind.kind,
        "verbs": list(verbs),
    }
    if body:
        entry |= {"group": body[0], "version": body[1]}
    return entry


def aggregated(table: KindTable, *, core: bool) -> dict[str, Any]:
    """``/api`` and ``/apis`` as one APIGroupDiscoveryList."""
    items = []
    for name, versions in sorted(_groups(table).items()):
        if (name == "") is not core:
            continue
        entries = [
            {
                "version": version,
                "resources": [
                    _aggregated_resource(kind)
                    for kind in sorted(versions[version], key=lambda kind: kind.plural)
                ],
                "freshness": "Current",
            }
            for version in sorted(versions, key=version_rank)
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": entries})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_resource(kind: Kind) -> dict[str, Any]:
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    entry: dict[str, Any] = {
        "resource": kind.plural,
        "responseKind": own,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.name_singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    subresources = []
    for name in sorted(kind.subresources):
        body, verbs = _SUBRESOURCES[name]
        response = own
        if body:
            response = dict(zip(("group", "version", "kind"), body, strict=True))
        subresources.append({"subresource": name, "responseKind": response, "verbs": list(verbs)})
    if subresources:
        entry["subresources"] = subresources
    return entry
