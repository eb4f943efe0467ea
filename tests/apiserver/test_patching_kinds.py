"""Patches of real kinds: the merge facts of the catalogue and of our CRDs at work."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.api import crds
from inferway.api.inference import InferencePool
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.load import load_kind
from inferway.local.apiserver.registry.patching.managed import (
    ApplyConflictError,
    Writer,
    apply,
    track,
)
from inferway.local.apiserver.registry.patching.schemashape import SchemaShape
from inferway.local.apiserver.registry.patching.strategic import strategic_merge

CATALOG = Catalog.load()


IDENTITY = {"apiVersion": "apps/v1", "kind": "Deployment"}


def shape(group: str, kind: str) -> SchemaShape:
    schema = CATALOG.kind(group, "v1", kind)
    assert schema is not None
    return SchemaShape(schema)


DEPLOYMENT = shape("apps", "Deployment")
SERVICE = shape("", "Service")
POOL = SchemaShape(
    load_kind(
        crds.to_object(next(d for d in crds.all_definitions() if d.struct is InferencePool))[
            "spec"
        ]["versions"][0]["schema"]["openAPIV3Schema"],
        CATALOG.object_meta,
    )
)


def writer(name: str, api_version: str = "apps/v1") -> Writer:
    return Writer(name, api_version, "2026-01-01T00:00:00Z")


def deployment(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"template": {"spec": {"containers": list(containers)}}, **spec},
    }


def containers(obj: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = obj["spec"]["template"]["spec"]["containers"]
    return found


def test_containers_and_variables_merge_by_name() -> None:
    live = deployment(
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}], "args": ["p", "q"]},
        {"name": "b"},
    )
    patch = {
        "spec": {
            "template": {
                "spec": {
                    "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
                    "containers": [
                        {"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["r"]}
                    ],
                }
            }
        }
    }
    merged = strategic_merge(live, patch, DEPLOYMENT)
    assert containers(merged) == [
        {"name": "b"},
        {
            "name": "a",
            "image": "1",
            "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
            "args": ["r"],
        },
    ]


def test_a_strategy_keeps_only_what_is_retained() -> None:
    live = deployment(strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})
    patch = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
    assert strategic_merge(live, patch, DEPLOYMENT)["spec"]["strategy"] == {"type": "Recreate"}


def test_finalizers_are_a_set_that_merges() -> None:
    live = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}}
    assert strategic_merge(live, patch, DEPLOYMENT)["metadata"]["finalizers"] == ["b", "c"]


def test_ports_are_named_by_port_and_protocol() -> None:
    live = apply(
        None,
        {**IDENTITY, "spec": {"ports": [{"port": 80, "name": "http"}]}},
        SERVICE,
        writer("a", "v1"),
        force=False,
    )
    both = apply(
        live,
        {**IDENTITY, "spec": {"ports": [{"port": 80, "protocol": "TCP", "targetPort": 8000}]}},
        SERVICE,
        writer("b", "v1"),
        force=False,
    )
    assert both["spec"]["ports"] == [
        {"port": 80, "name": "http", "protocol": "TCP", "targetPort": 8000}
    ]


def test_scaling_by_another_manager_is_a_conflict() -> None:
    live = apply(None, deployment(replicas=1), DEPLOYMENT, writer("kubectl"), force=False)
    scaled = copy.deepcopy(live)
    scaled["spec"]["replicas"] = 5
    live = track(live, scaled, DEPLOYMENT, writer("autoscaler"))
    with pytest.raises(ApplyConflictError) as caught:
        apply(live, deployment(replicas=2), DEPLOYMENT, writer("kubectl"), force=False)
    assert str(caught.value) == (
        'Apply failed with 1 conflict: conflict with "autoscaler" using apps/v1 at '
        "2026-01-01T00:00:00Z: .spec.replicas"
    )
    forced = apply(live, deployment(replicas=2), DEPLOYMENT, writer("kubectl"), force=True)
    assert forced["spec"]["replicas"] == 2
    assert [e["manager"] for e in forced["metadata"]["managedFields"]] == ["kubectl"]


def test_a_dropped_container_goes() -> None:
    two = deployment({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
    live = apply(None, two, DEPLOYMENT, writer("kubectl"), force=False)
    one = deployment({"name": "a", "image": "1"})
    live = apply(live, one, DEPLOYMENT, writer("kubectl"), force=False)
    assert containers(live) == [{"name": "a", "image": "1"}]


def test_atomic_lists_of_custom_kinds_are_owned_whole() -> None:
    pool = {**IDENTITY, "spec": {"targetPorts": [{"number": 8000}]}}
    live = apply(None, pool, POOL, writer("a", "x/v1"), force=False)
    entry = live["metadata"]["managedFields"][0]
    assert entry["fieldsV1"] == {"f:spec": {"f:targetPorts": {}}}


NAMES = st.lists(st.sampled_from("abc"), unique=True, max_size=3)
CONFIGURATIONS = st.builds(
    lambda names, replicas, labels: {
        **deployment(*({"name": n, "image": n} for n in names), replicas=replicas),
        "metadata": {"name": "d", "labels": labels},
    },
    NAMES,
    st.integers(0, 3),
    st.dictionaries(st.sampled_from("xyz"), st.just("1"), max_size=3),
)


@settings(deadline=None)
@given(first=CONFIGURATIONS, second=CONFIGURATIONS)
def test_applying_twice_is_applying_once(first: dict[str, Any], second: dict[str, Any]) -> None:
    live = apply(None, first, DEPLOYMENT, writer("m"), force=False)
    once = apply(live, second, DEPLOYMENT, writer("m"), force=False)
    assert apply(once, second, DEPLOYMENT, writer("m"), force=False) == once
    # Nothing of the first configuration is left that the second does not have.
    assert once["spec"]["replicas"] == second["spec"]["replicas"]
    assert {c["name"] for c in containers(once) or ()} == {c["name"] for c in containers(second)}
    assert once["metadata"].get("labels", {}) == second["metadata"]["labels"]


@settings(deadline=None)
@given(names=NAMES, others=NAMES)
def test_disjoint_managers_may_come_in_any_order(names: list[str], others: list[str]) -> None:
    mine = deployment(*({"name": f"m{n}", "image": n} for n in names))
    yours = {**IDENTITY, "metadata": {"name": "d", "labels": dict.fromkeys(others, "1")}}

    def applied(*steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        live: dict[str, Any] | None = None
        for name, configuration in steps:
            live = apply(live, configuration, DEPLOYMENT, writer(name), force=False)
        assert live is not None
        return live

    left = applied(("m", mine), ("y", yours))
    right = applied(("y", yours), ("m", mine))
    assert left["spec"] == right["spec"]
    assert left["metadata"].get("labels") == right["metadata"].get("labels")
    owners = [
        sorted((e["manager"], str(e["fieldsV1"])) for e in o["metadata"]["managedFields"])
        for o in (left, right)
    ]
    assert owners[0] == owners[1]
