"""Pods and Pod templates."""

from __future__ import annotations

import re
from typing import Any

from inferway.api.codec import Object
from inferway.api.defaults.amounts import canonical

GRACE_SECONDS = 30
FILE_MODE = 0o644
TOKEN_SECONDS = 3600
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
_VOLUMES_WITH_MODE = ("configMap", "secret", "downwardAPI", "projected")


def complete(pod: Object) -> None:
    """A Pod by itself; requests that are left out are the limits."""
    spec = pod.setdefault("spec", {})
    complete_spec(spec)
    spec.setdefault("enableServiceLinks", True)
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container["resources"]
        if resources.get("limits"):
            resources["requests"] = resources["limits"] | (resources.get("requests") or {})


def complete_template(template: Object) -> None:
    """The template of a workload."""
    template.setdefault("metadata", {})
    complete_spec(template.setdefault("spec", {}))


def complete_spec(spec: Object) -> None:
    """A Pod's spec."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or ():
            _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in spec.get("volumes") or ():
        _volume(volume)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", GRACE_SECONDS)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    # Two names of one field.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def pull_policy(image: str) -> str:
    """Always for images without a tag or with the tag ``latest``, unless a digest names them."""
    if "@" in image:
        return "IfNotPresent"
    tag = re.search(r":([^/:]+)$", image)
    return "Always" if tag is None or tag[1] == "latest" else "IfNotPresent"


def _container(container: Object, *, host_network: bool) -> None:
    container.setdefault("resources", {})
    for name in ("limits", "requests"):
        amounts = container["resources"].get(name)
        if amounts:
            container["resources"][name] = {k: canonical(v) for k, v in amounts.items()}
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(container.get("image") or "")
    for port in container.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if host_network and not port.get("hostPort") and "containerPort" in port:
            port["hostPort"] = port["containerPort"]
    for variable in container.get("env") or ():
        _field_reference(variable.get("valueFrom"))
        resource = (variable.get("valueFrom") or {}).get("resourceFieldRef")
        if resource is not None:
            resource.setdefault("divisor", "0")
    for name in _PROBES:
        probe = container.get(name)
        if probe is not None:
            for field, value in _PROBE.items():
                if not probe.get(field):
                    probe[field] = value
            _handler(probe)
    for handler in (container.get("lifecycle") or {}).values():
        if isinstance(handler, dict):
            _handler(handler)


def _handler(handler: Object) -> None:
    get = handler.get("httpGet")
    if get is not None:
        get["path"] = get.get("path") or "/"
        get["scheme"] = get.get("scheme") or "HTTP"
    grpc = handler.get("grpc")
    if grpc is not None:
        grpc.setdefault("service", "")


def _field_reference(holder: Any) -> None:
    reference = (holder or {}).get("fieldRef")
    if reference is not None:
        reference.setdefault("apiVersion", "v1")


def _volume(volume: Object) -> None:
    if not set(volume) - {"name"}:
        volume["emptyDir"] = {}
    for name in _VOLUMES_WITH_MODE:
        if volume.get(name) is not None:
            volume[name].setdefault("defaultMode", FILE_MODE)
    host_path = volume.get("hostPath")
    if host_path is not None:
        host_path.setdefault("type", "")
    for file in (volume.get("downwardAPI") or {}).get("items") or ():
        _field_reference(file)
    for source in (volume.get("projected") or {}).get("sources") or ():
        for file in (source.get("downwardAPI") or {}).get("items") or ():
            _field_reference(file)
        token = source.get("serviceAccountToken")
        if token is not None:
            token.setdefault("expirationSeconds", TOKEN_SECONDS)
