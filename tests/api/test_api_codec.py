"""Decoding of objects, selectors and conditions."""

from __future__ import annotations

import pytest

from inferway.api import codec, labels
from inferway.api.apps import Deployment
from inferway.api.core import Container, Node, Pod, Secret, Service
from inferway.api.discovery import EndpointSlice
from inferway.api.meta import LabelSelector, LabelSelectorRequirement

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "creationTimestamp": None, "labels": {"app": "x"}},
    "spec": {
        "novel": 1,
        "initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}],
        "containers": [
            {
                "name": "c",
                "image": "vllm",
                "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "ports": [{"containerPort": 8000, "hostIP": "127.0.0.1"}],
                "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
                "resources": {"limits": {"cpu": 12, "memory": "9Gi"}},
            }
        ],
        "volumes": [
            {
                "name": "t",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"path": "token"}},
                        {"downwardAPI": {"items": [{"path": "ns"}]}},
                    ]
                },
            }
        ],
    },
    "status": {"podIP": "127.77.1.1", "podIPs": [{"ip": "127.77.1.1"}]},
}


def test_a_pod_is_read_leniently() -> None:
    pod = codec.decode(Pod, POD)
    container = pod.spec.containers[0]
    assert pod.spec.init_containers[0].sidecar
    assert container.ports[0].host_ip == "127.0.0.1"
    assert container.resources.limits == {"cpu": 12, "memory": "9Gi"}
    assert container.readiness_probe is not None
    assert container.readiness_probe.http_get is not None
    assert container.readiness_probe.http_get.port == "http"
    projected = pod.spec.volumes[0].projected
    assert projected is not None
    assert projected.sources[0].service_account_token is not None
    assert projected.sources[1].downward_api is not None
    assert pod.status.pod_ips[0].ip == "127.77.1.1"


def test_what_is_encoded_has_kubernetes_names_and_no_defaults() -> None:
    assert codec.encode(codec.decode(Pod, POD).status) == POD["status"]
    assert codec.encode(Container(name="c")) == {"name": "c"}
    node = codec.decode(Node, {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}})
    assert node.status.daemon_endpoints.kubelet_endpoint.port == 10250


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({"spec": {"containers": [{"name": 1}]}}, "spec.containers[0].name"),
        ({"spec": {"containers": [{}]}}, "spec.containers[0]"),
        ({"metadata": {"labels": {"a": 1}}}, "metadata.labels[...]"),
        ([], ""),
    ],
)
def test_a_wrong_shape_is_named_by_its_path(raw: object, path: str) -> None:
    with pytest.raises(codec.DecodeError) as caught:
        codec.decode(Pod, raw)
    assert caught.value.path == path
    assert caught.value.message


def test_templates_stay_raw() -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"anything": [1]}}
    raw = {"spec": {"template": template, "selector": {"matchLabels": {"a": "b"}}}}
    assert codec.decode(Deployment, raw).spec.template == template


def test_small_kinds() -> None:
    secret = codec.decode(Secret, {"data": {"a": "aGk=", "b": "%"}})
    assert (secret.value("a"), secret.value("b"), secret.value("c")) == (b"hi", None, None)
    service = codec.decode(Service, {"spec": {"clusterIP": "1.2.3.4", "ports": [{"port": 80}]}})
    assert service.spec.cluster_ip == "1.2.3.4"
    slice_ = codec.decode(
        EndpointSlice,
        {
            "metadata": {"labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["1.1.1.1"]}, {"conditions": {"ready": False}}],
        },
    )
    assert slice_.service == "s"
    assert [endpoint.ready for endpoint in slice_.endpoints] == [True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=db", True),
        ("app=web,tier", False),
        ("!tier", True),
        ("app in (web, api),n>3", True),
        ("app notin (web)", False),
        ("app in (api)", False),
        ("n<3", False),
        ("kubernetes.io/name=x", False),
        ("empty=", True),
    ],
)
def test_label_selectors_in_text(text: str, expected: bool) -> None:
    assert labels.parse(text).matches({"app": "web", "n": "4", "empty": ""}) is expected


@pytest.mark.parametrize("text", ["=x", "a in b", "a in (b", "a,,b", "a=b c", "a b"])
def test_bad_label_selectors_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unable to parse requirement"):
        labels.parse(text)


def test_structured_selectors() -> None:
    selector = LabelSelector(
        match_labels={"a": "1"},
        match_expressions=(LabelSelectorRequirement(key="b", operator="Exists"),),
    )
    matcher = labels.from_label_selector(selector)
    assert matcher.matches({"a": "1", "b": ""})
    assert not matcher.matches({"a": "1"})
    assert labels.from_label_selector(LabelSelector()).matches({})
    assert not labels.from_label_selector(None).matches({})
    assert not labels.from_labels({}).matches({"a": "1"})
