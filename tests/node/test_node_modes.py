"""The node where namespaces are refused, over a restart, and with Pods on the host's network."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from node_cluster import Cluster, cluster, container_state, eventually, phase, ready, shell
from test_node_pods import http_get, processes_with

from inferway.api.resources import CONFIG_MAPS, NODES, PODS, SERVICES
from inferway.local.node import main as node
from inferway.local.node.options import NodeOptions

pytestmark = pytest.mark.slow


async def test_without_namespaces_paths_are_rewritten(tmp_path: Path) -> None:
    async with cluster(tmp_path, host_only=True) as stack:
        await stack.client.create(
            CONFIG_MAPS,
            {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "content"}},
        )
        script = (
            "import json, os, sys\n"
            "account = os.environ['INFERWAY_SERVICE_ACCOUNT_DIR']\n"
            "print(json.dumps({'arg': open(sys.argv[1]).read(), 'option': sys.argv[2], "
            "'env': open(os.environ['FILE']).read(), 'account': sorted(os.listdir(account)), "
            "'localhost': os.environ['INFERWAY_LOCALHOST']}), flush=True)\n"
            "from http.server import *\n"
            "at = (os.environ['INFERWAY_POD_IP'], 8000)\n"
            "ThreadingHTTPServer(at, SimpleHTTPRequestHandler).serve_forever()"
        )
        container = {
            "name": "main",
            "image": "python:3.12",
            "command": ["python3", "-c", script, "/config/a", "--file=/config/a"],
            "env": [{"name": "FILE", "value": "/config/a"}],
            "volumeMounts": [{"name": "config", "mountPath": "/config"}],
            "readinessProbe": {"tcpSocket": {"port": 8000}},
        }
        spec = {
            "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": "settings"}}],
            "terminationGracePeriodSeconds": 1,
        }
        for name in ("one", "two"):
            await stack.create_pod(name, spec)
        for name in ("one", "two"):
            pod = await stack.pod_until(name, ready)
            address = pod["status"]["podIP"]
            told = json.loads(stack.said(pod, "main")[0])
            assert (told["arg"], told["env"]) == ("content", "content")
            assert told["option"].endswith("/volumes/config/a")
            assert {"ca.crt", "namespace", "token"} <= set(told["account"])
            assert told["localhost"] == address
            assert (await http_get(address, 8000))[0] == 200
        found = await stack.client.get(NODES, "inferway")
        wanted = "none: switched off"
        assert found["metadata"]["annotations"]["inferway.dev/isolation"] == wanted


async def test_a_restarted_node_ends_leftovers_and_starts_its_pods_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.create_pod("stays", {"containers": [shell("exec sleep 97531")]})
        before = await stack.pod_until("stays", ready)
        assert stack.node_task is not None
        stack.node_task.cancel()
        await eventually(lambda: stack.node_task is not None and stack.node_task.done())
        assert processes_with("sleep 97531") == []
        # The record of a process that is not ours any more must not harm its namesake.
        records = tmp_path / "node/records"
        records.mkdir(exist_ok=True)
        mine = json.dumps({"uid": "old", "pid": os.getpid(), "start_time": "1"})
        (records / "old").write_text(mine)

        group_settings = NodeOptions(state=tmp_path / "node", network=stack.network)
        async with asyncio.TaskGroup() as group:
            again = group.create_task(node.run(stack.client, group_settings))

            def restarted(pod: dict[str, Any]) -> bool:
                return ready(pod) and container_state(pod, "main")["restartCount"] == 1

            after = await stack.pod_until("stays", restarted)
            assert after["status"]["podIP"] == before["status"]["podIP"]
            assert len(processes_with("sleep 97531")) == 1
            assert list(records.glob("old")) == []
            again.cancel()


async def test_a_killed_sandbox_is_made_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.create_pod("hurt", {"containers": [shell("exec sleep 97532")]})
        await stack.pod_until("hurt", ready)
        record = json.loads(next((tmp_path / "node/records").iterdir()).read_text())
        os.kill(record["pid"], signal.SIGKILL)
        await stack.pod_until(
            "hurt", lambda p: ready(p) and container_state(p, "main")["restartCount"] == 1
        )


async def test_the_address_of_a_service(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.client.create(
            SERVICES,
            {
                "metadata": {"name": "door", "namespace": "default"},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            },
        )
        notes = {"inferway.dev/address-from-service": "door"}
        container = {
            "name": "main",
            "image": "envoyproxy/envoy:v1",
            "command": ["sh", "-c", 'echo "$BIND_ADDRESS $INFERWAY_POD_IP"; sleep 1000'],
        }
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
        await stack.create_pod("proxy", spec, annotations=notes)
        pod = await stack.pod_until("proxy", ready)
        door = await stack.client.get(SERVICES, "door", "default")
        address = door["status"]["loadBalancer"]["ingress"][0]["ip"]
        own = pod["status"]["podIP"]
        assert own != address
        await eventually(lambda: stack.said(pod, "main") == [f"{address} {own}"])
        pod = await stack.create_pod(
            "lost", spec, annotations={"inferway.dev/address-from-service": "nowhere"}
        )
        assert pod["metadata"]["name"] == "lost"
        await stack.client.delete(PODS, "lost", "default", grace_seconds=0)
        await stack.pod_gone("lost")


async def test_a_user_table_and_own_programs(tmp_path: Path) -> None:
    table = tmp_path / "images.yaml"
    table.write_text('images: [{match: ["example/*"], run: [echo, first], env: {WHO: table}}]')
    async with cluster(tmp_path, images=table) as stack:
        container = {
            "name": "main",
            "image": "example/app:1",
            "args": ["$(WHO)"],
            "env": [{"name": "WHO", "value": "manifest"}],
        }
        spec = {"containers": [container], "restartPolicy": "Never"}
        await stack.create_pod("own", spec)
        pod = await stack.pod_until("own", phase("Succeeded"))
        # What the table sets wins, and is in place before references are replaced.
        assert stack.said(pod, "main") == ["first table"]


async def test_sub_paths_and_read_only_and_memory(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await _files(stack)


async def _files(stack: Cluster) -> None:
    await stack.client.create(
        CONFIG_MAPS,
        {"metadata": {"name": "c", "namespace": "default"}, "data": {"a": "A", "b": "B"}},
    )
    script = (
        "cat /etc/only-one; echo; cat /down/labels; echo; stat -c %a -L /config/x/b; "
        "touch /config/new 2>&1 | grep -o Read-only; echo x > /dev/shm/y && cat /dev/shm/y"
    )
    mounts = [
        {"name": "c", "mountPath": "/etc/only-one", "subPath": "a"},
        {"name": "items", "mountPath": "/config"},
        {"name": "down", "mountPath": "/down"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    item = {"key": "b", "path": "x/b", "mode": 0o400}
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "items", "configMap": {"name": "c", "items": [item]}},
        {
            "name": "down",
            "downwardAPI": {
                "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            },
        },
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    await stack.create_pod(
        "files",
        {
            "containers": [shell(script, volumeMounts=mounts)],
            "volumes": volumes,
            "restartPolicy": "Never",
        },
        labels={"app": "files"},
    )
    pod = await stack.pod_until("files", phase("Succeeded"))
    assert stack.said(pod, "main") == ["A", 'app="files"', "400", "Read-only", "x"]
    assert not Path("/etc/only-one").exists()
