"""Defaults of built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.api.defaults.amounts import canonical
from inferway.api.defaults.pod import pull_policy
from inferway.api.defaults.table import COMPLETIONS, complete
from inferway.api.schema.catalog import Catalog
from inferway.api.schema.decoding import decoding_error
from inferway.api.schema.fields import unknown_fields
from inferway.base import quantities


def test_a_deployment_has_kubernetes_defaults() -> None:
    deployment = complete(
        "apps",
        "Deployment",
        {
            "spec": {
                "replicas": None,
                "template": {
                    "spec": {
                        "containers": [
                            {
                                "name": "c",
                                "image": "vllm/vllm-openai:v1",
                                "ports": [{"containerPort": 8000}],
                                "readinessProbe": {"httpGet": {"port": 8000}},
                                "resources": {"limits": {"cpu": 12, "memory": "1024Mi"}},
                            }
                        ],
                        "volumes": [
                            {"name": "a"},
                            {"name": "b", "configMap": {"name": "x"}},
                            {"name": "c", "emptyDir": {}},
                        ],
                    }
                },
            }
        },
    )
    assert deployment["spec"] == {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        "template": {
            "metadata": {},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "image": "vllm/vllm-openai:v1",
                        "imagePullPolicy": "IfNotPresent",
                        "ports": [{"containerPort": 8000, "protocol": "TCP"}],
                        "readinessProbe": {
                            "httpGet": {"port": 8000, "path": "/", "scheme": "HTTP"},
                            "timeoutSeconds": 1,
                            "periodSeconds": 10,
                            "successThreshold": 1,
                            "failureThreshold": 3,
                        },
                        "resources": {"limits": {"cpu": "12", "memory": "1Gi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                    }
                ],
                "volumes": [
                    {"name": "a", "emptyDir": {}},
                    {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
                    {"name": "c", "emptyDir": {}},
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
    }


def test_recreate_has_no_rolling_update() -> None:
    deployment = complete("apps", "Deployment", {"spec": {"strategy": {"type": "Recreate"}}})
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_a_pod_requests_its_limits() -> None:
    container = {"name": "c", "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1Ki"}}}
    pod = complete("", "Pod", {"spec": {"containers": [container], "serviceAccount": "x"}})
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["requests"] == {"cpu": "1", "memory": "1Ki"}
    assert pod["spec"]["serviceAccountName"] == "x"
    assert pod["spec"]["enableServiceLinks"] is True


def test_a_service_points_at_its_own_port() -> None:
    service = complete("", "Service", {"spec": {"ports": [{"port": 80}], "type": "LoadBalancer"}})
    assert service["spec"] == {
        "type": "LoadBalancer",
        "sessionAffinity": "None",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "allocateLoadBalancerNodePorts": True,
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    external = complete("", "Service", {"spec": {"type": "ExternalName", "externalName": "x.y"}})
    assert "ipFamilies" not in external["spec"]


def test_a_job_knows_its_pods_by_its_uid() -> None:
    job = complete("batch", "Job", {"metadata": {"name": "j", "uid": "u"}, "spec": {}})
    assert job["spec"]["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": "u"}
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == "j"
    assert (job["spec"]["completions"], job["spec"]["backoffLimit"]) == (1, 6)


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("localhost:5000/nginx", "Always"),
        ("localhost:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:1234", "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("0.5", "500m"),
        (0.5, "500m"),
        ("1000m", "1"),
        (12, "12"),
        ("1024Mi", "1Gi"),
        ("1500Mi", "1500Mi"),
        ("1000", "1k"),
        ("1500", "1500"),
        ("0", "0"),
        ("100Ki", "100Ki"),
        ("0.5Gi", "512Mi"),
        ("nonsense", "nonsense"),
    ],
)
def test_quantities_become_canonical(given_: Any, expected: str) -> None:
    assert canonical(given_) == expected


@settings(deadline=None)
@given(number=st.integers(0, 10**9), suffix=st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi"]))
def test_canonical_quantities_have_the_same_value(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    once = canonical(text)
    assert quantities.parse(once) == quantities.parse(text)
    assert canonical(once) == once


CATALOG = Catalog.load()
VERSIONS = {"autoscaling": "v2"}


@pytest.mark.parametrize(("group", "kind"), sorted(COMPLETIONS))
def test_completing_is_idempotent_and_within_the_schema(group: str, kind: str) -> None:
    schema = CATALOG.kind(group, VERSIONS.get(group, "v1"), kind)
    assert schema is not None
    once = complete(group, kind, {"metadata": {"name": "x", "uid": "u"}, "spec": None})
    assert complete(group, kind, once) == once
    assert unknown_fields(schema, once) == []
    assert decoding_error(schema, once, kind, "v1") is None


def test_wrapped_base64_is_unwrapped() -> None:
    assert complete("", "Secret", {"data": {"a": "aG\r\nk=\n"}})["data"] == {"a": "aGk="}
    assert complete("", "ConfigMap", {"binaryData": {"a": "aGk=\n"}})["binaryData"] == {"a": "aGk="}
