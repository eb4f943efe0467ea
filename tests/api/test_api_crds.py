"""Our CustomResourceDefinitions against the published ones."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.api import crds

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT.parent / "shared" / "crds"
CHART = ROOT / "charts" / "inferway-crds" / "files"

# The version of v1.1.0 demands a picker; the main branch, which we follow, does not.
FILES = [
    "inference-main/inference.networking.k8s.io_inferencepools.yaml",
    "inference-main/inference.networking.x-k8s.io_inferencepoolimports.yaml",
    "inference-v1.1.0/inference.networking.x-k8s.io_inferencepools.yaml",
    "inference-v1.1.0/inference.networking.x-k8s.io_inferencepoolimports.yaml",
    "inference-v1.1.0/inference.networking.x-k8s.io_inferenceobjectives.yaml",
    "llm-d/llm-d.ai_inferenceobjectives.yaml",
    "llm-d/llm-d.ai_inferencemodelrewrites.yaml",
]
# Words of a schema that are ours to choose, or that say how something is checked and not what.
OURS = {"description"}


def facts(schema: Any) -> Any:
    """A schema without words that are each project's own, in a canonical order."""
    if isinstance(schema, list):
        return [facts(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key in OURS and isinstance(value, str):
            continue
        if key == "minLength" and value == 0:
            continue
        if key == "properties":
            result[key] = {name: facts(inner) for name, inner in value.items()}
        elif key == "required":
            result[key] = sorted(value)
        else:
            result[key] = facts(value)
    return result


@functools.cache
def by_name() -> dict[str, dict[str, Any]]:
    return {d.name: crds.to_object(d) for d in crds.all_definitions()}


@pytest.mark.skipif(
    not PUBLISHED.exists(), reason="the published CRDs are not here: ../shared/crds"
)
@pytest.mark.parametrize("file", FILES)
def test_inference_kinds_are_the_published_ones(file: str) -> None:
    published = yaml.safe_load((PUBLISHED / file).read_text())
    ours = by_name()[published["metadata"]["name"]]
    assert ours["spec"]["names"] == published["spec"]["names"]
    assert ours["spec"]["scope"] == published["spec"]["scope"]
    for version in published["spec"]["versions"]:
        mine = next(v for v in ours["spec"]["versions"] if v["name"] == version["name"])
        assert mine.get("subresources") == version.get("subresources")
        wanted = facts(version["schema"]["openAPIV3Schema"])
        if "v1.1.0" in file and "objectives" in file:
            # The later group gives the number its size, which the older one left open.
            wanted["properties"]["spec"]["properties"]["priority"]["format"] = "int32"
        assert facts(mine["schema"]["openAPIV3Schema"]) == wanted


@pytest.mark.parametrize("definition", crds.own_definitions(), ids=lambda d: d.plural)
def test_the_chart_carries_the_same_kinds(definition: crds.Definition) -> None:
    chart = yaml.safe_load((CHART / f"{definition.plural}.spec.yaml").read_text())["spec"]
    ours = crds.to_object(definition)["spec"]
    assert ours["names"] == chart["names"]
    mine, theirs = ours["versions"][0], chart["versions"][0]
    assert mine["additionalPrinterColumns"] == theirs["additionalPrinterColumns"]
    assert facts(mine["schema"]) == facts(theirs["schema"])


def test_every_definition_is_whole() -> None:
    names = [definition.name for definition in crds.all_definitions()]
    assert len(names) == len(set(names)) == 14
    for crd in by_name().values():
        versions = crd["spec"]["versions"]
        assert sum(version["storage"] for version in versions) == 1
        assert crd["metadata"]["name"] == f"{crd['spec']['names']['plural']}.{crd['spec']['group']}"


def test_every_field_is_described() -> None:
    missing: list[str] = []

    def walk(schema: Any, path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            below = f"{path}.{name}"
            if "description" not in inner and name != "metadata":
                missing.append(below)
            walk(inner, below)
        if isinstance(schema.get("items"), dict):
            walk(schema["items"], path)

    for name, crd in by_name().items():
        walk(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name)
    assert missing == []


def test_useful_columns() -> None:
    columns = {
        name: [c["name"] for c in crd["spec"]["versions"][0]["additionalPrinterColumns"]]
        for name, crd in by_name().items()
    }
    assert columns["gateways.gateway.networking.k8s.io"] == [
        "Class",
        "Address",
        "Programmed",
        "Age",
    ]
    assert columns["inferencepools.inference.networking.k8s.io"][:2] == ["Ports", "Picker"]
