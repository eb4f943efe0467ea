"""The controllers against the real embedded API server, with a node that only says ready."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from controllers_stack import Cluster, cluster, restarted

from inferway.api.resources import (
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    JOBS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    ResourceType,
)
from inferway.cluster.errors import NotFoundError
from inferway.local.controllers import objects as o
from inferway.local.controllers.main import ControllerOptions

pytestmark = [
    pytest.mark.slow,
    # How the server sets its shutdown time is tested in its own room.
    pytest.mark.filterwarnings("ignore:shutdown_timeout should be set:DeprecationWarning"),
]


def meta(name: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, **more}


def body(resource: ResourceType, name: str, namespace: str = "default", **more: Any) -> Any:
    extra = more.pop("meta", {})
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": meta(name, namespace, **extra),
        **more,
    }


def template(image: str = "v1", cpu: str = "10m", **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"requests": {"cpu": cpu}},
    }
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [container], **spec},
    }


def deployment(replicas: int = 3, **spec: Any) -> dict[str, Any]:
    return body(
        DEPLOYMENTS,
        "web",
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(),
            **spec,
        },
    )


def available(stack: Cluster) -> int:
    found = stack.live(DEPLOYMENTS)
    return o.integer(o.status(found[0]).get("availableReplicas"), 0) if found else 0


async def test_a_deployment_of_three_is_three_bound_pods_soon(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.all(PODS)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await stack.client.create(DEPLOYMENTS, deployment())
        await stack.until(
            "three bound Pods",
            lambda: len([p for p in stack.live(PODS) if o.spec(p).get("nodeName") == "node"]) == 3,
        )
        took = loop.time() - start
        await stack.until("three available", lambda: available(stack) == 3)
        await stack.until(
            "the Events of the way",
            lambda: (
                {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"}
                <= {e["reason"] for e in stack.live(EVENTS)}
            ),
        )
        # 200 ms is what an idle machine needs at most; this one is shared by other tests.
        assert took < 2.0


async def test_a_rolling_update_a_rollback_and_the_end(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment())
        await stack.until("three available", lambda: available(stack) == 3)

        def images() -> set[str]:
            return {
                o.spec(p)["containers"][0]["image"] for p in stack.live(PODS) if o.pod_active(p)
            }

        patch = {"spec": {"template": template("v2")}}
        await stack.client.patch(DEPLOYMENTS, "web", patch, "default")
        await stack.until("only v2", lambda: images() == {"v2"} and available(stack) == 3)

        def revisions() -> set[str]:
            key = "deployment.kubernetes.io/revision"
            return {str(o.annotated(s)[key]) for s in stack.live(REPLICA_SETS)}

        await stack.until("two revisions", lambda: revisions() == {"1", "2"})
        await stack.client.patch(
            DEPLOYMENTS, "web", {"spec": {"template": template("v1")}}, "default"
        )
        await stack.until("only v1", lambda: images() == {"v1"} and available(stack) == 3)
        await stack.client.delete(DEPLOYMENTS, "web", "default")
        await stack.until("nothing", lambda: not stack.live(PODS) and not stack.live(REPLICA_SETS))


async def test_a_foreground_deletion_waits_for_the_pods(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment(2))
        await stack.until("two available", lambda: available(stack) == 2)
        gone: list[str] = []
        for resource in (PODS, REPLICA_SETS, DEPLOYMENTS):
            informer = stack.of(resource)
            informer.subscribe_changes(
                lambda change, kind=resource.kind: gone.append(kind) if change.new is None else None
            )
        await stack.client.delete(DEPLOYMENTS, "web", "default", propagation="Foreground")
        await stack.until("nothing", lambda: gone.count("Deployment") == 1)
        assert gone.index("Deployment") == len(gone) - 1


async def test_orphans_stay_and_are_adopted(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment(1))
        await stack.until("one available", lambda: available(stack) == 1)
        before = {o.uid(p) for p in stack.live(PODS)}
        await stack.client.delete(DEPLOYMENTS, "web", "default", propagation="Orphan")
        await stack.until("no Deployment", lambda: not stack.live(DEPLOYMENTS))
        assert {o.uid(p) for p in stack.live(PODS)} == before
        await stack.client.create(DEPLOYMENTS, deployment(1))
        await stack.until(
            "adoption",
            lambda: (
                stack.live(REPLICA_SETS)
                and all(o.controller_of(s) is not None for s in stack.live(REPLICA_SETS))
                and available(stack) == 1
            ),
        )
        assert {o.uid(p) for p in stack.live(PODS)} == before


async def test_a_pod_that_does_not_fit_waits_until_it_does(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node(cpu="1", memory="1Gi")
        pod = body(PODS, "big", spec=template(cpu="2")["spec"])
        await stack.client.create(PODS, pod)

        def scheduled() -> Any:
            found = [p for p in stack.live(PODS) if o.name(p) == "big"]
            return o.condition(found[0], "PodScheduled") if found else None

        await stack.until("a refusal", scheduled)
        words = (
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
            "1 No preemption victims found for incoming pod."
        )
        found = scheduled()
        assert (found["status"], found["reason"], found["message"]) == (
            "False",
            "Unschedulable",
            words,
        )
        await stack.until("its Event", lambda: words in [e["message"] for e in stack.live(EVENTS)])
        more = {"status": {"allocatable": {"cpu": "4"}}}
        await stack.client.patch(NODES, "node", more, subresource="status")
        await stack.until(
            "a binding", lambda: o.spec(stack.live(PODS)[0]).get("nodeName") == "node"
        )


async def test_a_pod_gets_the_room_of_a_deleted_one(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node(cpu="1")
        for name in ("first", "second"):
            await stack.client.create(PODS, body(PODS, name, spec=template(cpu="1")["spec"]))
            await stack.until(
                f"a decision about {name}",
                lambda name=name: [
                    p
                    for p in stack.live(PODS)
                    if o.name(p) == name and o.condition(p, "PodScheduled")
                ],
            )
        await stack.client.delete(PODS, "first", "default")
        await stack.until(
            "the second Pod bound",
            lambda: [o.spec(p).get("nodeName") for p in stack.live(PODS)] == ["node"],
        )


async def test_kinds_that_come_at_run_time_are_collected_too(tmp_path: Path) -> None:
    thing = ResourceType("example.org", "v1", "Thing", "things")
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.org"},
        "spec": {
            "group": "example.org",
            "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "x-kubernetes-preserve-unknown-fields": True,
                        }
                    },
                }
            ],
        },
    }
    async with cluster(tmp_path) as stack:
        await stack.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
        owner = await stack.client.create(CONFIG_MAPS, body(CONFIG_MAPS, "owner"))
        await stack.of(thing).synced.wait()
        await stack.until(
            "an established kind",
            lambda: any(
                (o.condition(d, "Established") or {}).get("status") == "True"
                for d in stack.live(CUSTOM_RESOURCE_DEFINITIONS, "")
            ),
        )
        reference = o.controller_reference(owner, CONFIG_MAPS)
        await stack.client.create(
            thing, body(thing, "owned", meta={"ownerReferences": [reference]})
        )
        await stack.until("the thing", lambda: stack.live(thing))
        await stack.client.delete(CONFIG_MAPS, "owner", "default")
        await stack.until("no thing", lambda: not stack.live(thing))


async def test_a_service_gets_addresses_and_endpoints(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        spec = {
            "type": "LoadBalancer",
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        }
        await stack.client.create(SERVICES, body(SERVICES, "web", spec=spec))
        await stack.client.create(DEPLOYMENTS, deployment(2))

        def web() -> Any:
            return next((s for s in stack.live(SERVICES) if o.name(s) == "web"), {})

        def slices() -> list[Any]:
            key = "kubernetes.io/service-name"
            return [s for s in stack.live(ENDPOINT_SLICES) if o.labels(s).get(key) == "web"]

        def ready() -> int:
            return sum(
                1
                for s in slices()
                for e in s["endpoints"] or ()
                if e["conditions"]["ready"] and s["ports"][0]["port"] == 8000
            )

        stack.of(SERVICES)
        await stack.until("two ready endpoints", lambda: ready() == 2)
        await stack.until(
            "both addresses",
            lambda: (
                o.spec(web()).get("clusterIP")
                and (o.status(web()).get("loadBalancer") or {}).get("ingress")
            ),
        )
        address = o.spec(web())["clusterIP"]
        assert address.startswith("127.77.")
        await stack.client.delete(SERVICES, "web", "default")
        await stack.until("no slices", lambda: not slices())
        spec["type"] = "ClusterIP"
        await stack.client.create(SERVICES, body(SERVICES, "web", spec=spec))
        await stack.until("the same address", lambda: o.spec(web()).get("clusterIP") == address)


async def test_a_namespace_is_emptied_and_goes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(
            NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        )
        await stack.until(
            "its account and certificate",
            lambda: stack.live(SERVICE_ACCOUNTS, "shop") and stack.live(CONFIG_MAPS, "shop"),
        )
        inside = deployment(2)
        inside["metadata"]["namespace"] = "shop"
        await stack.client.create(DEPLOYMENTS, inside)
        await stack.client.create(CONFIG_MAPS, body(CONFIG_MAPS, "settings", "shop"))
        await stack.until(
            "ready Pods",
            lambda: len([p for p in stack.live(PODS, "shop") if o.pod_ready(p)]) == 2,
        )
        await stack.client.delete(NAMESPACES, "shop")

        def left() -> list[str]:
            return [key.name for key in stack.of(NAMESPACES).store]

        stack.of(NAMESPACES)
        await stack.of(NAMESPACES).synced.wait()
        await stack.until("no namespace", lambda: "shop" not in left())
        with pytest.raises(NotFoundError):
            await stack.client.get(NAMESPACES, "shop")
        assert (await stack.client.list(CONFIG_MAPS, "shop")).items == []
        assert (await stack.client.list(PODS, "shop")).items == []


async def test_objects_whose_owner_never_was_are_collected(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        ghost = {"apiVersion": "v1", "kind": "ConfigMap", "name": "ghost", "uid": "no-such-uid"}
        unknown = {"apiVersion": "x.io/v1", "kind": "Never", "name": "x", "uid": "other"}
        for name, owner in (("orphan", ghost), ("kept", unknown)):
            await stack.client.create(
                CONFIG_MAPS, body(CONFIG_MAPS, name, meta={"ownerReferences": [owner]})
            )

        def names() -> set[str]:
            return {o.name(c) for c in stack.live(CONFIG_MAPS)}

        await stack.of(CONFIG_MAPS).synced.wait()
        await stack.until("a collection", lambda: "orphan" not in names() and "kept" in names())


async def test_kinds_that_nobody_serves_say_so(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        daemon_sets = ResourceType("apps", "v1", "DaemonSet", "daemonsets")
        spec = {"selector": {"matchLabels": {"app": "web"}}, "template": template()}
        await stack.client.create(daemon_sets, body(daemon_sets, "agent", spec=spec))
        await stack.until(
            "advice",
            lambda: [e for e in stack.live(EVENTS) if e["reason"] == "NotSupportedLocally"],
        )
        (event,) = stack.live(EVENTS)
        assert event["message"] == (
            "The local stack stores DaemonSet objects and does not act on them; "
            "use a Deployment with one replica"
        )


async def test_a_job_runs_to_its_end(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        pod_spec = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}
        job = body(
            JOBS,
            "hook",
            spec={"template": {"spec": pod_spec}, "ttlSecondsAfterFinished": 0},
        )
        stack.of(JOBS)
        await stack.client.create(JOBS, job)
        await stack.until("a Pod", lambda: stack.live(PODS))
        pod = o.name(stack.live(PODS)[0])
        done = {"status": {"phase": "Succeeded"}}
        await stack.client.patch(PODS, pod, done, "default", subresource="status")
        await stack.until(
            "the end", lambda: "Completed" in [e["reason"] for e in stack.live(EVENTS)]
        )
        await stack.until("no Job and no Pod", lambda: not stack.live(JOBS) + stack.live(PODS))


async def test_a_silent_node_is_not_ready(tmp_path: Path) -> None:
    options = ControllerOptions(node_grace_seconds=0.2)
    async with cluster(tmp_path, options) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment(1))

        def state() -> str:
            nodes = stack.live(NODES, "")
            return str((o.condition(nodes[0], "Ready") or {}).get("status")) if nodes else ""

        stack.of(NODES)
        await stack.until("Unknown", lambda: state() == "Unknown")
        await stack.until(
            "no ready Pod", lambda: not [p for p in stack.live(PODS) if o.pod_ready(p)]
        )


async def test_a_restart_makes_nothing_twice(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment(3))
        await stack.until("three available", lambda: available(stack) == 3)
        before = {o.uid(p) for p in stack.live(PODS)}
    async with cluster(tmp_path) as stack:
        await stack.all(PODS)
        await stack.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 4}}, "default")
        await stack.until("four Pods", lambda: len(stack.live(PODS)) == 4)
        assert before <= {o.uid(p) for p in stack.live(PODS)}


async def test_controllers_outlive_their_server(tmp_path: Path) -> None:
    async with cluster(tmp_path) as stack:
        await stack.node()
        await stack.client.create(DEPLOYMENTS, deployment(2))
        await stack.until("two available", lambda: available(stack) == 2)
        before = {o.uid(p) for p in stack.live(PODS)}
        async with restarted(stack):
            patch = {"spec": {"replicas": 4}}
            await stack.client.patch(DEPLOYMENTS, "web", patch, "default")
            await stack.until("four available", lambda: available(stack) == 4)
            assert before <= {o.uid(p) for p in stack.live(PODS)}
            assert len(stack.live(PODS)) == 4
