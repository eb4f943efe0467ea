"""The verbs over HTTPS: what they answer, in Kubernetes' words."""

from __future__ import annotations

import pytest
from apiserver_rig import CONFIG_MAPS, CORE, PODS, Rig, config_map, pod


async def test_create_sets_the_system_fields(rig: Rig) -> None:
    made = await rig.ok("POST", CONFIG_MAPS, config_map("a", {"k": "v"}))
    metadata = made["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert int(metadata["resourceVersion"]) == rig.server.revision
    assert await rig.ok("GET", f"{CONFIG_MAPS}/a") == made


async def test_generate_name_makes_names_that_differ(rig: Rig) -> None:
    body = config_map("", generateName="job-")
    names = {(await rig.ok("POST", CONFIG_MAPS, body))["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "reason", "message"),
    [
        ("GET", f"{CONFIG_MAPS}/no", None, 404, "NotFound", 'configmaps "no" not found'),
        (
            "POST",
            "/api/v1/namespaces/nowhere/configmaps",
            config_map("a"),
            404,
            "NotFound",
            'namespaces "nowhere" not found',
        ),
        (
            "POST",
            CONFIG_MAPS,
            config_map("kube-root-ca.crt"),
            409,
            "AlreadyExists",
            'configmaps "kube-root-ca.crt" already exists',
        ),
        (
            "POST",
            CONFIG_MAPS,
            config_map("Bad_Name"),
            422,
            "Invalid",
            'ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lower',
        ),
        (
            "POST",
            CONFIG_MAPS,
            pod("a"),
            400,
            "BadRequest",
            "the API version in the data (v1, Kind=Pod) does not match the expected API version",
        ),
        ("POST", CONFIG_MAPS, b"{", 400, "BadRequest", "the body of the request is not JSON"),
        ("GET", "/apis/nothing/v1/things", None, 404, "NotFound", "the server could not find"),
        ("GET", f"{PODS}/a/nothing", None, 404, "NotFound", "the server could not find"),
        ("PUT", CONFIG_MAPS, config_map("a"), 405, "MethodNotAllowed", "the server does not allow"),
        (
            "GET",
            f"{CONFIG_MAPS}?fieldSelector=data.x%3D1",
            None,
            400,
            "BadRequest",
            "field label not supported: data.x",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default",
            None,
            403,
            "Forbidden",
            'namespaces "default" is forbidden: this namespace may not be deleted',
        ),
    ],
)
async def test_refusals(
    rig: Rig, method: str, path: str, body: object, code: int, reason: str, message: str
) -> None:
    answer = await rig.call(method, path, body)
    assert (answer.status, answer.body["reason"], answer.body["kind"]) == (code, reason, "Status")
    assert answer.message.startswith(message)


async def test_an_update_with_an_old_version_conflicts(rig: Rig) -> None:
    made = await rig.ok("POST", CONFIG_MAPS, config_map("a"))
    await rig.ok("PUT", f"{CONFIG_MAPS}/a", config_map("a", {"x": "1"}))
    answer = await rig.call("PUT", f"{CONFIG_MAPS}/a", {**made, "data": {"x": "2"}})
    assert answer.status == 409
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please '
        "apply your changes to the latest version and try again"
    )


async def test_a_write_that_changes_nothing_makes_no_revision(rig: Rig) -> None:
    made = await rig.ok("POST", CONFIG_MAPS, config_map("a", {"x": "1"}))
    again = await rig.ok("PUT", f"{CONFIG_MAPS}/a", made)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_status_and_spec_are_written_apart(rig: Rig) -> None:
    await rig.ok("POST", PODS, {**pod("a"), "status": {"phase": "Running"}})
    body = {"status": {"phase": "Running"}, "spec": {"nodeName": "ignored"}}
    merge = "application/merge-patch+json"
    changed = await rig.ok("PATCH", f"{PODS}/a/status", body, media=merge)
    assert changed["status"]["phase"] == "Running"
    assert "nodeName" not in changed["spec"]
    main = await rig.ok("PATCH", f"{PODS}/a", {"status": {"phase": "Failed"}}, media=merge)
    assert main["status"]["phase"] == "Running"


async def test_generation_counts_changes_of_the_spec(rig: Rig) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    assert (await rig.ok("POST", path, body))["metadata"]["generation"] == 1
    merge = "application/merge-patch+json"
    labelled = {"metadata": {"labels": {"x": "y"}}}
    unchanged = await rig.ok("PATCH", f"{path}/d", labelled, media=merge)
    assert unchanged["metadata"]["generation"] == 1
    scaled = await rig.ok("PATCH", f"{path}/d", {"spec": {"replicas": 3}}, media=merge)
    assert scaled["metadata"]["generation"] == 2
    scale = await rig.ok("GET", f"{path}/d/scale")
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"]["selector"] == "a=b"
    scale["spec"]["replicas"] = 5
    assert (await rig.ok("PUT", f"{path}/d/scale", scale))["spec"]["replicas"] == 5
    assert (await rig.ok("GET", f"{path}/d"))["metadata"]["generation"] == 3


async def test_finalizers_hold_a_deleted_object(rig: Rig) -> None:
    await rig.ok("POST", CONFIG_MAPS, config_map("a", finalizers=["example.com/x"]))
    marked = await rig.ok("DELETE", f"{CONFIG_MAPS}/a")
    assert marked["metadata"]["deletionTimestamp"]
    assert (await rig.call("GET", f"{CONFIG_MAPS}/a")).status == 200
    merge = "application/merge-patch+json"
    gone = {"metadata": {"finalizers": None}}
    await rig.ok("PATCH", f"{CONFIG_MAPS}/a", gone, media=merge)
    assert (await rig.call("GET", f"{CONFIG_MAPS}/a")).status == 404


async def test_propagation_sets_finalizers(rig: Rig) -> None:
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        name = policy.lower()
        await rig.ok("POST", CONFIG_MAPS, config_map(name))
        marked = await rig.ok("DELETE", f"{CONFIG_MAPS}/{name}", {"propagationPolicy": policy})
        assert marked["metadata"]["finalizers"] == [finalizer]


async def test_a_bound_pod_waits_for_its_node(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a"))
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
    await rig.ok("POST", f"{PODS}/a/binding", binding)
    again = await rig.call("POST", f"{PODS}/a/binding", binding)
    assert again.status == 409
    marked = await rig.ok("DELETE", f"{PODS}/a")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await rig.ok("GET", f"{PODS}/a"))["metadata"]["deletionTimestamp"]
    await rig.ok("DELETE", f"{PODS}/a", {"gracePeriodSeconds": 0})
    assert (await rig.call("GET", f"{PODS}/a")).status == 404


async def test_preconditions_protect_from_deleting_another_object(rig: Rig) -> None:
    await rig.ok("POST", CONFIG_MAPS, config_map("a"))
    options = {"preconditions": {"uid": "other"}}
    answer = await rig.call("DELETE", f"{CONFIG_MAPS}/a", options)
    assert answer.status == 409
    assert "Precondition failed: UID in precondition: other" in answer.message


async def test_dry_run_changes_nothing(rig: Rig) -> None:
    revision = rig.server.revision
    made = await rig.ok("POST", f"{CONFIG_MAPS}?dryRun=All", config_map("a"))
    assert made["metadata"]["uid"]
    assert (await rig.call("GET", f"{CONFIG_MAPS}/a")).status == 404
    await rig.ok("DELETE", f"{CONFIG_MAPS}/kube-root-ca.crt?dryRun=All")
    assert (await rig.call("GET", f"{CONFIG_MAPS}/kube-root-ca.crt")).status == 200
    assert rig.server.revision == revision


async def test_lists_come_in_pages_of_one_revision(rig: Rig) -> None:
    for number in range(5):
        await rig.ok("POST", CONFIG_MAPS, config_map(f"m{number}", labels={"page": "yes"}))
    query = "labelSelector=page%3Dyes&limit=2"
    first = await rig.ok("GET", f"{CONFIG_MAPS}?{query}")
    assert first["metadata"]["remainingItemCount"] == 3
    await rig.ok("DELETE", f"{CONFIG_MAPS}/m3")
    await rig.ok("POST", CONFIG_MAPS, config_map("m9", labels={"page": "yes"}))
    names, token = [item["metadata"]["name"] for item in first["items"]], first["metadata"]
    while token.get("continue"):
        page = await rig.ok("GET", f"{CONFIG_MAPS}?{query}&continue={token['continue']}")
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"]
    assert names == ["m0", "m1", "m2", "m3", "m4"]


async def test_selectors(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a", labels={"app": "x", "tier": "web"}))
    await rig.ok("POST", PODS, pod("b", labels={"app": "y"}))
    for query, names in (
        ("labelSelector=app%3Dx", ["a"]),
        ("labelSelector=app+in+(x,y),!tier", ["b"]),
        ("labelSelector=app!%3Dx", ["b"]),
        ("labelSelector=tier", ["a"]),
        ("fieldSelector=metadata.name%3Db", ["b"]),
        ("fieldSelector=status.phase%3DPending", ["a", "b"]),
        ("fieldSelector=spec.nodeName%3Dn1", []),
    ):
        found = await rig.ok("GET", f"{PODS}?{query}")
        assert [item["metadata"]["name"] for item in found["items"]] == names, query


async def test_namespaces_are_emptied_before_they_go(rig: Rig) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n1"}}
    await rig.ok("POST", "/api/v1/namespaces", namespace)
    account = await rig.ok("GET", "/api/v1/namespaces/n1/serviceaccounts/default")
    assert account["kind"] == "ServiceAccount"
    going = await rig.ok("DELETE", "/api/v1/namespaces/n1")
    assert going["status"]["phase"] == "Terminating"
    refused = await rig.call("POST", "/api/v1/namespaces/n1/configmaps", config_map("a"))
    assert refused.status == 403
    assert "because it is being terminated" in refused.message
    going["spec"] = {"finalizers": []}
    await rig.ok("PUT", "/api/v1/namespaces/n1/finalize", going)
    assert (await rig.call("GET", "/api/v1/namespaces/n1")).status == 404


async def test_the_ground_that_pods_stand_on_comes_back(rig: Rig) -> None:
    for path in (
        f"{CORE}/serviceaccounts/default",
        f"{CONFIG_MAPS}/kube-root-ca.crt",
        f"{CORE}/services/kubernetes",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
    ):
        before = (await rig.ok("GET", path))["metadata"]["uid"]
        await rig.ok("DELETE", path)
        assert (await rig.ok("GET", path))["metadata"]["uid"] != before


async def test_delete_collection_takes_what_matches(rig: Rig) -> None:
    for name, value in (("a", "x"), ("b", "x"), ("c", "y")):
        await rig.ok("POST", CONFIG_MAPS, config_map(name, labels={"k": value}))
    await rig.ok("DELETE", f"{CONFIG_MAPS}?labelSelector=k%3Dx")
    left = await rig.ok("GET", f"{CONFIG_MAPS}?labelSelector=k")
    assert [item["metadata"]["name"] for item in left["items"]] == ["c"]


async def test_both_event_apis_show_the_same_event(rig: Rig) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "reason": "Started",
        "message": "it runs",
        "type": "Normal",
        "count": 1,
    }
    await rig.ok("POST", f"{CORE}/events", event)
    seen = await rig.ok("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (seen["apiVersion"], seen["note"]) == ("events.k8s.io/v1", "it runs")
    assert seen["regarding"]["name"] == "a"
    found = await rig.ok("GET", f"{CORE}/events?fieldSelector=involvedObject.name%3Da")
    assert len(found["items"]) == 1
