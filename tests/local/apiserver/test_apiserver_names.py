"""Names and labels: a line's end is no part of either."""

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
