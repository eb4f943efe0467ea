"""Containers of a Pod: image, ports, environment, mounts, probes, resources."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any

from inferway.api.codec import Object
from inferway.api.judging import words
from inferway.api.judging.words import Errors
from inferway.api.schema import errors
from inferway.base import quantities

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL = ("Always", "IfNotPresent", "Never")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_NUMBERS = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")
_NOT_IN_INIT = (*_PROBES, "lifecycle")


def judge(path: str, container: Object, volumes: Collection[str], *, init: bool) -> Errors:
    """A container; ``volumes`` are the names that it may mount."""
    name, image = container.get("name") or "", container.get("image") or ""
    if not name:
        yield errors.required(f"{path}.name")
    else:
        yield from words.dns_label(f"{path}.name", name)
    if not image:
        yield errors.required(f"{path}.image")
    elif image != image.strip():
        text = "must not have leading or trailing whitespace"
        yield errors.invalid(f"{path}.image", image, text)
    yield from _ports(f"{path}.ports", container.get("ports") or [])
    for place, variable in enumerate(container.get("env") or ()):
        yield from _variable(f"{path}.env[{place}]", variable)
    for place, source in enumerate(container.get("envFrom") or ()):
        yield from _env_from(f"{path}.envFrom[{place}]", source)
    yield from _mounts(f"{path}.volumeMounts", container.get("volumeMounts") or [], volumes)
    yield from _policies(path, container, init=init)
    for probe in _PROBES:
        if container.get(probe) is not None:
            yield from _probe(f"{path}.{probe}", container[probe], ready=probe == "readinessProbe")
    for hook, handler in (container.get("lifecycle") or {}).items():
        if isinstance(handler, dict):
            yield from _handler(f"{path}.lifecycle.{hook}", handler)
    yield from _resources(f"{path}.resources", container.get("resources") or {})


def _policies(path: str, container: Object, *, init: bool) -> Errors:
    yield from words.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL)
    restart = container.get("restartPolicy")
    if not init:
        return
    if restart is not None and not container.get("restartPolicyRules"):
        yield from words.one_of(f"{path}.restartPolicy", restart, ("Always",))
    if restart != "Always":
        for name in _NOT_IN_INIT:
            if container.get(name):
                text = "may not be set for init containers without restartPolicy=Always"
                yield errors.forbidden(f"{path}.{name}", text)


def _ports(path: str, ports: list[Any]) -> Errors:
    names: set[str] = set()
    for place, port in enumerate(ports):
        here = f"{path}[{place}]"
        name = port.get("name")
        if name:
            yield from words.port_name(f"{here}.name", name)
            if name in names:
                yield errors.duplicate(f"{here}.name", name)
            names.add(name)
        if not port.get("containerPort"):
            yield errors.required(f"{here}.containerPort")
        else:
            yield from words.port_number(f"{here}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from words.port_number(f"{here}.hostPort", port["hostPort"])
        yield from words.one_of(f"{here}.protocol", port.get("protocol"), _PROTOCOLS)


def _variable(path: str, variable: Object) -> Errors:
    name = variable.get("name") or ""
    if not name:
        yield errors.required(f"{path}.name")
    elif "=" in name or not (name.isascii() and name.isprintable()):
        text = (
            "a valid environment variable name must consist only of printable ASCII characters "
            "other than '='"
        )
        yield errors.invalid(f"{path}.name", name, text)
    source = variable.get("valueFrom")
    if source is None:
        return
    here = f"{path}.valueFrom"
    given = [key for key in _SOURCES if source.get(key) is not None]
    if variable.get("value"):
        yield errors.invalid(here, "", "may not be specified when `value` is not empty")
    elif not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or "
        yield errors.invalid(here, "", f"{text}`secretKeyRef`")
    elif len(given) > 1:
        yield errors.invalid(here, "", "may not have more than one field specified at a time")
    for kind in ("configMapKeyRef", "secretKeyRef"):
        reference = source.get(kind)
        if reference is not None:
            for field in ("name", "key"):
                if not reference.get(field):
                    yield errors.required(f"{here}.{kind}.{field}")
    if source.get("fieldRef") is not None and not source["fieldRef"].get("fieldPath"):
        yield errors.required(f"{here}.fieldRef.fieldPath")
    if source.get("resourceFieldRef") is not None and not source["resourceFieldRef"].get(
        "resource"
    ):
        yield errors.required(f"{here}.resourceFieldRef.resource")


def _env_from(path: str, source: Object) -> Errors:
    given = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
    if not given:
        yield errors.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        yield errors.invalid(path, "", "may not have more than one field specified at a time")
    for key in given:
        if not source[key].get("name"):
            yield errors.required(f"{path}.{key}.name")


def _mounts(path: str, mounts: list[Any], volumes: Collection[str]) -> Errors:
    places: set[str] = set()
    for place, mount in enumerate(mounts):
        here = f"{path}[{place}]"
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield errors.required(f"{here}.name")
        elif name not in volumes:
            yield errors.not_found(f"{here}.name", name)
        if not target:
            yield errors.required(f"{here}.mountPath")
        elif target in places:
            yield errors.invalid(f"{here}.mountPath", target, "must be unique")
        places.add(target)
        for field in ("subPath", "subPathExpr"):
            inner = mount.get(field) or ""
            if inner.startswith("/"):
                yield errors.invalid(f"{here}.{field}", inner, "must be a relative path")
            if ".." in inner.split("/"):
                yield errors.invalid(f"{here}.{field}", inner, "must not contain '..'")


def _probe(path: str, probe: Object, *, ready: bool) -> Errors:
    yield from _handler(path, probe)
    for name in _PROBE_NUMBERS:
        yield from words.not_negative(f"{path}.{name}", probe.get(name))
    if not ready and probe.get("successThreshold", 1) != 1:
        yield errors.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _handler(path: str, handler: Object) -> Errors:
    given = [name for name in _HANDLERS if handler.get(name) is not None]
    if not given:
        yield errors.required(path, "must specify a handler type")
    for name in given[1:]:
        yield errors.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in given:
        action = handler[name]
        here = f"{path}.{name}"
        if name == "exec" and not action.get("command"):
            yield errors.required(f"{here}.command")
        if name in ("httpGet", "tcpSocket", "grpc"):
            yield from words.port(f"{here}.port", action.get("port") or 0)
        if name == "httpGet":
            scheme = action.get("scheme")
            yield from words.one_of(f"{here}.scheme", scheme, ("HTTP", "HTTPS"))


def _resources(path: str, resources: Object) -> Errors:
    limits, requests = (resources.get(name) or {} for name in ("limits", "requests"))
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, value in amounts.items():
            if _number(value) < 0:
                yield errors.invalid(f"{path}.{kind}[{name}]", value, words.NOT_NEGATIVE)
    for name, value in requests.items():
        if name in limits and _number(value) > _number(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            yield errors.invalid(f"{path}.requests", value, text)


def _number(value: Any) -> Decimal:
    try:
        return quantities.parse(value)
    except ValueError:
        return Decimal(0)
