"""Structural schemas: loading, unknown fields, pruning, defaults; the generated file is fresh."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.api import crds
from inferway.api.inference import InferencePool
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.defaulting import apply_defaults
from inferway.api.schema.fields import prune, unknown_fields
from inferway.api.schema.load import load_kind, load_schema
from inferway.api.schema.model import Schema

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog.load()


def generator() -> ModuleType:
    path = ROOT / "tools" / "generate_kubernetes_schema.py"
    spec = importlib.util.spec_from_file_location("generate_kubernetes_schema", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def custom(catalog: Catalog, name: str) -> Schema:
    definition = next(d for d in crds.all_definitions() if d.name == name)
    raw = crds.to_object(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return load_kind(raw, catalog.object_meta)


def test_the_generated_file_is_fresh() -> None:
    tool = generator()
    assert tool.TARGET.read_text() == tool.generate(tool.source())


def test_built_in_kinds_are_found(catalog: Catalog) -> None:
    for group, version, kind in (
        ("", "v1", "Pod"),
        ("apps", "v1", "Deployment"),
        ("events.k8s.io", "v1", "Event"),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
        ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ):
        assert catalog.kind(group, version, kind) is not None
    assert catalog.kind("", "v1", "Nothing") is None


def test_merge_facts_are_kept(catalog: Catalog) -> None:
    spec = catalog.definition("io.k8s.api.core.v1.Container").properties
    assert (spec["env"].list_type, spec["env"].list_keys) == ("map", ("name",))
    assert spec["ports"].merge_key == "containerPort"
    ports = spec["ports"].items
    assert ports is not None
    assert ports.properties["protocol"].default == "TCP"
    deployment = catalog.definition("io.k8s.api.apps.v1.DeploymentSpec").properties
    assert deployment["strategy"].strategies == {"retainKeys"}
    assert deployment["selector"].map_type == "atomic"


def test_a_definition_may_refer_to_itself(catalog: Catalog) -> None:
    properties = catalog.definition(
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    ).properties
    inner = properties["properties"].values
    assert inner is not None
    assert "maxLength" in inner.properties


def test_unknown_fields_have_their_paths(catalog: Catalog) -> None:
    schema = catalog.kind("apps", "v1", "Deployment")
    assert schema is not None
    deployment = {
        "apiVersion": "apps/v1",
        "metadata": {"labels": {"any": "x"}, "nam": "d"},
        "spec": {
            "foo": 1,
            "template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": 1}]}},
        },
    }
    assert unknown_fields(schema, deployment) == [
        "metadata.nam",
        "spec.foo",
        "spec.template.spec.containers[1].imagee",
    ]
    pruned = prune(schema, deployment)
    assert unknown_fields(schema, pruned) == []
    assert pruned["metadata"] == {"labels": {"any": "x"}}


def test_free_form_fields_are_kept(catalog: Catalog) -> None:
    schema = load_schema(
        {
            "type": "object",
            "properties": {
                "any": {"x-kubernetes-preserve-unknown-fields": True},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "object": {"type": "object", "x-kubernetes-embedded-resource": True},
            },
        }
    )
    value = {
        "any": {"a": [1]},
        "map": {"b": "c"},
        "object": {"kind": "x", "metadata": {"y": 1}, "z": 1},
    }
    assert unknown_fields(schema, value) == ["object.z"]


def test_defaults_of_a_route(catalog: Catalog) -> None:
    schema = custom(catalog, "httproutes.gateway.networking.k8s.io")
    route = apply_defaults(
        schema,
        {
            "metadata": {"name": "r"},
            "spec": {
                "parentRefs": [{"name": "g", "kind": None}],
                "rules": [{"backendRefs": [{"name": "s", "port": 1}]}],
            },
        },
    )
    assert route["spec"]["parentRefs"] == [
        {"name": "g", "group": "gateway.networking.k8s.io", "kind": "Gateway"}
    ]
    assert route["spec"]["rules"] == [
        {
            "backendRefs": [{"name": "s", "port": 1, "group": "", "kind": "Service", "weight": 1}],
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        }
    ]


def test_defaults_come_in_layers(catalog: Catalog) -> None:
    gateway = apply_defaults(
        custom(catalog, "gateways.gateway.networking.k8s.io"),
        {"spec": {"listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]}},
    )
    listener = gateway["spec"]["listeners"][0]
    assert listener["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    assert [c["type"] for c in gateway["status"]["conditions"]] == ["Accepted", "Programmed"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["spec", "selector", "targetPorts", "number", "x", "matchLabels"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


POOL = crds.to_object(next(d for d in crds.all_definitions() if d.struct is InferencePool))["spec"][
    "versions"
][0]["schema"]["openAPIV3Schema"]


@settings(deadline=None)
@given(value=JSON)
def test_pruning_and_defaulting_are_idempotent(value: Any) -> None:
    schema = load_kind(POOL, Schema(type="object"))
    once = prune(schema, value)
    assert prune(schema, once) == once
    assert unknown_fields(schema, once) == []
    full = apply_defaults(schema, once)
    assert apply_defaults(schema, full) == full
    assert unknown_fields(schema, full) == []
