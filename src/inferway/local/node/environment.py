"""A container's environment and the expansion of ``$(VAR)``, as a kubelet makes them. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal
from typing import Any

from inferway.api.pods import Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector
from inferway.base import quantities

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")
_NAME = re.compile(r"^[^=]+$")
_BY_KEY = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")

ObjectData = Mapping[str, str]
"""The data of a ConfigMap or a Secret, decoded."""


class MissingError(ValueError):
    """A source that a container needs is not there; worded as a kubelet words it."""


@dataclass(frozen=True, slots=True)
class EnvironmentSources:
    """Where values come from. The two functions return None for an object that is not there."""

    pod: Pod
    pod_ip: str
    host_ip: str
    node_name: str
    config_map: Callable[[str], ObjectData | None]
    secret: Callable[[str], ObjectData | None]
    allocatable: Mapping[str, Decimal] = field(default_factory=dict)


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replaces ``$(NAME)``; unknown names stay, ``$$`` is one dollar."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def container_environment(
    container: Container, sources: EnvironmentSources, base: Mapping[str, str]
) -> dict[str, str]:
    """``base`` (services and the node's own), then envFrom, then env. Raises MissingError."""
    result = dict(base)
    for source in container.env_from:
        for reference, look, kind in (
            (source.config_map_ref, sources.config_map, "configmap"),
            (source.secret_ref, sources.secret, "secret"),
        ):
            if reference is None:
                continue
            data = look(reference.name)
            if data is None:
                if reference.optional:
                    continue
                raise MissingError(f'{kind} "{reference.name}" not found')
            for name, value in data.items():
                if _NAME.match(source.prefix + name):
                    result[source.prefix + name] = value
    for variable in container.env:
        found = _value(variable, container, sources, result)
        if found is not None:
            result[variable.name] = found
    return result


def _value(
    variable: EnvVar,
    container: Container,
    sources: EnvironmentSources,
    known: Mapping[str, str],
) -> str | None:
    origin = variable.value_from
    if origin is None:
        return expand(variable.value, known)
    if origin.field_ref is not None:
        return field_value(origin.field_ref, sources)
    if origin.resource_field_ref is not None:
        return resource_value(origin.resource_field_ref, container, sources)
    for key, look, kind in (
        (origin.config_map_key_ref, sources.config_map, "configmap"),
        (origin.secret_key_ref, sources.secret, "secret"),
    ):
        if key is None:
            continue
        data = look(key.name)
        if data is not None and key.key in data:
            return data[key.key]
        if key.optional:
            return None
        if data is None:
            raise MissingError(f'{kind} "{key.name}" not found')
        place = f"{sources.pod.metadata.namespace}/{key.name}"
        name = "ConfigMap" if kind == "configmap" else "Secret"
        raise MissingError(f"couldn't find key {key.key} in {name} {place}")
    return None


def field_value(selector: ObjectFieldSelector, sources: EnvironmentSources) -> str:
    """A field of the Pod by its path. Raises MissingError for one that is not served."""
    pod, path = sources.pod, selector.field_path
    by_key = _BY_KEY.match(path)
    if by_key is not None:
        chosen = pod.metadata.labels if by_key[1] == "labels" else pod.metadata.annotations
        return chosen.get(by_key[2], "")
    values = {
        "metadata.name": pod.metadata.name,
        "metadata.namespace": pod.metadata.namespace,
        "metadata.uid": pod.metadata.uid,
        "spec.nodeName": sources.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name or "default",
        "status.podIP": sources.pod_ip,
        "status.podIPs": sources.pod_ip,
        "status.hostIP": sources.host_ip,
        "status.hostIPs": sources.host_ip,
        "metadata.labels": _lines(pod.metadata.labels),
        "metadata.annotations": _lines(pod.metadata.annotations),
    }
    if path not in values:
        raise MissingError(f"unsupported fieldPath: {path}")
    return values[path]


def _lines(values: Mapping[str, str]) -> str:
    escaped = {
        key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for key, value in values.items()
    }
    return "\n".join(f'{key}="{escaped[key]}"' for key in sorted(escaped))


def resource_value(
    selector: ResourceFieldSelector, own: Container, sources: EnvironmentSources
) -> str:
    """Requests or limits of a container, rounded up to the divisor."""
    containers = (*sources.pod.spec.containers, *sources.pod.spec.init_containers)
    name = selector.container_name
    container = next((one for one in containers if one.name == name), own) if name else own
    kind, _, resource = selector.resource.partition(".")
    chosen = container.resources.limits if kind == "limits" else container.resources.requests
    if resource in chosen:
        amount = quantities.parse(chosen[resource])
    else:
        # Without a limit a container may use what the node has.
        amount = sources.allocatable.get(resource, Decimal(0)) if kind == "limits" else Decimal(0)
    divisor = quantities.parse(selector.divisor) or Decimal(1)
    return str((amount / divisor).to_integral_value(ROUND_CEILING))


def service_variables(services: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The variables that Docker links had: ``A_SERVICE_HOST``, ``A_PORT_80_TCP`` ..."""
    found: dict[str, str] = {}
    for service in services:
        spec = service.get("spec") or {}
        address = spec.get("clusterIP")
        ports = spec.get("ports") or []
        if not address or address == "None" or not ports:
            continue
        name = _variable(str(service["metadata"]["name"]))
        found[f"{name}_SERVICE_HOST"] = str(address)
        found[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        for number, port in enumerate(ports):
            if port.get("name"):
                found[f"{name}_SERVICE_PORT_{_variable(str(port['name']))}"] = str(port["port"])
            protocol = str(port.get("protocol") or "TCP")
            url = f"{protocol.lower()}://{address}:{port['port']}"
            if number == 0:
                found[f"{name}_PORT"] = url
            prefix = f"{name}_PORT_{port['port']}_{protocol}"
            found[prefix] = url
            found[f"{prefix}_PROTO"] = protocol.lower()
            found[f"{prefix}_PORT"] = str(port["port"])
            found[f"{prefix}_ADDR"] = str(address)
    return found


def _variable(name: str) -> str:
    return name.upper().replace("-", "_").replace(".", "_")


def secret_data(secret: Mapping[str, Any]) -> dict[str, bytes]:
    """The decoded data of a Secret."""
    data = secret.get("data") or {}
    return {str(key): base64.b64decode(str(value or "")) for key, value in data.items()}


def config_map_data(config_map: Mapping[str, Any]) -> dict[str, bytes]:
    """The data of a ConfigMap, text and binary."""
    found = {str(key): str(value).encode() for key, value in (config_map.get("data") or {}).items()}
    for key, value in (config_map.get("binaryData") or {}).items():
        found[str(key)] = base64.b64decode(str(value or ""))
    return found
