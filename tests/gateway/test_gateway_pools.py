"""What a pool's annotations and rewrites ask of the gateway: how long a pick may take, and Lua."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.gateway.translate.pools import resolve
from inferway.gateway.translate_files import read_documents


def pool(**annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "p", "namespace": "ns", "annotations": annotations},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "targetPorts": [{"number": 8000}],
            "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
        },
    }


def resolved(*documents: dict[str, Any]) -> Any:
    snapshot, diagnostics = read_documents(documents)
    assert diagnostics == []
    return resolve(snapshot, snapshot.inference_pools["ns", "p"])


HOLD, PICK = "inferway.dev/hold-timeout", "inferway.dev/pick-timeout"


@pytest.mark.parametrize(
    ("annotations", "seconds", "note"),
    [
        ({}, 65.0, ""),
        ({PICK: "2s"}, 2.0, ""),
        ({HOLD: "60s"}, 65.0, ""),
        ({HOLD: "2m"}, 125.0, ""),
        ({HOLD: "60s", PICK: "2m"}, 120.0, ""),
        ({HOLD: "10s", PICK: "2s"}, 15.0, ""),
        ({HOLD: "0"}, 65.0, ""),
        ({HOLD: "soon"}, 65.0, "nothing is held"),
        ({HOLD: "1h"}, 65.0, "not in 0 to 590s"),
        ({PICK: "1h"}, 65.0, "65s is used"),
    ],
)
def test_how_long_a_pick_may_take(annotations: dict[str, str], seconds: float, note: str) -> None:
    found = resolved(pool(**annotations))
    assert found.pick.timeout_seconds == seconds
    assert note in " ".join(found.notes)


def rewrite(group: str, pool_name: str, namespace: str = "ns") -> dict[str, Any]:
    return {
        "apiVersion": f"{group}/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "r", "namespace": namespace},
        "spec": {"poolRef": {"name": pool_name}, "rules": [{"targets": [{"modelRewrite": "m"}]}]},
    }


@pytest.mark.parametrize(
    ("one", "splice"),
    [
        (rewrite("llm-d.ai", "p"), True),
        (rewrite("inference.networking.x-k8s.io", "p"), True),
        (rewrite("llm-d.ai", "q"), False),
        (rewrite("llm-d.ai", "p", "elsewhere"), False),
    ],
)
def test_bodies_can_be_changed_where_a_rewrite_asks_for_it(
    one: dict[str, Any], splice: bool
) -> None:
    assert resolved(pool(), one).pick.splice is splice
