"""OpenAPI components and descriptions, as kubectl explain reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inferway.api import crds
from inferway.api.schema.catalog import OBJECT_META, Catalog
from inferway.api.schema.descriptions import Descriptions, parse
from inferway.api.schema.openapi import WantedKind, components

CATALOG = Catalog.load()
DESCRIPTIONS = Descriptions.installed()


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(references(inner) for inner in value))
    return set()


def test_built_in_kinds_bring_what_they_refer_to() -> None:
    schemas, names = components(
        [WantedKind("apps", "v1", "Deployment"), WantedKind("apps", "v1", "Nothing")],
        CATALOG,
        DESCRIPTIONS,
    )
    assert names == {"Deployment": "io.k8s.api.apps.v1.Deployment"}
    prefix = "#/components/schemas/"
    assert references(schemas) <= {prefix + name for name in schemas}
    deployment = schemas["io.k8s.api.apps.v1.Deployment"]
    assert deployment["x-kubernetes-group-version-kind"] == [
        {"group": "apps", "version": "v1", "kind": "Deployment"}
    ]
    spec = schemas["io.k8s.api.apps.v1.DeploymentSpec"]
    assert spec["properties"]["selector"]["allOf"][0]["$ref"].endswith("LabelSelector")
    assert schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"] == {
        "oneOf": [{"type": "string"}, {"type": "number"}]
    }


def test_nearly_every_field_is_described() -> None:
    schemas, _ = components([WantedKind("", "v1", "Pod")], CATALOG, DESCRIPTIONS)
    fields = [
        (name, field, inner)
        for name, schema in schemas.items()
        for field, inner in schema.get("properties", {}).items()
    ]
    bare = [(name, field) for name, field, inner in fields if not inner.get("description")]
    assert len(fields) > 500
    assert bare == []
    spec = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]
    assert spec["nodeName"]["description"].startswith("NodeName indicates")


def test_custom_kinds_get_kubernetes_metadata() -> None:
    crd = crds.to_object(crds.GATEWAY_PARAMETERS)
    raw = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schemas, names = components(
        [WantedKind("inferway.dev", "v1alpha1", "GatewayParameters", raw)], CATALOG, DESCRIPTIONS
    )
    schema = schemas[names["GatewayParameters"]]
    assert names == {"GatewayParameters": "dev.inferway.v1alpha1.GatewayParameters"}
    assert schema["properties"]["metadata"]["allOf"][0]["$ref"].endswith(OBJECT_META)
    assert OBJECT_META in schemas
    assert "allOf" not in raw["properties"]["metadata"]


def test_docstrings_are_read_by_paragraph() -> None:
    text = """What it is
      in two lines.

      More.

      **parameters**

      * **name** ``str`` - The name,
        wrapped.
      * **from_** ``Optional[str]`` - Where.
      * **bare** ``int``
    """
    found = parse(text)
    assert found.text == "What it is in two lines.\n\nMore."
    assert found.fields == {"name": "The name, wrapped.", "from": "Where.", "bare": ""}


def test_without_the_package_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "core_v1.py").write_text("class (")
    nothing = Descriptions([tmp_path, tmp_path / "missing"])
    assert nothing.of("io.k8s.api.core.v1.Pod").text == ""
    assert nothing.of("nonsense").text == ""
