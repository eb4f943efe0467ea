"""Rules for names, labels and annotations, in Kubernetes' words."""

from __future__ import annotations

import re
from typing import Any

from inferway.local.apiserver.registry.errors import Cause
from inferway.local.apiserver.registry.kinds import Kind, Object

NAME_LENGTH_MAX = 253
LABEL_LENGTH_MAX = 63
# Kubernetes cuts a generateName so that the suffix still fits a label.
GENERATE_NAME_LENGTH_MAX = 58
ANNOTATIONS_BYTES_MAX = 262_144

_SUBDOMAIN = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
_LABEL_NAME_1035 = re.compile(r"^[a-z]([-a-z0-9]*[a-z0-9])?$")
_QUALIFIED = re.compile(r"^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$")
_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")

_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex "
    "used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_LABEL_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
    "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_QUALIFIED_TEXT = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    "or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def metadata_causes(kind: Kind, obj: Object) -> list[Cause]:
    """What is wrong with an object's metadata."""
    metadata = obj["metadata"]
    causes = _name_causes(kind, metadata.get("name"))
    causes += _map_causes(metadata.get("labels"), "metadata.labels", values_are_labels=True)
    annotations = metadata.get("annotations")
    causes += _map_causes(annotations, "metadata.annotations", values_are_labels=False)
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
        bad = name in (".", "..") or "/" in name or "%" in name
        text = "" if not bad else "may not be '.' or '..' or contain '/' or '%'"
    elif kind.kind == "Namespace":
        text = _pattern_text(name, _LABEL_NAME, LABEL_LENGTH_MAX, _LABEL_TEXT)
    elif kind.kind == "Service" and not kind.group:
        text = _pattern_text(name, _LABEL_NAME_1035, LABEL_LENGTH_MAX, _LABEL_1035_TEXT)
    else:
        text = _pattern_text(name, _SUBDOMAIN, NAME_LENGTH_MAX, _SUBDOMAIN_TEXT)
    if not text:
        return []
    return [Cause("FieldValueInvalid", "metadata.name", f'Invalid value: "{name}": {text}')]


def _pattern_text(name: str, pattern: re.Pattern[str], length_max: int, text: str) -> str:
    if len(name) > length_max:
        return f"must be no more than {length_max} bytes"
    return "" if pattern.fullmatch(name) else text


def _map_causes(value: Any, path: str, *, values_are_labels: bool) -> list[Cause]:
    causes = []
    for key, text in (value or {}).items():
        prefix, _, name = key.rpartition("/")
        wrong = ""
        if not name or len(name) > LABEL_LENGTH_MAX or not _QUALIFIED.fullmatch(name):
            wrong = _QUALIFIED_TEXT
        elif "/" in key and not _SUBDOMAIN.fullmatch(prefix.lower()):
            wrong = f"prefix part {_SUBDOMAIN_TEXT}"
        if wrong:
            causes.append(Cause("FieldValueInvalid", path, f'Invalid value: "{key}": {wrong}'))
        if not values_are_labels:
            continue
        if len(text) > LABEL_LENGTH_MAX:
            wrong = f"must be no more than {LABEL_LENGTH_MAX} bytes"
            causes.append(Cause("FieldValueInvalid", path, f'Invalid value: "{text}": {wrong}'))
        elif not _VALUE.fullmatch(text):
            wrong = f'Invalid value: "{text}": {_VALUE_TEXT}'
            causes.append(Cause("FieldValueInvalid", path, wrong))
    return causes


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
