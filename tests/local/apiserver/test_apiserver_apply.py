"""Server-side apply and field validation through the server."""

from __future__ import annotations

from typing import Any

import pytest
from apiserver_rig import CONFIG_MAPS, DEFINITIONS, WIDGETS, Rig, config_map, widget_definition

APPLY = "application/apply-patch+yaml"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def deployment(**spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    selector = {"matchLabels": {"a": "b"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {"selector": selector, "template": template, **spec},
    }


async def test_apply_creates_and_says_so(rig: Rig) -> None:
    answer = await rig.call(
        "PATCH", f"{CONFIG_MAPS}/a?fieldManager=me", config_map("a", {"x": "1"}), media=APPLY
    )
    assert answer.status == 201
    (entry,) = answer.body["metadata"]["managedFields"]
    assert (entry["manager"], entry["operation"]) == ("me", "Apply")
    assert entry["fieldsV1"] == {"f:data": {"f:x": {}}}


async def test_appliers_conflict_and_force(rig: Rig) -> None:
    path = f"{DEPLOYMENTS}/d"
    await rig.ok("PATCH", f"{path}?fieldManager=one", deployment(replicas=1), media=APPLY)
    answer = await rig.call(
        "PATCH", f"{path}?fieldManager=two", deployment(replicas=2), media=APPLY
    )
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert answer.message == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    (cause,) = answer.body["details"]["causes"]
    assert cause["reason"] == "FieldManagerConflict"
    forced = await rig.ok(
        "PATCH", f"{path}?fieldManager=two&force=true", deployment(replicas=2), media=APPLY
    )
    assert forced["spec"]["replicas"] == 2
    assert forced["metadata"]["generation"] == 2


async def test_applying_the_same_again_changes_nothing(rig: Rig) -> None:
    path = f"{DEPLOYMENTS}/d?fieldManager=one"
    first = await rig.ok("PATCH", path, deployment(replicas=1), media=APPLY)
    again = await rig.ok("PATCH", path, deployment(replicas=1), media=APPLY)
    assert again == first


async def test_what_is_left_out_of_an_apply_goes(rig: Rig) -> None:
    path = f"{CONFIG_MAPS}/a?fieldManager=one"
    await rig.ok("PATCH", path, config_map("a", {"x": "1", "y": "2"}), media=APPLY)
    changed = await rig.ok("PATCH", path, config_map("a", {"x": "1"}), media=APPLY)
    assert changed["data"] == {"x": "1"}


async def test_a_status_is_applied_on_its_own(rig: Rig) -> None:
    await rig.ok("POST", DEFINITIONS, widget_definition())
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    await rig.ok("POST", WIDGETS, {**widget, "spec": {"size": 1}})
    path = f"{WIDGETS}/w/status?fieldManager=controller&force=true"
    body = {**widget, "status": {"phase": "Fine"}}
    applied = await rig.ok("PATCH", path, body, media=APPLY)
    assert (applied["status"], applied["spec"]["size"]) == ({"phase": "Fine"}, 1)
    entry = next(e for e in applied["metadata"]["managedFields"] if e["operation"] == "Apply")
    assert (entry["manager"], entry["subresource"]) == ("controller", "status")


async def test_apply_needs_a_manager(rig: Rig) -> None:
    answer = await rig.call("PATCH", f"{CONFIG_MAPS}/a", config_map("a"), media=APPLY)
    assert answer.status == 400
    assert "fieldManager: Required value" in answer.message


@pytest.mark.parametrize(("mode", "code"), [("Strict", 400), ("Warn", 201), ("Ignore", 201)])
async def test_unknown_fields(rig: Rig, mode: str, code: int) -> None:
    body = deployment(replicass=1)
    answer = await rig.call("POST", f"{DEPLOYMENTS}?fieldValidation={mode}", body)
    assert answer.status == code
    text = 'unknown field "spec.replicass"'
    if mode == "Strict":
        assert text in answer.message
    else:
        assert "replicass" not in answer.body["spec"]
    quoted = text.replace('"', '\\"')
    assert answer.warnings == ([f'299 - "{quoted}"'] if mode == "Warn" else [])


async def test_rules_in_cel_are_asked(rig: Rig) -> None:
    definition = widget_definition()
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["x-kubernetes-validations"] = [
        {"rule": "self.size < 10 || self.color == 'red'", "message": "large ones are red"},
        {"rule": "self.color == oldSelf.color", "message": "the color stays"},
        {"rule": "self.unknownFunction('x')", "message": "never asked"},
    ]
    await rig.ok("POST", DEFINITIONS, definition)
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    made = await rig.ok("POST", WIDGETS, {**widget, "spec": {"size": 1, "color": "blue"}})
    for spec, message in (
        ({"size": 20, "color": "blue"}, "large ones are red"),
        ({"size": 1, "color": "red"}, "the color stays"),
    ):
        answer = await rig.call("PUT", f"{WIDGETS}/w", {**made, "spec": spec})
        assert answer.status == 422
        assert message in answer.message
    made["spec"]["size"] = 9
    await rig.ok("PUT", f"{WIDGETS}/w", made)


async def test_custom_objects_are_defaulted_pruned_and_judged(rig: Rig) -> None:
    await rig.ok("POST", DEFINITIONS, widget_definition())
    widget = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    made = await rig.ok("POST", WIDGETS, {**widget, "spec": {"size": 1, "extra": True}})
    assert made["spec"] == {"size": 1, "color": "red"}
    for spec, message in (
        ({"size": 0}, "spec.size in body should be greater than or equal to 1"),
        ({}, "spec.size: Required value"),
        ({"size": "big"}, "spec.size in body must be of type integer"),
    ):
        body = {**widget, "metadata": {"name": "x"}, "spec": spec}
        answer = await rig.call("POST", WIDGETS, body)
        assert answer.status == 422
        assert message in answer.message
