"""The real kubectl and helm against the server, as people use them."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
import yaml
from apiserver_rig import PODS, Rig, config_map, pod, widget_definition

pytestmark = pytest.mark.slow

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: nginx
        ports: [{name: http, containerPort: 80}]
      - {name: side, image: x}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, size: "1"}
"""


@pytest.fixture(params=["current", "installed"])
def cli(request: pytest.FixtureRequest, kubectl: Path) -> Path:
    """The pinned kubectl, and the machine's own if it has one."""
    if request.param == "current":
        return kubectl
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("this machine has no kubectl of its own")
    return Path(found)


async def test_apply_on_the_client_side(rig: Rig, cli: Path) -> None:
    apply = ("apply", "-f", "-")
    first = await rig.must(cli, *apply, text=DEPLOYMENT)
    assert first.splitlines() == ["deployment.apps/web created", "configmap/settings created"]
    again = await rig.must(cli, *apply, text=DEPLOYMENT)
    assert again.splitlines() == ["deployment.apps/web unchanged", "configmap/settings unchanged"]
    changed = DEPLOYMENT.replace("nginx", "httpd").replace('size: "1"', 'shape: "round"')
    third = await rig.must(cli, *apply, text=changed)
    assert third.splitlines() == ["deployment.apps/web configured", "configmap/settings configured"]
    template = "{.spec.template.spec.containers[*].image}"
    images = await rig.must(cli, "get", "deploy", "web", "-o", f"jsonpath={template}")
    assert images == "httpd x"
    data = await rig.must(cli, "get", "cm", "settings", "-o", "jsonpath={.data}")
    assert data == '{"color":"red","shape":"round"}'
    deleted = await rig.must(cli, "delete", "-f", "-", text=DEPLOYMENT)
    assert len(deleted.splitlines()) == 2


async def test_diff_tells_what_apply_would_change(rig: Rig, cli: Path) -> None:
    await rig.must(cli, "apply", "-f", "-", text=DEPLOYMENT)
    code, out, _ = await rig.run(cli, "diff", "-f", "-", text=DEPLOYMENT)
    assert (code, out) == (0, "")
    changed = DEPLOYMENT.replace("nginx", "httpd")
    code, out, _ = await rig.run(cli, "diff", "-f", "-", text=changed)
    assert code == 1
    assert "-      - image: nginx" in out
    assert "+      - image: httpd" in out


async def test_imperative_verbs(rig: Rig, cli: Path) -> None:
    await rig.must(cli, "create", "deployment", "web", "--image=nginx")
    await rig.must(cli, "scale", "deploy/web", "--replicas=3")
    await rig.must(cli, "set", "image", "deploy/web", "nginx=httpd")
    await rig.must(cli, "label", "deploy/web", "tier=front")
    await rig.must(cli, "annotate", "deploy/web", "note=hello there")
    await rig.must(cli, "rollout", "restart", "deploy/web")
    patch = '[{"op": "replace", "path": "/spec/paused", "value": true}]'
    await rig.run(cli, "patch", "deploy/web", "--type=json", "-p", patch)
    await rig.must(cli, "expose", "deploy/web", "--port=80")
    await rig.must(cli, "create", "secret", "generic", "s", "--from-literal=a=b")
    await rig.must(cli, "create", "configmap", "c", "--from-literal=a=b")
    await rig.must(cli, "create", "namespace", "other")
    await rig.must(cli, "create", "serviceaccount", "robot")
    await rig.must(cli, "create", "role", "r", "--verb=get", "--resource=pods")
    await rig.must(cli, "create", "job", "j", "--image=x")
    out = yaml.safe_load(await rig.must(cli, "get", "deploy", "web", "-o", "yaml"))
    assert out["spec"]["replicas"] == 3
    assert out["metadata"]["labels"] == {"app": "web", "tier": "front"}
    assert out["metadata"]["annotations"]["note"] == "hello there"
    container = out["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "httpd"
    token = await rig.must(cli, "create", "token", "robot")
    assert token.count(".") == 2
    assert (await rig.must(cli, "auth", "can-i", "create", "pods")).strip() == "yes"


async def test_tables(rig: Rig, cli: Path) -> None:
    await rig.ok("POST", PODS, pod("a", labels={"app": "x"}))
    status = {
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [
                {"name": "c", "ready": True, "restartCount": 2, "state": {"running": {}}}
            ],
        }
    }
    merge = "application/merge-patch+json"
    await rig.ok("PATCH", f"{PODS}/a/status", status, media=merge)
    out = (await rig.must(cli, "get", "pods", "-o", "wide")).splitlines()
    assert out[0].split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert out[1].split()[:4] == ["a", "1/1", "Running", "2"]
    assert "10.0.0.1" in out[1]
    out = (await rig.must(cli, "get", "pods,svc", "-A")).splitlines()
    assert out[0].split() == ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert await rig.must(cli, "get", "pods", "-o", "name", "--chunk-size=1") == "pod/a\n"
    described = await rig.must(cli, "describe", "pod", "a")
    assert "IP:               10.0.0.1" in described


async def test_wait_and_delete(rig: Rig, cli: Path) -> None:
    await rig.ok("POST", PODS, pod("a"))
    condition = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    merge = "application/merge-patch+json"
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(
            rig.must(cli, "wait", "--for=condition=Ready", "pod/a", "--timeout=20s")
        )
        async with asyncio.timeout(20):
            while not rig.server.watches:
                await rig.ok("GET", "/version")
        await rig.ok("PATCH", f"{PODS}/a/status", condition, media=merge)
    assert waiting.result() == "pod/a condition met\n"
    await rig.must(cli, "delete", "pod", "a", "--timeout=20s")
    assert (await rig.call("GET", f"{PODS}/a")).status == 404


async def test_edit_and_replace(rig: Rig, cli: Path) -> None:
    await rig.ok("POST", "/api/v1/namespaces/default/configmaps", config_map("a", {"k": "old"}))
    code, _, err = await rig.run(cli, "edit", "cm", "a", env={"EDITOR": "sed -i s/old/new/"})
    assert code == 0, err
    assert await rig.must(cli, "get", "cm", "a", "-o", "jsonpath={.data.k}") == "new"
    made = yaml.safe_load(await rig.must(cli, "get", "cm", "a", "-o", "yaml"))
    made["data"]["k"] = "third"
    await rig.must(cli, "replace", "-f", "-", text=yaml.safe_dump(made))
    code, _, err = await rig.run(cli, "replace", "-f", "-", text=yaml.safe_dump(made))
    assert code == 1
    assert "the object has been modified" in err


async def test_mistakes_are_said_in_one_line(rig: Rig, cli: Path) -> None:
    for args, text, message in (
        (("get", "nothing"), "", "the server doesn't have a resource type"),
        (("get", "pod", "no"), "", 'Error from server (NotFound): pods "no" not found'),
        (("apply", "-f", "-"), "a: [", "error parsing STDIN"),
        (("logs", "no"), "", 'pods "no" not found'),
        (("create", "ns", "Bad"), "", 'The Namespace "Bad" is invalid: metadata.name'),
    ):
        code, _, err = await rig.run(cli, *args, text=text)
        assert code == 1
        assert message in err
        assert "Traceback" not in err


async def test_a_new_kind_is_served_at_once(rig: Rig, cli: Path) -> None:
    definition = yaml.safe_dump(widget_definition())
    await rig.must(cli, "apply", "-f", "-", text=definition)
    await rig.must(cli, "wait", "--for=condition=Established", "crd/widgets.example.com")
    widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n"
    await rig.must(cli, "apply", "-f", "-", text=widget)
    assert "w" in await rig.must(cli, "get", "wd")
    kinds = await rig.must(cli, "api-resources", "--api-group=example.com")
    assert "Widget" in kinds


CHART = {
    "Chart.yaml": "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    "values.yaml": "replicas: 1\n",
    "templates/all.yaml": DEPLOYMENT.replace("replicas: 1", "replicas: {{ .Values.replicas }}"),
}


async def test_helm_installs_upgrades_rolls_back_and_uninstalls(
    rig: Rig, kubectl: Path, helm: Path, tmp_path: Path
) -> None:
    chart = tmp_path / "chart"
    for name, text in CHART.items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(text)
    upgrade = ("upgrade", "-i", "--create-namespace", "-n", "apps", "tiny", str(chart))
    assert "STATUS: deployed" in await rig.must(helm, *upgrade)
    assert "REVISION: 2" in await rig.must(helm, *upgrade, "--set", "replicas=2")
    replicas = ("-n", "apps", "get", "deploy", "web", "-o", "jsonpath={.spec.replicas}")
    assert await rig.must(kubectl, *replicas) == "2"
    await rig.must(helm, "rollback", "-n", "apps", "tiny", "1")
    assert await rig.must(kubectl, *replicas) == "1"
    assert "tiny-0.1.0" in await rig.must(helm, "list", "-A")
    await rig.must(helm, "uninstall", "-n", "apps", "tiny")
    left = await rig.must(kubectl, "-n", "apps", "get", "deploy,secret", "-o", "name")
    assert left == ""


@pytest.mark.parametrize("verb", ["create", "apply", "replace"])
@pytest.mark.parametrize(
    ("version", "kind"), [("example.com/v1", "Foo"), ("v1", "Foo"), ("apps/v2", "Deployment")]
)
async def test_a_kind_that_is_not_known(
    rig: Rig, cli: Path, verb: str, version: str, kind: str
) -> None:
    text = yaml.safe_dump({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}})
    code, _, said = await rig.run(cli, verb, "-f", "-", text=text)
    assert code == 1
    assert f'no matches for kind "{kind}" in version "{version}"' in said
    assert "ensure CRDs are installed first" in said
