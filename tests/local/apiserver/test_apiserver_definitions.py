"""CustomResourceDefinitions at run time: served at once, versions, columns, clean-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from apiserver_rig import DEFINITIONS, WIDGETS, Rig, running, widget_definition

WIDGET = {
    "apiVersion": "example.com/v1",
    "kind": "Widget",
    "metadata": {"name": "w"},
    "spec": {"size": 3},
}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_a_definition_is_served_in_the_same_cycle(rig: Rig) -> None:
    made = await rig.ok("POST", DEFINITIONS, widget_definition())
    conditions = {c["type"]: c["status"] for c in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert made["status"]["storedVersions"] == ["v1"]
    widget = await rig.ok("POST", WIDGETS, WIDGET)
    assert widget["metadata"]["generation"] == 1
    groups = await rig.ok("GET", "/apis")
    assert "example.com" in [group["name"] for group in groups["groups"]]
    resources = await rig.ok("GET", "/apis/example.com/v1")
    names = [resource["name"] for resource in resources["resources"]]
    assert names == ["widgets", "widgets/status"]


async def test_an_update_of_a_custom_object_needs_its_version(rig: Rig) -> None:
    await rig.ok("POST", DEFINITIONS, widget_definition())
    await rig.ok("POST", WIDGETS, WIDGET)
    answer = await rig.call("PUT", f"{WIDGETS}/w", WIDGET)
    assert answer.status == 422
    assert "metadata.resourceVersion: Invalid value" in answer.message


async def test_columns_come_from_json_paths(rig: Rig) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {
            "name": "Ready",
            "type": "string",
            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
        },
    ]
    await rig.ok("POST", DEFINITIONS, widget_definition(additionalPrinterColumns=columns))
    await rig.ok("POST", WIDGETS, WIDGET)
    status = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    merge = "application/merge-patch+json"
    await rig.ok("PATCH", f"{WIDGETS}/w/status", status, media=merge)
    table = (await rig.call("GET", WIDGETS, Accept=TABLE)).body
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Ready"]
    assert table["rows"][0]["cells"] == ["w", 3, "True"]


async def test_versions_share_their_objects(rig: Rig) -> None:
    definition = widget_definition()
    versions = definition["spec"]["versions"]
    versions.append({**versions[0], "name": "v2", "storage": False})
    await rig.ok("POST", DEFINITIONS, definition)
    await rig.ok("POST", WIDGETS, WIDGET)
    other = WIDGETS.replace("/v1/", "/v2/")
    seen = await rig.ok("GET", f"{other}/w")
    assert (seen["apiVersion"], seen["spec"]["size"]) == ("example.com/v2", 3)
    seen["spec"]["size"] = 4
    await rig.ok("PUT", f"{other}/w", seen)
    assert (await rig.ok("GET", f"{WIDGETS}/w"))["spec"]["size"] == 4
    group = await rig.ok("GET", "/apis/example.com")
    assert group["preferredVersion"]["version"] == "v2"


async def test_a_deleted_definition_takes_its_objects_along(rig: Rig) -> None:
    await rig.ok("POST", DEFINITIONS, widget_definition())
    held = {**WIDGET, "metadata": {"name": "held", "finalizers": ["example.com/x"]}}
    await rig.ok("POST", WIDGETS, WIDGET)
    await rig.ok("POST", WIDGETS, held)
    await rig.ok("DELETE", f"{DEFINITIONS}/widgets.example.com")
    left = await rig.ok("GET", WIDGETS)
    assert [item["metadata"]["name"] for item in left["items"]] == ["held"]
    gone: dict[str, Any] = {"metadata": {"finalizers": None}}
    merge = "application/merge-patch+json"
    await rig.ok("PATCH", f"{WIDGETS}/held", gone, media=merge)
    assert (await rig.call("GET", f"{DEFINITIONS}/widgets.example.com")).status == 404
    assert (await rig.call("GET", WIDGETS)).status == 404


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {"name": "other"}}, "metadata.name: Invalid value"),
        ({"scope": "Galaxy"}, 'spec.scope: Unsupported value: "Galaxy"'),
        ({"group": ""}, "spec.group: Required value"),
        (
            {"conversion": {"strategy": "Webhook"}},
            'spec.conversion.strategy: Unsupported value: "Webhook": supported values: "None"',
        ),
    ],
)
async def test_bad_definitions_are_refused(rig: Rig, change: dict[str, Any], message: str) -> None:
    definition = widget_definition()
    definition |= {key: change[key] for key in change if key == "metadata"}
    definition["spec"] |= {key: change[key] for key in change if key != "metadata"}
    answer = await rig.call("POST", DEFINITIONS, definition)
    assert answer.status == 422
    assert message in answer.message


async def test_the_built_in_kinds_are_definitions(rig: Rig) -> None:
    for path in (
        "/apis/gateway.networking.k8s.io/v1/gateways",
        "/apis/gateway.networking.k8s.io/v1/httproutes",
        "/apis/inference.networking.k8s.io/v1/inferencepools",
    ):
        assert (await rig.ok("GET", path))["items"] == []


async def test_a_definition_of_the_user_s_own_survives_a_restart(tmp_path: Path) -> None:
    """Built-in definitions are renewed at start only while nobody else has written them."""
    path = f"{DEFINITIONS}/inferencepools.inference.networking.k8s.io"
    async with running(tmp_path) as rig:
        before = await rig.ok("GET", path)
        other = await rig.ok("GET", f"{DEFINITIONS}/gateways.gateway.networking.k8s.io")
        change = {"spec": {"names": {"shortNames": ["mine"]}}}
        await rig.ok("PATCH", path, change, media="application/merge-patch+json")
    async with running(tmp_path) as rig:
        after = await rig.ok("GET", path)
        assert after["spec"]["names"]["shortNames"] == ["mine"]
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        again = await rig.ok("GET", f"{DEFINITIONS}/gateways.gateway.networking.k8s.io")
        assert again == other
