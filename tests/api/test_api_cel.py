"""Rules of CRDs: the language, and what the Gateway API's rules say."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.api import crds
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.cel.evaluate import Scope, evaluate
from inferway.api.schema.cel.parser import parse
from inferway.api.schema.cel.rules import check_rules
from inferway.api.schema.cel.tree import CelError, UnsupportedError
from inferway.api.schema.defaulting import apply_defaults
from inferway.api.schema.load import load_kind
from inferway.api.schema.model import Rule, Schema
from inferway.api.schema.validation import validate

SELF = {"a": 1, "b": "x/y", "c": [1, 2, 3], "d": {"k": "v"}, "t": True, "namespace": "n"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 == 7", True),
        ("(1 + 2) * 3 - -1", 10),
        ("7 / 2", 3),
        ("-7 % 3", -1),
        ("7.0 / 2.0", 3.5),
        ("'a' + \"b\"", "ab"),
        (r"'\n' == r'\n'", False),
        ('r"""^a\\.b$"""', r"^a\.b$"),
        ("self.a == 1 ? 'yes' : 'no'", "yes"),
        ("self.a == true", False),
        ("has(self.a) && !has(self.z)", True),
        ("self.z == 1 || self.a == 1", True),
        ("self.z == 1 && self.a == 2", False),
        ("'k' in self.d && 2 in self.c", True),
        ("self.c[0] + size(self.c) + self.c.size()", 7),
        ("self.c.all(x, x > 0)", True),
        ("self.c.exists(x, x > 2)", True),
        ("self.c.exists_one(x, x > 1)", False),
        ("self.c.filter(x, x > 1).map(y, y * 2)", [4, 6]),
        ("self.c.map(x, x > 1, x * 2)", [4, 6]),
        ("self.d.all(k, self.d[k] == 'v')", True),
        ("self.b.split('/')[0].size() < 253", True),
        ("self.b.startsWith('x') && self.b.endsWith('y') && self.b.contains('/')", True),
        ("self.b.matches('^[a-z]/')", True),
        ("duration('1m') > duration('59s')", True),
        ("self.__namespace__", "n"),
        ("{'a': 1}.a", 1),
        ("[1, 2,] == [1, 2]", True),
        ("type(self.a) == 'int' // a comment", True),
        ("int('3') + 0x10", 19),
    ],
)
def test_expressions_have_values(text: str, expected: Any) -> None:
    assert evaluate(parse(text), Scope({"self": SELF})) == expected


@pytest.mark.parametrize(
    "text", ["self.z", "self.c[7]", "self.d['z']", "1 / 0", "size(1)", "!1", "'a' < 1", "int('x')"]
)
def test_what_has_no_value_is_an_error(text: str) -> None:
    with pytest.raises(CelError):
        evaluate(parse(text), Scope({"self": SELF}))


@pytest.mark.parametrize(
    "text", ["", "1 +", "self.", "(1", "a b", "has(1)", "self.x(", "#", "'a", "[" * 500]
)
def test_what_can_not_be_read_is_said_to_be_so(text: str) -> None:
    with pytest.raises(UnsupportedError):
        parse(text)


def test_rules_are_bounded() -> None:
    text = "self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d >= 0))))"
    error = check_rules((Rule(text),), list(range(64)), None, "x")[0]
    assert "too many steps" in error.message


def test_rules_beyond_our_knowledge_are_passed_over() -> None:
    rules = (Rule("self.authorizer.check() == 1"), Rule("unknown(self)"), Rule("self ~ 1"))
    assert check_rules(rules, {"authorizer": 1}, None, "x") == []


def test_messages_reasons_and_paths() -> None:
    rules = (
        Rule("false", "m", reason="FieldValueForbidden", field_path="a"),
        Rule("false", "m", reason="FieldValueRequired"),
        Rule("false"),
        Rule("false", "m", message_expression="'v is ' + string(self.v)"),
    )
    assert [str(error) for error in check_rules(rules, {"v": 1}, None, "spec")] == [
        "spec.a: Forbidden: m",
        "spec: Required value: m",
        "spec: Invalid value: failed rule: false",
        "spec: Invalid value: v is 1",
    ]


CATALOG = Catalog.load()


def custom(name: str) -> Schema:
    definition = next(d for d in crds.all_definitions() if d.name == name)
    raw = crds.to_object(definition)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return load_kind(raw, CATALOG.object_meta)


ROUTE = custom("httproutes.gateway.networking.k8s.io")
GATEWAY = custom("gateways.gateway.networking.k8s.io")
CLASS = custom("gatewayclasses.gateway.networking.k8s.io")
POOL = custom("inferencepools.inference.networking.k8s.io")


def texts(schema: Schema, spec: Any, old: Any = None) -> list[str]:
    obj = apply_defaults(schema, {"spec": spec})
    before = None if old is None else apply_defaults(schema, {"spec": old})
    return [str(e) for e in validate(schema, obj, before)]


def rule(**more: Any) -> dict[str, Any]:
    return {"rules": [more]}


R = "spec.rules[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (rule(backendRefs=[{"name": "s", "port": 1}]), []),
        (
            rule(backendRefs=[{"name": "s"}]),
            [(f"{R}.backendRefs[0]: Invalid value: Must have port for Service reference")],
        ),
        (rule(backendRefs=[{"name": "s", "kind": "InferencePool", "group": "x"}]), []),
        (
            rule(matches=[{"path": {"value": "a"}}]),
            [
                (
                    f"{R}.matches[0].path: Invalid value: value must be an absolute path "
                    "and start with '/' when type one of ['Exact', 'PathPrefix']"
                )
            ],
        ),
        (rule(matches=[{"path": {"value": "a.*", "type": "RegularExpression"}}]), []),
        (
            rule(filters=[{"type": "URLRewrite"}]),
            [
                (
                    f"{R}.filters[0]: Invalid value: filter.urlRewrite must be specified "
                    "for URLRewrite filter.type"
                )
            ],
        ),
        (
            rule(
                filters=[{"type": "RequestRedirect", "requestRedirect": {}}],
                backendRefs=[{"name": "s", "port": 1}],
            ),
            [
                (
                    f"{R}: Invalid value: RequestRedirect filter must not be used "
                    f"together "
                    "with backendRefs"
                )
            ],
        ),
        (
            rule(timeouts={"request": "1s", "backendRequest": "2s"}),
            [
                (
                    f"{R}.timeouts: Invalid value: backendRequest timeout cannot "
                    f"be longer "
                    "than request timeout"
                )
            ],
        ),
    ],
)
def test_routes(spec: Any, expected: list[str]) -> None:
    assert texts(ROUTE, spec) == expected


def test_gateways_have_distinct_listeners() -> None:
    listener = {"port": 80, "protocol": "HTTP"}
    spec = {"gatewayClassName": "c", "listeners": [{**listener, "name": n} for n in "ab"]}
    assert texts(GATEWAY, spec) == [
        (
            "spec.listeners: Invalid value: Combination of port, protocol and "
            "hostname must "
            "be unique for each listener"
        )
    ]
    spec["listeners"] = [{**listener, "name": "a", "tls": {"certificateRefs": [{"name": "s"}]}}]
    assert texts(GATEWAY, spec) == [
        (
            "spec.listeners: Invalid value: tls must not be specified for protocols "
            "['HTTP', 'TCP', 'UDP']"
        )
    ]


def test_a_class_keeps_its_controller() -> None:
    new, old = {"controllerName": "a.b/c"}, {"controllerName": "a.b/d"}
    assert texts(CLASS, new) == []
    assert texts(CLASS, new, old) == [
        'spec.controllerName: Invalid value: "a.b/c": field is immutable'
    ]


def test_pools_name_the_pickers_port() -> None:
    spec = {
        "selector": {"matchLabels": {"a": "b"}},
        "targetPorts": [{"number": 1}, {"number": 1}],
        "endpointPickerRef": {"name": "p"},
    }
    assert texts(POOL, spec) == [
        "spec.targetPorts: Invalid value: port number must be unique",
        (
            "spec.endpointPickerRef: Invalid value: port is required when kind is "
            "'Service' or unspecified (defaults to 'Service')"
        ),
    ]


def test_every_rule_of_ours_can_be_read() -> None:
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for item in value.get("x-kubernetes-validations") or ():
                if isinstance(item, dict):
                    parse(item["rule"])
                    found.append(item["rule"])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    for definition in crds.all_definitions():
        walk(crds.to_object(definition))
    assert len(found) > 100
