"""The charts under real Helm: what they render, what they refuse, and that the copies are fresh.

Method: a table of value sets per chart; each rendering is held against the published schemas of
Kubernetes and against the restricted Pod security standard.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml

import inferway

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
KUBERNETES = "1.37"
# Kinds of other projects, whose schemas the published Kubernetes ones do not hold.
FOREIGN_GROUPS = (
    "gateway.networking.k8s.io",
    "inference.networking",
    "networking.gke.io",
    "networking.istio.io",
    "monitoring.coreos.com",
)
MATCH = "inferencePool.modelServers.matchLabels.app=vllm-llama3-8b-instruct"


@dataclass(frozen=True, slots=True)
class Case:
    """One chart with one set of values."""

    chart: str
    values: tuple[str, ...] = ()
    release: str = "trial"

    def __str__(self) -> str:
        return " ".join((self.chart, *self.values))


CASES = (
    Case("inferway-crds"),
    Case("inferway-crds", ("keep=true",)),
    Case("inferway"),
    Case("inferway", ("inferenceExtension.enabled=true",), "kgateway"),
    Case("inferway", ("inferenceExtension.enabled=false", "replicas=2")),
    Case("inferway", ("podDisruptionBudget.enabled=true", "serviceAccount.create=false")),
    Case("inferway", ("extraGatewayClasses={agentgateway,other}", "gatewayClass.create=false")),
    Case("inferway", ("gatewayClass.parametersRef.name=wide", "priorityClassName=system")),
    Case("inferway", ("tracing.enabled=true", "tracing.sampling.samplerArg=1")),
    Case("inferencepool", (MATCH, "provider.name=none"), "vllm-llama3-8b-instruct"),
    Case("inferencepool", (MATCH, "provider.name=gke")),
    Case("inferencepool", (MATCH, "provider.name=istio")),
    Case("inferencepool", (MATCH, "inferenceExtension.replicas=3")),
    Case(
        "inferencepool",
        (MATCH, "inferenceExtension.image.name=epp", "inferenceExtension.replicas=2"),
    ),
    Case("inferencepool", (MATCH, "inferenceExtension.monitoring.prometheus.enabled=true")),
    Case("inferencepool", (MATCH, "inferenceExtension.tracing.enabled=true")),
    Case("inferencepool", (MATCH, "inferenceExtension.monitoring.prometheus.auth.enabled=false")),
    Case(
        "inferencepool", (MATCH, "inferencePool.apiVersion=inference.networking.x-k8s.io/v1alpha2")
    ),
    Case("inferencepool", (MATCH,), "a-name-as-long-as-helm-lets-a-release-have-one-at-all"),
)


def run(helm: str, case: Case) -> subprocess.CompletedProcess[str]:
    words = [helm, "template", case.release, str(CHARTS / case.chart), "--namespace", "here"]
    for value in case.values:
        words += ["--set", value]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def render(helm: str, case: Case) -> list[dict[str, Any]]:
    result = run(helm, case)
    assert result.returncode == 0, result.stderr
    return [item for item in yaml.safe_load_all(result.stdout) if item]


def of_kind(objects: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    found = [item for item in objects if item["kind"] == kind]
    assert len(found) == 1, [item["kind"] for item in objects]
    return found[0]


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec = of_kind(objects, "Deployment")["spec"]["template"]["spec"]
    found: dict[str, Any] = spec["containers"][0]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rendering_is_what_kubernetes_takes(helm_program: str, case: Case) -> None:
    objects = render(helm_program, case)
    assert objects
    for item in objects:
        group = item["apiVersion"].rpartition("/")[0]
        if not group.startswith(FOREIGN_GROUPS):
            kubernetes_validate.validate(item, KUBERNETES, strict=True)
        cluster_wide = item["kind"] in {
            "ClusterRole",
            "ClusterRoleBinding",
            "CustomResourceDefinition",
            "GatewayClass",
        }
        assert ("namespace" in item["metadata"]) != cluster_wide, item["kind"]
        assert len(item["metadata"]["name"]) <= 63


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pods_pass_the_restricted_standard(helm_program: str, case: Case) -> None:
    for item in render(helm_program, case):
        if item["kind"] != "Deployment":
            continue
        spec = item["spec"]["template"]["spec"]
        pod = spec["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] == 65532
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for entry in spec["containers"]:
            security = entry["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.slow
def test_the_guides_pool_is_rendered(helm_program: str) -> None:
    name = "vllm-llama3-8b-instruct"
    objects = render(helm_program, Case("inferencepool", (MATCH, "provider.name=none"), name))
    pool = of_kind(objects, "InferencePool")
    assert pool["metadata"]["name"] == name
    assert pool["spec"] == {
        "targetPorts": [{"number": 8000}],
        "selector": {"matchLabels": {"app": name}},
        "endpointPickerRef": {
            "name": f"{name}-epp",
            "port": {"number": 9002},
            "failureMode": "FailOpen",
        },
    }
    service = of_kind(objects, "Service")
    assert service["metadata"]["name"] == f"{name}-epp"
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {
        "grpc-ext-proc": 9002,
        "http-metrics": 9090,
        "pick": 9004,
        "feedback": 9005,
    }
    assert container(objects)["args"][:5] == [
        "picker",
        "--pool-name",
        name,
        "--pool-namespace",
        "here",
    ]


@pytest.mark.slow
def test_another_picker_gets_its_own_arguments_and_no_short_way(helm_program: str) -> None:
    values = (MATCH, "inferenceExtension.image.name=epp", "inferenceExtension.replicas=2")
    objects = render(helm_program, Case("inferencepool", values))
    args = container(objects)["args"]
    assert args[0] == "--pool-name"
    assert "--ha-enable-leader-election" in args
    names = [port["name"] for port in of_kind(objects, "Service")["spec"]["ports"]]
    assert names == ["grpc-ext-proc", "http-metrics"]


@pytest.mark.slow
def test_a_boolean_flag_is_one_word(helm_program: str) -> None:
    values = (
        MATCH,
        "inferenceExtension.flags[0].name=secure-serving",
        "inferenceExtension.flags[0].value=false",
    )
    args = container(render(helm_program, Case("inferencepool", values)))["args"]
    assert "--secure-serving=false" in args
    assert "false" not in args


@pytest.mark.slow
def test_the_controller_has_no_right_to_pools_that_it_does_not_serve(helm_program: str) -> None:
    values = ("inferenceExtension.enabled=false",)
    objects = render(helm_program, Case("inferway", values))
    groups = {
        group for rule in of_kind(objects, "ClusterRole")["rules"] for group in rule["apiGroups"]
    }
    assert not {group for group in groups if group.startswith("inference.networking")}
    verbs = {verb for rule in of_kind(objects, "ClusterRole")["rules"] for verb in rule["verbs"]}
    assert "*" not in verbs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        (Case("inferencepool"), "inferencePool.modelServers.matchLabels is required"),
        (Case("inferencepool", (MATCH, "provider.name=nginx")), "/provider/name"),
        (Case("inferencepool", (MATCH, "inferencepool.x=1")), "inferencepool"),
        (
            Case("inferencepool", (MATCH, "inferenceExtension.pluginsConfigFile=mine.yaml")),
            "mine.yaml, which is not among the files default-plugins.yaml",
        ),
        (Case("inferway", ("replica=3",)), "replica"),
        (Case("inferway", ("image.pullPolicy=Sometimes",)), "/image/pullPolicy"),
        (Case("inferway-crds", ("kept=true",)), "kept"),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_value_is_refused_by_name(helm_program: str, case: Case, message: str) -> None:
    result = run(helm_program, case)
    assert result.returncode != 0
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("chart", ["inferway-crds", "inferway", "inferencepool"])
def test_helm_finds_nothing_to_mend(helm_program: str, chart: str) -> None:
    words = [helm_program, "lint", "--strict", str(CHARTS / chart)]
    if chart == "inferencepool":
        words += ["--set", MATCH]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("chart", ["inferway-crds", "inferway", "inferencepool"])
def test_charts_carry_the_version_of_the_program(chart: str) -> None:
    described = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert described["version"] == inferway.__version__
    assert described["appVersion"] == inferway.__version__


@pytest.mark.slow
def test_the_manifests_of_up_are_fresh(helm_program: str, renderer: ModuleType) -> None:
    for name, text in renderer.render(helm_program).items():
        path = renderer.MANIFESTS / name
        assert path.read_text() == text, f"{name} is stale; run make manifests"


def test_our_own_kinds_in_the_chart_are_fresh(renderer: ModuleType) -> None:
    crds = sys.modules["render_crds"]
    for name, text in crds.render().items():
        assert (crds.FILES / name).read_text() == text, f"{name} is stale; run make manifests"


def test_the_manifests_of_up_ask_for_little(renderer: ModuleType) -> None:
    """A laptop's node counts requests, and a small one has 2 CPUs and 2 GiB."""
    cpu = memory = 0
    for name in ("stack.yaml", "demo.yaml"):
        for item in yaml.safe_load_all((renderer.MANIFESTS / name).read_text()):
            if item["kind"] != "Deployment":
                continue
            for entry in item["spec"]["template"]["spec"]["containers"]:
                requests = entry["resources"]["requests"]
                cpu += item["spec"]["replicas"] * int(requests["cpu"].removesuffix("m"))
                memory += item["spec"]["replicas"] * int(requests["memory"].removesuffix("Mi"))
    assert cpu <= 500
    assert memory <= 512
