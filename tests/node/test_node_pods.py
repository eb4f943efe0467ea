"""Pods on the node under the embedded API server: real processes, real files, real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from node_cluster import (
    Cluster,
    container_state,
    events_of,
    eventually,
    held_cluster,
    phase,
    ready,
    shell,
    waiting_for,
)

from inferway.api.resources import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    LEASES,
    NODES,
    PODS,
    SECRETS,
    SERVICES,
)

pytestmark = pytest.mark.slow
SERVER = "exec python3 -m http.server 8000"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with held_cluster(tmp_path) as found:
        yield found


async def http_get(address: str, port: int, path: str = "/") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(f"GET {path} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_a_pod_runs_is_reached_and_ends(stack: Cluster) -> None:
    container = shell(
        f"echo begins; {SERVER}",
        ports=[{"containerPort": 8000, "name": "http"}],
        readinessProbe={"httpGet": {"port": "http"}},
    )
    begun = time.monotonic()
    await stack.create_pod("web", {"containers": [container]})
    pod = await stack.pod_until("web", ready)
    assert time.monotonic() - begun < 5
    address = pod["status"]["podIP"]
    assert address.startswith(f"{stack.network}.1.")
    status, body = await http_get(address, 8000)
    assert (status, b"etc/" in body) == (200, True)
    assert stack.said(pod, "main")[0] == "begins"
    await stack.client.delete(PODS, "web", "default")
    await stack.pod_gone("web")
    with pytest.raises(ConnectionRefusedError):
        await http_get(address, 8000)


async def test_two_pods_use_the_same_port_and_a_sidecar_reaches_its_neighbour(
    stack: Cluster,
) -> None:
    look = (
        "import threading, urllib.request\n"
        "while True:\n"
        " try: print(urllib.request.urlopen('http://localhost:8000/').status, flush=True); break\n"
        " except OSError: threading.Event().wait(0.05)\n"
        "threading.Event().wait()"
    )
    sidecar = {
        "name": "look",
        "image": "python:3.12",
        "command": ["python3", "-c", look],
        "restartPolicy": "Always",
    }
    for name in ("one", "two"):
        await stack.create_pod(
            name,
            {
                "initContainers": [sidecar],
                "containers": [shell(SERVER)],
                "terminationGracePeriodSeconds": 1,
            },
        )
    for name in ("one", "two"):
        pod = await stack.pod_until(name, ready)
        await eventually(lambda pod=pod: stack.said(pod, "look") == ["200"])
        assert container_state(pod, "look")["state"]["running"]


async def test_init_containers_run_in_order_and_volumes_are_shared(stack: Cluster) -> None:
    mount = {"name": "data", "mountPath": "/data/deep"}
    first = {**shell("echo first >> /data/deep/file", volumeMounts=[mount]), "name": "first"}
    second = {**shell("echo second >> /data/deep/file", volumeMounts=[mount]), "name": "second"}
    await stack.create_pod(
        "ordered",
        {
            "initContainers": [first, second],
            "containers": [shell("cat /data/deep/file; ls /data", volumeMounts=[mount])],
            "volumes": [{"name": "data", "emptyDir": {}}],
            "restartPolicy": "Never",
        },
    )
    pod = await stack.pod_until("ordered", phase("Succeeded"))
    assert stack.said(pod, "main") == ["first", "second", "deep"]
    assert not Path("/data/deep").exists()
    assert container_state(pod, "main")["state"]["terminated"]["reason"] == "Completed"


async def test_a_changed_config_map_reaches_a_mounted_file(stack: Cluster) -> None:
    await stack.client.create(
        CONFIG_MAPS,
        {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a.yaml": "one"}},
    )
    script = "while true; do cat /config/a.yaml; echo; sleep 0.05; done"
    mount = {"name": "config", "mountPath": "/config"}
    await stack.create_pod(
        "reader",
        {
            "containers": [shell(script, volumeMounts=[mount])],
            "volumes": [{"name": "config", "configMap": {"name": "settings"}}],
            "terminationGracePeriodSeconds": 0,
        },
    )
    pod = await stack.pod_until("reader", ready)
    await eventually(lambda: "one" in stack.said(pod, "main"))
    await stack.client.patch(CONFIG_MAPS, "settings", {"data": {"a.yaml": "two"}}, "default")
    await eventually(lambda: stack.said(pod, "main")[-1:] == ["two"], 2.0)
    # A reader never saw a file that was not there or half of one.
    assert set(stack.said(pod, "main")) <= {"one", "two", ""}


async def test_what_a_container_is_told(stack: Cluster) -> None:
    await stack.client.create(
        SECRETS,
        {"metadata": {"name": "key", "namespace": "default"}, "stringData": {"token": "s3cret"}},
    )
    env = [
        {"name": "A", "value": "a"},
        {"name": "B", "value": "$(A)-$(MISSING)-$$(A)"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
    ]
    script = (
        "import json, os, socket\n"
        "account = '/var/run/secrets/kubernetes.io/serviceaccount/'\n"
        "print(json.dumps({'env': dict(os.environ), 'host': socket.gethostname(), "
        "'ip': socket.gethostbyname(socket.gethostname()), "
        "'namespace': open(account + 'namespace').read(), "
        "'token': open(account + 'token').read().count('.'), "
        "'ca': open(account + 'ca.crt').read()[:27]}))"
    )
    container = {
        "name": "main",
        "image": "python:3.12",
        "command": ["python3", "-c", script],
        "env": env,
        "resources": {"limits": {"memory": "64Mi"}},
    }
    await stack.create_pod("told", {"containers": [container], "restartPolicy": "Never"})
    pod = await stack.pod_until("told", phase("Succeeded"))
    told = json.loads(stack.said(pod, "main")[0])
    address = pod["status"]["podIP"]
    values = told.pop("env")
    assert told == {
        "host": "told",
        "ip": address,
        "namespace": "default",
        "token": 2,
        "ca": "-----BEGIN CERTIFICATE-----",
    }
    wanted = {
        "A": "a",
        "B": "a-$(MISSING)-$(A)",
        "NODE": "inferway",
        "IP": address,
        "MEM": str(64 * 1024 * 1024),
        "KEY": "s3cret",
        "INFERWAY_POD_IP": address,
        "KUBERNETES_SERVICE_HOST": f"{stack.network}.0.1",
        "HOSTNAME": "told",
    }
    assert {name: values.get(name) for name in wanted} == wanted
    assert "INFERWAY_LOCALHOST" not in values


async def test_unknown_and_wrong_images_say_what_to_do(stack: Cluster) -> None:
    await stack.create_pod("unknown", {"containers": [{"name": "a", "image": "example/app:1"}]})
    await stack.create_pod("wrong", {"containers": [{"name": "a", "image": "UPPER//x"}]})

    pod = await stack.pod_until("unknown", waiting_for("a", "ErrImagePull"))
    line = '{match: ["example/app"], run: [PROGRAM, ARGUMENT]}'
    message = container_state(pod, "a")["state"]["waiting"]["message"]
    assert line in message
    assert str(stack.state / "node/images.yaml") in message
    await stack.pod_until("wrong", waiting_for("a", "InvalidImageName"))
    reasons = await eventually(lambda: _reasons(stack, "unknown", {"Failed"}))
    assert any(line in text for _, text in reasons)


async def _reasons(stack: Cluster, pod: str, wanted: set[str]) -> list[tuple[str, str]] | None:
    found = await events_of(stack, pod)
    return found if wanted <= {reason for reason, _ in found} else None


async def test_a_program_that_cannot_start_and_one_that_crashes(stack: Cluster) -> None:
    words = shell("echo why; exit 4", terminationMessagePolicy="FallbackToLogsOnError")
    await stack.create_pod("words", {"containers": [words], "restartPolicy": "Never"})
    pod = await stack.pod_until("words", phase("Failed"))
    assert container_state(pod, "main")["state"]["terminated"]["message"] == "why\n"

    missing = {"name": "main", "image": "busybox", "command": ["no-such-program"]}
    await stack.create_pod("missing", {"containers": [missing], "restartPolicy": "Never"})
    pod = await stack.pod_until("missing", phase("Failed"))
    ended = container_state(pod, "main")["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert 'exec: "no-such-program": executable file not found in $PATH' in ended["message"]

    await stack.create_pod("crash", {"containers": [shell("echo run; exit 3")]})

    def in_back_off(pod: dict[str, Any]) -> bool:
        state = container_state(pod, "main")
        waiting = state.get("state", {}).get("waiting", {})
        return waiting.get("reason") == "CrashLoopBackOff" and state["restartCount"] == 1

    pod = await stack.pod_until("crash", in_back_off)
    row = container_state(pod, "main")
    assert row["lastState"]["terminated"]["exitCode"] == 3
    assert row["state"]["waiting"]["message"].startswith(
        f"back-off 10s restarting failed container=main pod=crash_default({pod['metadata']['uid']}"
    )
    assert stack.logs(pod, "main", 0) != stack.logs(pod, "main", 1)
    assert phase("Running")(pod)


async def test_a_failing_liveness_probe_restarts(stack: Cluster) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/never-there"]}, "periodSeconds": 1}
    container = shell("sleep 1000", livenessProbe={**probe, "failureThreshold": 1})
    await stack.create_pod("sick", {"containers": [container], "terminationGracePeriodSeconds": 1})
    pod = await stack.pod_until(
        "sick",
        lambda p: (
            container_state(p, "main")["restartCount"] == 1 if container_state(p, "main") else False
        ),
    )
    assert container_state(pod, "main")["lastState"]["terminated"]["exitCode"] == 143
    found = await eventually(lambda: _reasons(stack, "sick", {"Unhealthy", "Killing"}))
    assert ("Killing", "Container main failed liveness probe, will be restarted") in found


async def test_grace_ends_with_sigkill_and_nothing_stays(stack: Cluster) -> None:
    script = "trap 'echo asked' TERM; sleep 9999 & echo $!; while true; do wait; done"
    await stack.create_pod(
        "stubborn", {"containers": [shell(script)], "terminationGracePeriodSeconds": 1}
    )
    pod = await stack.pod_until("stubborn", ready)
    await eventually(lambda: stack.said(pod, "main"))
    begun = time.monotonic()
    await stack.client.delete(PODS, "stubborn", "default")
    await eventually(lambda: stack.said(pod, "main")[1:] == ["asked"])
    await stack.pod_gone("stubborn")
    assert 0.9 < time.monotonic() - begun < 4
    # With the Pod its logs go.
    assert stack.said(pod, "main") == []
    assert processes_with("sleep 9999") == []


def processes_with(words: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if words in line:
                found.append(int(entry.name))
    return found


async def test_a_service_address_forwards_to_ready_pods(stack: Cluster) -> None:
    await stack.client.create(
        SERVICES,
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 8080, "targetPort": 8000}]},
        },
    )
    await stack.create_pod("web", {"containers": [shell(SERVER)]}, labels={"app": "web"})
    pod = await stack.pod_until("web", ready)
    service = await stack.client.get(SERVICES, "web", "default")
    address = service["spec"]["clusterIP"]

    async def answers() -> bool:
        try:
            return (await http_get(address, 8080))[0] == 200
        except OSError:
            return False

    await eventually(answers)
    assert pod["status"]["podIP"] != address
    await stack.client.delete(PODS, "web", "default", grace_seconds=0)

    async def refuses() -> bool:
        try:
            await http_get(address, 8080)
        except (OSError, IndexError):
            slices = await stack.client.list(ENDPOINT_SLICES, "default")
            return not any(one.get("endpoints") for one in slices.items if "web" in str(one))
        return False

    await eventually(refuses)


async def test_the_node_registers_itself(stack: Cluster) -> None:
    async def registered() -> Any:
        nodes = (await stack.client.list(NODES)).items
        node = nodes[0] if nodes else {}
        return node if node.get("status", {}).get("conditions") else None

    node = await eventually(registered)
    assert node["metadata"]["annotations"]["inferway.dev/isolation"].split(":")[0] in {
        "full",
        "none",
    }
    status = node["status"]
    assert {"cpu", "memory", "pods"} <= set(status["allocatable"])
    assert status["addresses"][0] == {"type": "InternalIP", "address": f"{stack.network}.0.2"}
    assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
    assert [c["status"] for c in status["conditions"] if c["type"] == "Ready"] == ["True"]
    lease = await eventually(lambda: _lease(stack))
    assert lease["spec"]["holderIdentity"] == "inferway"


async def _lease(stack: Cluster) -> Any:
    found = await stack.client.list(LEASES, "kube-node-lease")
    return found.items[0] if found.items else None


async def test_logs_are_served_to_the_api_server_only(stack: Cluster) -> None:
    script = "for i in 1 2 3; do echo line $i; done; sleep 1000"
    await stack.create_pod(
        "talk", {"containers": [shell(script)], "terminationGracePeriodSeconds": 1}
    )
    pod = await stack.pod_until("talk", ready)
    await eventually(lambda: len(stack.said(pod, "main")) == 3)
    path = "/api/v1/namespaces/default/pods/talk/log"
    text = await stack.client.request("GET", path, query={"tailLines": "2"})
    assert text == "line 2\nline 3\n"
    stamped = await stack.client.request("GET", path, query={"timestamps": "true"})
    assert stamped.splitlines()[0].split(" ", 1)[1] == "line 1"
    import ssl

    import aiohttp

    url = f"https://{stack.network}.0.2:10250"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/healthz", ssl=context) as answer:
            assert (answer.status, await answer.text()) == (200, "ok")
        log = f"{url}/containerLogs/default/talk/main"
        async with session.get(log, ssl=context) as answer:
            assert answer.status == 401
