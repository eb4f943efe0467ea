"""Validation of custom kinds and decoding of built-in kinds, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.api import crds
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.decoding import decoding_error
from inferway.api.schema.formats import fits
from inferway.api.schema.load import load_kind, load_schema
from inferway.api.schema.model import Schema
from inferway.api.schema.validation import ERRORS_MAX, validate
from inferway.api.schema.values import matches

CATALOG = Catalog.load()


def custom(name: str) -> Schema:
    definition = next(d for d in crds.all_definitions() if d.name == name)
    raw = crds.to_object(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return load_kind(raw, CATALOG.object_meta)


GATEWAY = custom("gateways.gateway.networking.k8s.io")
POOL = custom("inferencepools.inference.networking.k8s.io")


def gateway(**listener: Any) -> dict[str, Any]:
    full = {"name": "http", "port": 80, "protocol": "HTTP"} | listener
    return {"spec": {"gatewayClassName": "c", "listeners": [full]}}


def texts(schema: Schema, value: Any) -> list[str]:
    return [str(error) for error in validate(schema, value)]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (gateway(), []),
        (
            gateway(port=0),
            [
                (
                    "spec.listeners[0].port: Invalid value: 0: spec.listeners[0].port in "
                    "body should "
                    "be greater than or equal to 1"
                )
            ],
        ),
        (
            gateway(port=70000),
            [
                (
                    "spec.listeners[0].port: Invalid value: 70000: spec.listeners[0].port in body "
                    "should be less than or equal to 65535"
                )
            ],
        ),
        (
            gateway(port="80"),
            [
                (
                    'spec.listeners[0].port: Invalid value: "string": '
                    "spec.listeners[0].port in body "
                    'must be of type integer: "string"'
                )
            ],
        ),
        (
            gateway(name=""),
            [
                (
                    'spec.listeners[0].name: Invalid value: "": spec.listeners[0].name in '
                    "body should "
                    "be at least 1 chars long"
                ),
                (
                    'spec.listeners[0].name: Invalid value: "": spec.listeners[0].name in '
                    "body should "
                    r"match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'"
                ),
            ],
        ),
        (
            gateway(allowedRoutes={"namespaces": {"from": "Some"}}),
            [
                (
                    'spec.listeners[0].allowedRoutes.namespaces.from: Unsupported value: "Some": '
                    'supported values: "All", "Selector", "Same"'
                )
            ],
        ),
        ({"spec": {"listeners": []}}, None),
        ({}, ["spec: Required value"]),
        (
            {"spec": []},
            ['spec: Invalid value: "array": spec in body must be of type object: "array"'],
        ),
    ],
)
def test_gateways_are_judged(obj: Any, expected: list[str] | None) -> None:
    if expected is None:
        expected = [
            "spec.gatewayClassName: Required value",
            "spec.listeners: Invalid value: 0: spec.listeners in body should have at least 1 items",
        ]
    assert texts(GATEWAY, obj) == expected


def test_lists_of_type_map_have_no_duplicates() -> None:
    obj = gateway()
    obj["spec"]["listeners"] *= 2
    assert texts(GATEWAY, obj) == ['spec.listeners[1]: Duplicate value: {"name":"http"}']


def test_counts_and_lengths() -> None:
    ports = [{"number": number} for number in range(1, 10)]
    pool = {"spec": {"selector": {"matchLabels": {"a": "b" * 64}}, "targetPorts": ports}}
    assert texts(POOL, pool) == [
        "spec.selector.matchLabels.a: Too long: may not be more than 63 bytes",
        "spec.targetPorts: Too many: 9: must have at most 8 items",
    ]
    pool["spec"] = {"selector": {"matchLabels": {}}, "targetPorts": ports[:1]}
    assert texts(POOL, pool) == [
        (
            "spec.selector.matchLabels: Invalid value: 0: spec.selector.matchLabels in body should "
            "have at least 1 properties"
        )
    ]


def test_errors_are_limited() -> None:
    schema = load_schema({"type": "array", "items": {"type": "string"}})
    assert len(validate(schema, list(range(1000)))) == ERRORS_MAX


def test_combinations() -> None:
    schema = load_schema(
        {
            "type": "object",
            "properties": {
                "one": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "any": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                "no": {"not": {"enum": [1]}},
                "both": {"x-kubernetes-int-or-string": True},
            },
        }
    )
    assert texts(schema, {"one": {"a": 1}, "any": "x", "no": 2, "both": 1}) == []
    assert texts(schema, {"one": {}, "any": [], "no": 1, "both": []}) == [
        (
            'one: Invalid value: "": "one" must validate one and only one schema (oneOf). '
            "Found none "
            "valid"
        ),
        'any: Invalid value: "": "any" must validate at least one schema (anyOf)',
        'no: Invalid value: "": "no" must not validate the schema (not)',
        'both: Invalid value: "array": both in body must be of type integer,string: "array"',
    ]


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("date-time", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z"),
        ("date", "2026-01-01", "1.1.2026"),
        ("byte", "aGk=", "a"),
        ("ipv4", "127.0.0.1", "::1"),
        ("ipv6", "::1", "127.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("hostname", "a.b", "-a"),
        ("uuid", "00000000-0000-4000-8000-000000000000", "1"),
        ("email", "a@b", "a"),
        ("int32", 2**31 - 1, 2**31),
    ],
)
def test_formats(format_: str, good: Any, bad: Any) -> None:
    assert fits(format_, good)
    assert not fits(format_, bad)


def test_patterns_end_where_go_ends_them() -> None:
    assert matches("^a$", "a")
    assert not matches("^a$", "a\n")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (
            {"replicas": "3"},
            (
                "json: cannot unmarshal string into Go struct field "
                "DeploymentSpec.spec.replicas of "
                "type int32"
            ),
        ),
        (
            {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": 1}]}]}}},
            (
                "json: cannot unmarshal number into Go struct field "
                "EnvVar.spec.template.spec.containers.env.value of type string"
            ),
        ),
        (
            {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}},
            (
                "quantities must match the regular expression "
                "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            ),
        ),
        (
            {"template": {"spec": {"containers": {}}}},
            (
                "json: cannot unmarshal object into Go struct field "
                "PodSpec.spec.template.spec.containers of type []v1.Container"
            ),
        ),
        (
            {"template": {"metadata": {"labels": {"a": True}}}},
            (
                "json: cannot unmarshal bool into Go struct field "
                "ObjectMeta.spec.template.metadata.labels of type string"
            ),
        ),
        ({"replicas": None, "template": {"spec": {"containers": [{"name": "a"}]}}}, None),
    ],
)
def test_built_in_kinds_are_decoded_strictly_by_type(spec: Any, expected: str | None) -> None:
    schema = CATALOG.kind("apps", "v1", "Deployment")
    assert schema is not None
    text = decoding_error(schema, {"spec": spec}, "Deployment", "v1")
    if expected is None:
        assert text is None
    else:
        prefix = 'Deployment in version "v1" cannot be handled as a Deployment: '
        assert text == prefix + expected


def test_secrets_are_base64() -> None:
    schema = CATALOG.kind("", "v1", "Secret")
    assert schema is not None
    text = decoding_error(schema, {"data": {"a": "%"}}, "Secret", "v1")
    assert text is not None
    assert text.endswith("illegal base64 data at input byte 0")
    assert decoding_error(schema, {"data": {"a": "aG\nk=\n"}}, "Secret", "v1") is None


def test_what_an_update_leaves_alone_is_not_judged_again() -> None:
    old = gateway(port=0) | {"status": {"attachedListenerSets": 1}}
    new = gateway(port=0) | {"status": {"attachedListenerSets": 2}}
    assert validate(GATEWAY, new, old) == []
    worse = gateway(port=0, hostname="?") | {"status": {}}
    assert [error.field for error in validate(GATEWAY, worse, old)] == [
        "spec.listeners[0].hostname"
    ]
    assert validate(GATEWAY, new) != []


def test_a_field_that_a_new_definition_does_not_have_is_no_change() -> None:
    schema = load_schema(
        {
            "type": "object",
            "properties": {"spec": {"type": "object", "required": ["a"], "properties": {"a": {}}}},
        }
    )
    assert validate(schema, {"spec": {}}, {"spec": {"gone": 1}}) == []
    assert len(validate(schema, {"spec": {}})) == 1
