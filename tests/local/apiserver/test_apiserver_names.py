"""Names, labels and annotations: which rule is whose, in Kubernetes' words."""

from __future__ import annotations

import pytest

from inferway.local.apiserver.registry.builtin import builtin_kinds
from inferway.local.apiserver.registry.names import metadata_causes


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"name": "x\n"}, "metadata.name"),
        ({"name": "x", "labels": {"a": "b\n"}}, "metadata.labels"),
        ({"name": "x", "labels": {"a\n": "b"}}, "metadata.labels"),
    ],
)
def test_a_line_end_is_refused(metadata: dict[str, object], field: str) -> None:
    kind = next(kind for kind in builtin_kinds() if kind.kind == "ConfigMap")
    found = metadata_causes(kind, {"metadata": {"namespace": "default", **metadata}})
    assert [cause.field for cause in found] == [field]


@pytest.mark.parametrize(
    ("kind_name", "metadata", "texts"),
    [
        ("ConfigMap", {"name": "a.b"}, []),
        ("ConfigMap", {"name": "A"}, ['Invalid value: "A": a lowercase RFC 1123 subdomain must']),
        (
            "ConfigMap",
            {"name": "a" * 254},
            [f'Invalid value: "{"a" * 254}": must be no more than 253 characters'],
        ),
        ("Namespace", {"name": "a.b"}, ['Invalid value: "a.b": must not contain dots']),
        ("Service", {"name": "1a"}, ['Invalid value: "1a": a DNS-1035 label must consist of']),
        (
            "Service",
            {"name": "a" * 64},
            [f'Invalid value: "{"a" * 64}": must be no more than 63 characters'],
        ),
        ("Role", {"name": "system:controller:x"}, []),
        ("Role", {"name": ".."}, ["Invalid value: \"..\": may not be '.' or '..'"]),
        ("ConfigMap", {"name": ""}, ["Required value: name or generateName is required"]),
        (
            "ConfigMap",
            {"name": "x", "labels": {"a/b/c": "d"}},
            ['Invalid value: "a/b/c": a valid label key must consist of'],
        ),
        (
            "ConfigMap",
            {"name": "x", "labels": {"Example.com/a": "b"}},
            ['Invalid value: "Example.com/a": prefix part a lowercase RFC 1123 subdomain'],
        ),
        ("ConfigMap", {"name": "x", "annotations": {"Example.com/a": "-"}}, []),
        (
            "ConfigMap",
            {"name": "x", "labels": {"a": "b" * 64}},
            [f'Invalid value: "{"b" * 64}": must be no more than 63 bytes'],
        ),
        (
            "ConfigMap",
            {"name": "x", "annotations": {"/A": "b"}},
            ['Invalid value: "/A": prefix part must be non-empty'],
        ),
    ],
)
def test_each_rule(kind_name: str, metadata: dict[str, object], texts: list[str]) -> None:
    kind = next(kind for kind in builtin_kinds() if kind.kind == kind_name)
    found = [cause.message for cause in metadata_causes(kind, {"metadata": metadata})]
    assert len(found) == len(texts)
    assert all(one.startswith(text) for one, text in zip(found, texts, strict=True)), found
