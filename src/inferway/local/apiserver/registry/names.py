"""Which rules an object's name, labels and annotations follow; the rules are api.judging's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inferway.api.judging import words
from inferway.api.schema.errors import FieldError
from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.kinds import Kind, Object

# Kubernetes cuts a generateName so that the suffix still fits a label.
GENERATE_NAME_LENGTH_MAX = 58
ANNOTATIONS_BYTES_MAX = 262_144


def metadata_causes(kind: Kind, obj: Object) -> list[Cause]:
    """What is wrong with an object's metadata."""
    metadata = obj["metadata"]
    causes = _name_causes(kind, metadata.get("name"))
    causes += _causes(words.labels("metadata.labels", metadata.get("labels")))
    annotations = metadata.get("annotations")
    for key in annotations or {}:
        causes += _causes(words.annotation_key("metadata.annotations", key))
    if isinstance(annotations, dict):
        size = sum(len(str(k)) + len(str(v)) for k, v in annotations.items())
        if size > ANNOTATIONS_BYTES_MAX:
            causes.append(
                Cause(
                    "FieldValueTooLong",
                    "metadata.annotations",
                    f"Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes",
                )
            )
    return causes


def _name_causes(kind: Kind, name: Any) -> list[Cause]:
    if not name:
        text = "Required value: name or generateName is required"
        return [Cause("FieldValueRequired", "metadata.name", text)]
    if kind.group == "rbac.authorization.k8s.io":
        # Roles have path segment names: system:controller:x is one.
        if name not in (".", "..") and "/" not in name and "%" not in name:
            return []
        text = f"Invalid value: \"{name}\": may not be '.' or '..' or contain '/' or '%'"
        return [Cause("FieldValueInvalid", "metadata.name", text)]
    if kind.kind == "Namespace":
        rule = words.dns_label
    elif kind.kind == "Service" and not kind.group:
        rule = words.dns_1035_label
    else:
        rule = words.dns_subdomain
    return _causes(rule("metadata.name", name))


def _causes(found: Iterable[FieldError]) -> list[Cause]:
    return [Cause(error.reason, error.field, error.message) for error in found]


def shape_causes(metadata: Object) -> list[str]:
    """Fields of metadata that have a wrong JSON type; such an object can not be decoded."""
    wrong = [
        f"metadata.{name}: expected string"
        for name in ("name", "generateName", "namespace", "uid", "resourceVersion")
        if not isinstance(metadata.get(name, ""), str)
    ]
    for name in ("labels", "annotations"):
        value = metadata.get(name)
        if value is None:
            continue
        if not isinstance(value, dict):
            wrong.append(f"metadata.{name}: expected a map of strings")
        else:
            wrong += [
                f"metadata.{name}.{key}: expected string, got {text!r}"
                for key, text in value.items()
                if not isinstance(text, str)
            ]
    for name in ("finalizers", "ownerReferences", "managedFields"):
        value = metadata.get(name)
        if value is not None and not isinstance(value, list):
            wrong.append(f"metadata.{name}: expected a list")
    return wrong
