"""The scale subresource: replicas of any kind that has them, as ``autoscaling/v1`` Scale."""

from __future__ import annotations

import copy
from typing import Any

from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Kind, Object
from inferway.local.apiserver.registry.options import Target, WriteOptions, Written
from inferway.local.apiserver.registry.registry import Registry, load
from inferway.local.apiserver.registry.seam import Manager

REPLICAS_MAX = 2**31 - 1


def scale_of(kind: Kind, obj: Object) -> Object:
    """The Scale of an object."""
    paths = kind.scale
    assert paths is not None
    metadata = obj["metadata"]
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    status: dict[str, Any] = {"replicas": _at(obj, paths.status_replicas) or 0}
    selector = selector_text(_at(obj, paths.selector)) if paths.selector else ""
    if selector:
        status["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in names if name in metadata},
        "spec": {"replicas": _at(obj, paths.spec_replicas) or 0},
        "status": status,
    }


def write_scale(registry: Registry, target: Target, scale: Any, options: WriteOptions) -> Written:
    """Sets the replicas that a Scale names; the answer is the new Scale."""
    kind = target.kind
    paths = kind.scale
    assert paths is not None
    if not isinstance(scale, dict):
        raise errors.bad_request("the object provided is not a Scale")
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise errors.bad_request("spec.replicas: expected a whole number")
    if not 0 <= replicas <= REPLICAS_MAX:
        text = f"Invalid value: {replicas}: must be greater than or equal to 0"
        subject = errors.Subject("autoscaling", kind.plural, target.name, "Scale")
        raise errors.invalid(subject, [errors.Cause("FieldValueInvalid", "spec.replicas", text)])
    stored = registry.stored(target)
    obj = copy.deepcopy(load(kind, stored))
    metadata = scale.get("metadata") or {}
    for name in ("resourceVersion", "uid"):
        if metadata.get(name):
            obj["metadata"][name] = metadata[name]
    holder = obj
    for part in paths.spec_replicas[:-1]:
        holder = holder.setdefault(part, {})
    holder[paths.spec_replicas[-1]] = replicas
    manager = Manager(options.field_manager, "Update", registry.now(), "scale")
    whole = Target(kind, target.namespace, target.name)
    written = registry.replace(whole, stored, obj, options, manager)
    return Written(scale_of(kind, written.object))


def _at(obj: Object, path: tuple[str, ...]) -> Any:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def selector_text(selector: Any) -> str:
    """A LabelSelector, or a plain map, or a text, in the text form of selectors."""
    if isinstance(selector, str):
        return selector
    if not isinstance(selector, dict):
        return ""
    shaped = "matchLabels" in selector or "matchExpressions" in selector
    labels = (selector.get("matchLabels") or {}) if shaped else selector
    parts = [f"{key}={value}" for key, value in sorted(labels.items())]
    for term in selector.get("matchExpressions") or () if shaped else ():
        values = ",".join(sorted(term.get("values") or ()))
        parts.append(
            {
                "In": f"{term.get('key')} in ({values})",
                "NotIn": f"{term.get('key')} notin ({values})",
                "Exists": str(term.get("key")),
            }.get(str(term.get("operator")), f"!{term.get('key')}")
        )
    return ",".join(parts)
