"""The Deployment and the Service of a Gateway's proxies, as objects to apply.

Pure. Owned by the Gateway, in its namespace. Fields that others may own (an autoscaler's replicas)
are written only as the parameters say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferway.api.gateway import Gateway
from inferway.gateway.envoy.listener import Site
from inferway.gateway.envoy.names import STAT_PREFIX
from inferway.gateway.proxy.bootstrap import (
    DRAIN_HEADER,
    READY_PORT,
    Xds,
    bootstrap_text,
    drain_token,
)
from inferway.gateway.proxy.naming import (
    CLASS_LABEL,
    GATEWAY_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    gateway_label,
    object_name,
)
from inferway.gateway.proxy.parameters import Parameters

Object = dict[str, Any]

# Streams of a model last minutes; a proxy that is replaced lets them end.
GRACE_SECONDS = 300
# A Service needs this long to stop sending new connections to a Pod that ends. On one machine,
# where proxies hold the Service's address themselves, the node shortens it to the time that the
# next proxy needs to start.
DRAIN_SECONDS_MIN = 5
# As long as a stream may be silent.
DRAIN_SECONDS = 3600
# How often the draining proxy looks whether its last request is done.
_DRAIN_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ProxyObjects:
    """Both objects; ``name`` is the name of either."""

    name: str
    deployment: Object
    service: Object


def proxy_objects(
    gateway: Gateway, ports: tuple[int, ...], parameters: Parameters, xds: Xds
) -> ProxyObjects:
    """The objects for a Gateway that listens on ``ports``."""
    meta = gateway.metadata
    gateway_class = gateway.spec.gateway_class_name
    name = object_name(meta.name, gateway_class)
    selector = {GATEWAY_LABEL: gateway_label(meta.name), MANAGED_BY_LABEL: MANAGED_BY}
    infrastructure = gateway.spec.infrastructure
    labels = dict(infrastructure.labels or {}) if infrastructure is not None else {}
    annotations = dict(infrastructure.annotations or {}) if infrastructure is not None else {}
    own = {**labels, CLASS_LABEL: gateway_label(gateway_class), **selector}
    common = {
        "name": name,
        "namespace": meta.namespace,
        "labels": own,
        **({"annotations": annotations} if annotations else {}),
        "ownerReferences": [_owner(gateway)],
    }
    template = {
        "metadata": {
            "labels": {**parameters.pod_labels, **own},
            "annotations": {
                **annotations,
                # A local node binds the proxy to the Gateway's own address, without a hop.
                "inferway.dev/network": "host",
                "inferway.dev/address-from-service": name,
            },
        },
        "spec": _pod(gateway, ports, parameters, xds),
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": common,
        "spec": {
            "replicas": parameters.replicas,
            "selector": {"matchLabels": selector},
            "template": template,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": common,
        "spec": {
            "type": parameters.service_type,
            "selector": selector,
            "ports": [_service_port(port) for port in ports],
        },
    }
    return ProxyObjects(name, deployment, service)


def _owner(gateway: Gateway) -> Object:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "name": gateway.metadata.name,
        "uid": gateway.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _service_port(port: int) -> Object:
    return {
        "name": f"http-{port}",
        "port": port,
        "targetPort": Site().bound_port(port),
        "protocol": "TCP",
    }


def _pod(gateway: Gateway, ports: tuple[int, ...], parameters: Parameters, xds: Xds) -> Object:
    meta = gateway.metadata
    site = Site()
    text = bootstrap_text((meta.namespace, meta.name), meta.uid, xds)
    container = {
        "name": "envoy",
        "image": parameters.image,
        "args": [
            "--config-yaml",
            text,
            # Shared memory of hot restart would tie the proxies of one machine together.
            "--disable-hot-restart",
            "--log-level",
            "warning",
            # Envoy warns of each young extension at each change; sse_to_metadata is one.
            "--component-log-level",
            "misc:error",
            "--drain-time-s",
            str(DRAIN_SECONDS),
        ],
        "env": [
            *(_field(name, path) for name, path in _fields().items()),
            {"name": "BIND_ADDRESS", "value": site.bind_address},
            {"name": "DRAIN_SECONDS_MIN", "value": str(DRAIN_SECONDS_MIN)},
            # The folder of the native pick filter, where the image has one.
            {"name": "ENVOY_DYNAMIC_MODULES_SEARCH_PATH", "value": ""},
            {"name": "PRIVILEGED_PORT_OFFSET", "value": str(site.privileged_port_offset)},
        ],
        "ports": [
            *(
                {"name": f"http-{port}", "containerPort": site.bound_port(port), "protocol": "TCP"}
                for port in ports
            ),
            {"name": "ready", "containerPort": READY_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": READY_PORT},
            "periodSeconds": 1,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["bash", "-c", _drain(meta.uid)]}}},
        "resources": dict(parameters.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "containers": [container],
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _fields() -> Mapping[str, str]:
    return {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
    }


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _drain(uid: str) -> str:
    """Closes the listeners gently and waits until the last request is done.

    The image has a shell and no HTTP client, so the shell speaks HTTP itself. The listener that
    answers here is no inbound one, so it stays while the others drain.
    """
    head = (
        "%s HTTP/1.1\\r\\nhost: drain\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n"
        f"{DRAIN_HEADER}: {drain_token(uid)}\\r\\n\\r\\n"
    )
    active = f"http.{STAT_PREFIX}.downstream_rq_active"
    return (
        f"ask() {{ exec 3<>/dev/tcp/$POD_IP/{READY_PORT} "
        f"&& printf '{head}' \"$1\" >&3 && cat <&3; }}; "
        "ask 'POST /drain_listeners?graceful&skip_exit&inboundonly' >/dev/null; "
        "sleep $DRAIN_SECONDS_MIN; "
        f"while ask 'GET /stats?filter=^{active}$' | grep -q '{active}: [1-9]'; "
        f"do sleep {_DRAIN_POLL_SECONDS}; done"
    )
