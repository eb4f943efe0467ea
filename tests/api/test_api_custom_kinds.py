"""Decoding of Gateway API, inference and Inferway's own objects."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.api import codec, crds, resources
from inferway.api.gateway import Gateway, HTTPRoute, ListenerStatus, ReferenceGrant
from inferway.api.inference import (
    InferenceModelRewrite,
    InferencePool,
    LegacyInferencePool,
    pool_from_legacy,
)
from inferway.api.inferway import GatewayParameters, LoRAAdapter
from inferway.api.schema.defaulting import apply_defaults
from inferway.api.schema.load import load_schema


def test_a_gateway_is_read_with_its_defaults() -> None:
    gateway = codec.decode(
        Gateway,
        {
            "metadata": {"name": "g"},
            "spec": {
                "gatewayClassName": "inferway",
                "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            },
        },
    )
    assert gateway.spec.listeners[0].allowed_routes.namespaces.from_ == "Same"
    assert gateway.status.conditions == ()


def test_a_route_is_read_with_its_defaults() -> None:
    route = codec.decode(
        HTTPRoute,
        {
            "spec": {
                "parentRefs": [{"name": "g"}],
                "rules": [
                    {
                        "backendRefs": [
                            {
                                "group": "inference.networking.k8s.io",
                                "kind": "InferencePool",
                                "name": "p",
                            }
                        ],
                        "filters": [
                            {"type": "URLRewrite", "urlRewrite": {"hostname": "h"}},
                            {
                                "type": "RequestHeaderModifier",
                                "requestHeaderModifier": {"set": [{"name": "a", "value": "b"}]},
                            },
                        ],
                        "timeouts": {"request": "300s"},
                    }
                ],
            }
        },
    )
    rule = route.spec.rules[0]
    assert rule.matches[0].path.value == "/"
    assert rule.backend_refs[0].weight == 1
    assert rule.filters[0].url_rewrite is not None
    assert rule.filters[0].url_rewrite.hostname == "h"
    assert rule.timeouts is not None
    assert rule.timeouts.request == "300s"
    assert rule.timeouts.backend_request is None


def test_statuses_are_written_with_what_the_schema_demands() -> None:
    status = codec.encode(ListenerStatus(name="http"))
    assert status == {"name": "http", "supportedKinds": [], "attachedRoutes": 0, "conditions": []}


def test_a_grant_is_read() -> None:
    raw = {
        "spec": {
            "from": [{"group": "g", "kind": "HTTPRoute", "namespace": "n"}],
            "to": [{"group": "", "kind": "Service"}],
        }
    }
    assert codec.decode(ReferenceGrant, raw).spec.from_[0].namespace == "n"


def test_a_legacy_pool_reads_as_a_pool() -> None:
    legacy = codec.decode(
        LegacyInferencePool,
        {
            "metadata": {"name": "p"},
            "spec": {
                "selector": {"app": "vllm"},
                "targetPortNumber": 8000,
                "extensionRef": {"name": "epp", "failureMode": "FailOpen"},
            },
        },
    )
    pool = codec.decode(
        InferencePool,
        {
            "metadata": {"name": "p"},
            "spec": {
                "selector": {"matchLabels": {"app": "vllm"}},
                "targetPorts": [{"number": 8000}],
                "endpointPickerRef": {
                    "name": "epp",
                    "port": {"number": 9002},
                    "failureMode": "FailOpen",
                },
            },
        },
    )
    assert pool_from_legacy(legacy) == pool
    assert pool_from_legacy(codec.decode(LegacyInferencePool, {})) is None


def test_other_kinds() -> None:
    rewrite = codec.decode(
        InferenceModelRewrite,
        {
            "spec": {
                "poolRef": {"name": "p"},
                "rules": [{"targets": [{"modelRewrite": "m", "weight": 2}]}],
            }
        },
    )
    assert rewrite.spec is not None
    assert rewrite.spec.rules[0].targets[0].weight == 2
    parameters = codec.decode(GatewayParameters, {"spec": {"resources": {"limits": {"cpu": 1}}}})
    assert parameters.spec.service_type == "LoadBalancer"


def test_named_resources_are_the_kinds_that_we_define() -> None:
    defined = {
        (d.group, version, d.kind, d.plural, d.namespaced)
        for d in crds.all_definitions()
        for version in d.versions
    }
    named = {
        (r.group, r.version, r.kind, r.plural, r.namespaced)
        for r in vars(resources).values()
        if isinstance(r, resources.ResourceType) and r.group in {d.group for d in custom_kinds()}
    }
    assert named <= defined
    assert {entry[3] for entry in named} == {d.plural for d in custom_kinds()}


def custom_kinds() -> tuple[crds.Definition, ...]:
    return crds.all_definitions()


@pytest.mark.parametrize(
    ("struct", "spec"),
    [
        (
            Gateway,
            {
                "gatewayClassName": "c",
                "addresses": [{"value": "127.0.0.1"}],
                "allowedListeners": {},
                "listeners": [
                    {"name": "a", "port": 1, "protocol": "HTTPS", "tls": {}, "allowedRoutes": {}}
                ],
            },
        ),
        (
            HTTPRoute,
            {
                "parentRefs": [{"name": "g"}],
                "rules": [
                    {
                        "matches": [{"headers": [{"name": "a", "value": "b"}]}, {"path": {}}],
                        "backendRefs": [{"name": "s", "port": 1}],
                        "sessionPersistence": {"cookie": {}},
                        "filters": [
                            {"type": "RequestRedirect", "requestRedirect": {}},
                            {"type": "CORS", "cors": {}},
                            {
                                "type": "RequestMirror",
                                "requestMirror": {
                                    "backendRef": {"name": "s"},
                                    "fraction": {"numerator": 1},
                                },
                            },
                        ],
                    }
                ],
            },
        ),
        (HTTPRoute, {}),
        (
            InferencePool,
            {
                "selector": {"matchLabels": {"a": "b"}},
                "targetPorts": [{"number": 1}],
                "endpointPickerRef": {"name": "p"},
            },
        ),
        (
            LegacyInferencePool,
            {"selector": {"a": "b"}, "targetPortNumber": 1, "extensionRef": {"name": "p"}},
        ),
        (GatewayParameters, {}),
        (LoRAAdapter, {"poolRef": {"name": "p"}, "source": "/adapter"}),
    ],
)
def test_readers_see_the_defaults_that_the_server_sets(
    struct: type[codec.ApiStruct], spec: dict[str, Any]
) -> None:
    definition = next(d for d in crds.all_definitions() if d.struct is struct)
    raw = crds.to_object(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    full = apply_defaults(load_schema(raw), {"spec": spec})
    full.pop("status", None)
    assert codec.decode(struct, {"spec": spec}) == codec.decode(struct, full)
