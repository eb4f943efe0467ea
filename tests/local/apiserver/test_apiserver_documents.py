"""Discovery, OpenAPI, and the forms in which the same objects are given."""

from __future__ import annotations

import pytest
import yaml
from apiserver_rig import CONFIG_MAPS, DEFINITIONS, PODS, Rig, config_map, pod, widget_definition

from inferway.local.apiserver.http.bodies import REQUEST_BYTES_MAX
from inferway.local.apiserver.http.streams import Watchers
from inferway.local.apiserver.registry.errors import StatusError

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


async def test_both_forms_of_discovery_say_the_same(rig: Rig) -> None:
    found = set()
    for root in ("/api", "/apis"):
        answer = await rig.call("GET", root, Accept=f"{AGGREGATED},application/json")
        assert answer.headers["Content-Type"] == AGGREGATED
        for group in answer.body["items"]:
            for version in group["versions"]:
                name = group["metadata"].get("name", "")
                found |= {(name, version["version"], r["resource"]) for r in version["resources"]}
    listed = set()
    groups = (await rig.ok("GET", "/apis"))["groups"]
    paths = [("", "v1", "/api/v1")]
    paths += [
        (g["name"], v["version"], f"/apis/{v['groupVersion']}")
        for g in groups
        for v in g["versions"]
    ]
    for name, version, path in paths:
        resources = (await rig.ok("GET", path))["resources"]
        listed |= {(name, version, r["name"]) for r in resources if "/" not in r["name"]}
    assert found == listed
    assert ("apps", "v1", "deployments") in found
    assert ("gateway.networking.k8s.io", "v1", "httproutes") in found


async def test_open_api_documents(rig: Rig) -> None:
    index = (await rig.ok("GET", "/openapi/v3"))["paths"]
    apps = index["apis/apps/v1"]["serverRelativeURL"]
    document = await rig.ok("GET", apps)
    path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    patch = document["paths"][path]["patch"]
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Deployment"
    schema = document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"]
    assert schema["description"]
    for raw, name in ((document, "apps"), (await rig.ok("GET", "/openapi/v3/api/v1"), "core")):
        schemas = raw["components"]["schemas"]
        text = yaml.safe_dump(raw)
        missing = [
            line.split("/")[-1]
            for line in text.splitlines()
            if "#/components/schemas/" in line and line.split("/")[-1].strip("'") not in schemas
        ]
        assert missing == [], name
    await rig.ok("POST", DEFINITIONS, widget_definition())
    changed = (await rig.ok("GET", "/openapi/v3"))["paths"]
    assert "apis/example.com/v1" in changed
    assert changed["apis/apps/v1"] == index["apis/apps/v1"]
    refused = await rig.call("GET", "/openapi/v2")
    assert refused.status == 406


async def test_the_document_of_version_two_names_no_kind(rig: Rig) -> None:
    form = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    answer = await rig.call("GET", "/openapi/v2", Accept=form)
    assert (answer.status, answer.body) == (200, b"\n\x032.0\x12\x15\n\nKubernetes\x12\x07v1.37.0")


async def test_forms_of_objects(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a"))
    table = (await rig.call("GET", f"{PODS}?includeObject=Object", Accept=TABLE)).body
    assert table["kind"] == "Table"
    assert table["rows"][0]["object"]["spec"]["containers"]
    one = (await rig.call("GET", f"{PODS}/a", Accept=TABLE)).body
    assert one["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    partial = (await rig.call("GET", PODS, Accept=PARTIAL)).body
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    text = (await rig.call("GET", f"{PODS}/a", Accept="application/yaml")).body
    assert yaml.safe_load(text)["metadata"]["name"] == "a"
    both = "application/vnd.kubernetes.protobuf,application/json"
    assert (await rig.call("GET", f"{PODS}/a", Accept=both)).body["kind"] == "Pod"
    only = "application/vnd.kubernetes.protobuf"
    assert (await rig.call("GET", f"{PODS}/a", Accept=only)).status == 406


async def test_a_watch_of_tables(rig: Rig) -> None:
    await rig.ok("POST", PODS, pod("a"))
    await rig.ok("POST", PODS, pod("b"))
    headers = {"Authorization": f"Bearer {rig.token}", "Accept": TABLE}
    url = f"{rig.server.url}{PODS}?watch=1"
    async with rig.session.get(url, headers=headers) as response:
        lines = [yaml.safe_load(await response.content.readline()) for _ in range(2)]
    assert [line["object"]["kind"] for line in lines] == ["Table", "Table"]
    assert [bool(line["object"]["columnDefinitions"]) for line in lines] == [True, False]


async def test_bodies_in_other_forms(rig: Rig) -> None:
    text = yaml.safe_dump(config_map("a", {"k": "v"})).encode()
    assert (await rig.call("POST", CONFIG_MAPS, text, media="application/yaml")).status == 201
    answer = await rig.call("POST", CONFIG_MAPS, b"x", media="application/cbor")
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")
    answer = await rig.call("POST", CONFIG_MAPS, b"- [", media="application/yaml")
    assert answer.status == 400
    answer = await rig.call("PATCH", f"{CONFIG_MAPS}/a", {}, media="application/json")
    assert answer.status == 415
    answer = await rig.call("POST", CONFIG_MAPS, b" " * (REQUEST_BYTES_MAX + 1))
    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")
    large = config_map("large", {"k": "x" * 1_600_000})
    answer = await rig.call("POST", CONFIG_MAPS, large)
    assert answer.status in (413, 422)


async def test_bad_parameters_are_named(rig: Rig) -> None:
    for query, text in (
        ("limit=many", 'invalid value for limit: "many" is not a whole number'),
        ("watch=perhaps", 'invalid value for watch: "perhaps" is not a boolean'),
        ("continue=x", "continue key is not valid"),
        ("resourceVersionMatch=Exact", "resourceVersionMatch is forbidden unless"),
        ("watch=1&sendInitialEvents=true", "sendInitialEvents requires setting"),
        ("labelSelector=a b", "unable to parse requirement"),
        ("includeObject=All", 'unsupported includeObject value: "All"'),
    ):
        answer = await rig.call("GET", f"{CONFIG_MAPS}?{query}")
        assert answer.status == 400, query
        assert answer.message.startswith(text)
    answer = await rig.call("POST", f"{CONFIG_MAPS}?dryRun=Some", config_map("a"))
    assert answer.status == 400
    answer = await rig.call("DELETE", f"{CONFIG_MAPS}/kube-root-ca.crt?propagationPolicy=Maybe")
    assert answer.status == 422


def test_watches_are_counted() -> None:
    watchers = Watchers(watchers_max=1)
    watchers.enter()
    with pytest.raises(StatusError) as caught:
        watchers.enter()
    assert (caught.value.code, caught.value.details) == (429, {"retryAfterSeconds": 1})
    watchers.leave()
    watchers.enter()
