"""Rules of built-in kinds and their texts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from inferway.api.defaults.table import complete
from inferway.api.judging import words
from inferway.api.judging.table import JUDGES, judge


def changed(obj: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with values at dotted paths; numbers index lists, ``...`` removes."""
    result = copy.deepcopy(obj)
    for path, value in changes.items():
        *parents, last = path.split("/")
        here: Any = result
        for name in parents:
            here = here[int(name)] if isinstance(here, list) else here.setdefault(name, {})
        if value is ...:
            del here[last]
        else:
            here[last] = value
    return result


DEPLOYMENT = {
    "metadata": {"name": "d", "namespace": "n"},
    "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {
                "volumes": [{"name": "v"}],
                "initContainers": [{"name": "i", "image": "x", "restartPolicy": "Always"}],
                "containers": [
                    {
                        "name": "c",
                        "image": "x",
                        "ports": [{"containerPort": 80, "name": "http"}],
                        "env": [{"name": "A", "value": "b"}],
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                        "readinessProbe": {"httpGet": {"port": "http"}},
                    }
                ],
            },
        },
    },
}
SERVICE = {"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
JOB = {
    "metadata": {"name": "j", "uid": "u"},
    "spec": {
        "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]}
        }
    },
}
POD = "spec/template/spec"
C = f"{POD}/containers/0"
P = "spec.template.spec"
LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def texts(group: str, kind: str, obj: dict[str, Any], old: Any = None) -> list[str]:
    before = None if old is None else complete(group, kind, old)
    return [str(error) for error in judge(group, kind, complete(group, kind, obj), before)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({f"{C}/name": ""}, [f"{P}.containers[0].name: Required value"]),
        (
            {f"{C}/name": "A"},
            [f'{P}.containers[0].name: Invalid value: "A": {LABEL_TEXT}'],
        ),
        ({f"{C}/name": "i"}, [f'{P}.initContainers[0].name: Duplicate value: "i"']),
        ({f"{C}/image": ...}, [f"{P}.containers[0].image: Required value"]),
        ({f"{POD}/containers": []}, [f"{P}.containers: Required value"]),
        (
            {f"{C}/ports/0/containerPort": 70000},
            [
                (
                    f"{P}.containers[0].ports[0].containerPort: Invalid value: 70000: must be "
                    "between 1 and 65535, inclusive"
                )
            ],
        ),
        (
            {f"{C}/ports/0/protocol": "tcp"},
            [
                (
                    f'{P}.containers[0].ports[0].protocol: Unsupported value: "tcp": supported '
                    'values: "SCTP", "TCP", "UDP"'
                )
            ],
        ),
        (
            {f"{C}/ports/0/name": "a_very_long_port_name"},
            [
                (
                    f"{P}.containers[0].ports[0].name: Invalid value: "
                    f'"a_very_long_port_name": must '
                    "be no more than 15 characters"
                ),
                (
                    f"{P}.containers[0].ports[0].name: Invalid value: "
                    f'"a_very_long_port_name": must '
                    "contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
                ),
            ],
        ),
        (
            {f"{C}/volumeMounts/0/name": "w"},
            [f'{P}.containers[0].volumeMounts[0].name: Not found: "w"'],
        ),
        (
            {f"{C}/readinessProbe": {}},
            [f"{P}.containers[0].readinessProbe: Required value: must specify a handler type"],
        ),
        (
            {f"{C}/readinessProbe/tcpSocket": {"port": 1}},
            [
                (
                    f"{P}.containers[0].readinessProbe.tcpSocket: Forbidden: may not specify more "
                    "than 1 handler type"
                )
            ],
        ),
        (
            {f"{C}/resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}},
            [
                (
                    f'{P}.containers[0].resources.requests: Invalid value: "2": must be '
                    f"less than or "
                    "equal to cpu limit of 1"
                )
            ],
        ),
        (
            {f"{C}/env/0/valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            [
                (
                    f'{P}.containers[0].env[0].valueFrom: Invalid value: "": may not be specified '
                    "when `value` is not empty"
                )
            ],
        ),
        (
            {f"{C}/imagePullPolicy": "Sometimes"},
            [
                (
                    f'{P}.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported '
                    'values: "Always", "IfNotPresent", "Never"'
                )
            ],
        ),
        (
            {f"{POD}/initContainers/0/restartPolicy": "Never"},
            [
                (
                    f'{P}.initContainers[0].restartPolicy: Unsupported value: "Never": supported '
                    'values: "Always"'
                )
            ],
        ),
        (
            {f"{POD}/volumes": [{"name": "v", "configMap": {}, "emptyDir": {}}]},
            [
                f"{P}.volumes[0].emptyDir: Forbidden: may not specify more than 1 volume type",
                f"{P}.volumes[0].configMap.name: Required value",
            ],
        ),
        (
            {f"{POD}/restartPolicy": "Never"},
            [f'{P}.restartPolicy: Unsupported value: "Never": supported values: "Always"'],
        ),
        (
            {f"{POD}/tolerations": [{"operator": "Equal"}]},
            [
                (
                    f'{P}.tolerations[0].operator: Invalid value: "Equal": operator must be Exists '
                    'when `key` is empty, which means "match all values and all keys"'
                )
            ],
        ),
        ({"spec/selector": ...}, ["spec.selector: Required value"]),
        (
            {"spec/selector": {}},
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            {"spec/template/metadata/labels": {"app": "b"}},
            [
                (
                    'spec.template.metadata.labels: Invalid value: {"app":"b"}: `selector` '
                    "does not "
                    "match template `labels`"
                )
            ],
        ),
        (
            {"spec/replicas": -1},
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
        ),
        (
            {"spec/strategy": {"type": "Recreate", "rollingUpdate": {}}},
            [
                (
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy "
                    "`type` is 'Recreate'"
                )
            ],
        ),
        (
            {"spec/strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "0%"}}},
            [
                (
                    "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not "
                    "be 0 when "
                    "`maxSurge` is 0"
                )
            ],
        ),
    ],
)
def test_deployments(changes: dict[str, Any], expected: list[str]) -> None:
    assert texts("apps", "Deployment", changed(DEPLOYMENT, changes)) == expected


def test_a_selector_can_not_change() -> None:
    new = changed(
        DEPLOYMENT,
        {
            "spec/selector": {"matchLabels": {"app": "b"}},
            "spec/template/metadata/labels": {"app": "b"},
        },
    )
    assert texts("apps", "Deployment", new, DEPLOYMENT) == [
        'spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable'
    ]
    assert texts("apps", "Deployment", DEPLOYMENT, DEPLOYMENT) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"spec/ports": []}, ["spec.ports: Required value"]),
        ({"spec/ports": [], "spec/clusterIP": "None"}, []),
        (
            {"spec/type": "Balancer"},
            [
                (
                    'spec.type: Unsupported value: "Balancer": supported values: "ClusterIP", '
                    '"ExternalName", "LoadBalancer", "NodePort"'
                )
            ],
        ),
        (
            {"spec/ports": [{"port": 80}, {"port": 80}]},
            [
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
                (
                    "spec.ports[1]: Duplicate value: "
                    '{"Name":"","Protocol":"TCP","AppProtocol":null,'
                    '"Port":80,"TargetPort":0,"NodePort":0}'
                ),
            ],
        ),
        (
            {"spec/ports/0/targetPort": 99999},
            [
                (
                    "spec.ports[0].targetPort: Invalid value: 99999: must be between 1 and 65535, "
                    "inclusive"
                )
            ],
        ),
        ({"spec/type": "ExternalName"}, ["spec.externalName: Required value"]),
        (
            {"spec/clusterIP": "1.2.3"},
            [
                (
                    'spec.clusterIPs[0]: Invalid value: "1.2.3": must be a valid IP address, (e.g. '
                    "10.9.8.7 or 2001:db8::ffff)"
                )
            ],
        ),
    ],
)
def test_services(changes: dict[str, Any], expected: list[str]) -> None:
    assert texts("", "Service", changed(SERVICE, changes)) == expected


def test_jobs_end() -> None:
    assert texts("batch", "Job", JOB) == []
    wrong = changed(JOB, {f"{POD}/restartPolicy": "Always"})
    assert texts("batch", "Job", wrong) == [
        f'{P}.restartPolicy: Unsupported value: "Always": supported values: "OnFailure", "Never"'
    ]
    other = changed(JOB, {f"{C}/image": "y"})
    assert texts("batch", "Job", other, JOB)[0].startswith("spec.template: Invalid value: ")


def test_config_maps_and_secrets() -> None:
    assert texts("", "ConfigMap", {"data": {"a b": ""}})[0].startswith(
        'data[a b]: Invalid value: "a b": a valid config key must consist of'
    )
    assert texts("", "ConfigMap", {"data": {"a": "x" * 1_048_577}}) == [
        ": Too long: may not be more than 1048576 bytes"
    ]
    kept = {"data": {"a": "1"}, "immutable": True}
    assert texts("", "ConfigMap", {"data": {"a": "2"}, "immutable": True}, kept) == [
        "data: Forbidden: field is immutable when `immutable` is set"
    ]
    assert texts("", "Secret", {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}) == [
        "data[tls.key]: Required value"
    ]


@pytest.mark.parametrize(
    ("group", "kind", "obj", "expected"),
    [
        (
            "rbac.authorization.k8s.io",
            "Role",
            {"rules": [{"apiGroups": [""], "resources": ["pods"]}]},
            ["rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            {"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User"}]},
            ["subjects[0].name: Required value"],
        ),
        (
            "policy",
            "PodDisruptionBudget",
            {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
            [
                (
                    'spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and '
                    "maxUnavailable cannot be both set"
                )
            ],
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            {"spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}},
            ["spec.maxReplicas: Invalid value: 0: must be greater than 0"],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            {"addressType": "IPv4", "endpoints": [{"addresses": []}]},
            ["endpoints[0].addresses: Required value: must contain at least 1 address"],
        ),
        (
            "coordination.k8s.io",
            "Lease",
            {"spec": {"leaseDurationSeconds": 0}},
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "",
            "Event",
            {"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}},
            ['involvedObject.namespace: Invalid value: "b": does not match event.namespace'],
        ),
    ],
)
def test_small_kinds(group: str, kind: str, obj: dict[str, Any], expected: list[str]) -> None:
    assert texts(group, kind, obj) == expected


@pytest.mark.parametrize(("group", "kind"), sorted(JUDGES))
def test_nothing_breaks_on_an_empty_object(group: str, kind: str) -> None:
    texts(group, kind, {})
    texts(group, kind, {"spec": {}}, {"spec": {}})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app", None),
        ("example.com/app", None),
        ("/app", "prefix part must be non-empty"),
        ("a/", "name part must be non-empty"),
        ("a/b/c", "a valid label key must consist of"),
        ("A_/b", "prefix part a lowercase RFC 1123 subdomain must"),
        ("-a", "name part must consist of alphanumeric characters"),
        ("a" * 64, "name part must be no more than 63 bytes"),
    ],
)
def test_label_keys(name: str, expected: str | None) -> None:
    found = [error.message for error in words.label_key("x", name)]
    if expected is None:
        assert found == []
    else:
        assert expected in found[0]


def test_a_container_has_no_dots() -> None:
    found = [str(error) for error in words.dns_label("name", "a.b")]
    assert found == ['name: Invalid value: "a.b": must not contain dots']
