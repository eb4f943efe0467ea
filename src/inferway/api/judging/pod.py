"""Pods and Pod templates."""

from __future__ import annotations

from typing import Any

from inferway.api.codec import Object
from inferway.api.judging import container as containers
from inferway.api.judging import words
from inferway.api.judging.words import Errors
from inferway.api.schema import errors

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_VOLUME_REQUIRED = {
    "configMap": "name",
    "hostPath": "path",
    "persistentVolumeClaim": "claimName",
    "secret": "secretName",
}


def judge(pod: Object, old: Object | None) -> Errors:
    """A Pod by itself. What may change is the API server's business."""
    if old is None:
        yield from judge_spec("spec", pod.get("spec") or {})


def judge_template(path: str, template: Object) -> Errors:
    """The template of a workload."""
    metadata = template.get("metadata") or {}
    yield from words.labels(f"{path}.metadata.labels", metadata.get("labels"))
    yield from judge_spec(f"{path}.spec", template.get("spec") or {})


def judge_spec(path: str, spec: Object) -> Errors:
    """A Pod's spec."""
    volumes: set[str] = set()
    yield from _volumes(f"{path}.volumes", spec.get("volumes") or [], volumes)
    if not spec.get("containers"):
        yield errors.required(f"{path}.containers")
    seen: set[str] = set()
    for name, init in (("containers", False), ("initContainers", True)):
        for place, item in enumerate(spec.get(name) or ()):
            here = f"{path}.{name}[{place}]"
            yield from containers.judge(here, item, volumes, init=init)
            if item.get("name") in seen:
                yield errors.duplicate(f"{here}.name", item["name"])
            seen.add(item.get("name") or "")
    yield from words.one_of(f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    yield from words.one_of(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    yield from words.not_negative(
        f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds")
    )
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and deadline < 1:
        text = "must be between 1 and 2147483647, inclusive"
        yield errors.invalid(f"{path}.activeDeadlineSeconds", deadline, text)
    yield from words.labels(f"{path}.nodeSelector", spec.get("nodeSelector"))
    for name in ("serviceAccountName", "nodeName"):
        if spec.get(name):
            yield from words.dns_subdomain(f"{path}.{name}", spec[name])
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from words.dns_label(f"{path}.{name}", spec[name])
    for place, toleration in enumerate(spec.get("tolerations") or ()):
        yield from _toleration(f"{path}.tolerations[{place}]", toleration)


def _volumes(path: str, volumes: list[Any], names: set[str]) -> Errors:
    """Judges volumes and collects their names."""
    for place, volume in enumerate(volumes):
        here = f"{path}[{place}]"
        name = volume.get("name") or ""
        if not name:
            yield errors.required(f"{here}.name")
        elif name in names:
            yield errors.duplicate(f"{here}.name", name)
        else:
            yield from words.dns_label(f"{here}.name", name)
        names.add(name)
        sources = [source for source in volume if source != "name"]
        for source in sources[1:]:
            text = "may not specify more than 1 volume type"
            yield errors.forbidden(f"{here}.{source}", text)
        for source, field in _VOLUME_REQUIRED.items():
            if source in volume and not volume[source].get(field):
                yield errors.required(f"{here}.{source}.{field}")
        for source in ("configMap", "secret"):
            yield from _items(f"{here}.{source}.items", (volume.get(source) or {}).get("items"))


def _items(path: str, items: list[Any] | None) -> Errors:
    for place, item in enumerate(items or ()):
        here = f"{path}[{place}]"
        for name in ("key", "path"):
            if not item.get(name):
                yield errors.required(f"{here}.{name}")
        target = item.get("path") or ""
        if target.startswith("/"):
            yield errors.invalid(f"{here}.path", target, "must be a relative path")
        if ".." in target.split("/"):
            yield errors.invalid(f"{here}.path", target, "must not contain '..'")


def _toleration(path: str, toleration: Object) -> Errors:
    operator, key = toleration.get("operator") or "Equal", toleration.get("key")
    if operator not in ("Equal", "Exists"):
        yield errors.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    elif not key and operator != "Exists":
        text = (
            "operator must be Exists when `key` is empty, which means "
            '"match all values and all keys"'
        )
        yield errors.invalid(f"{path}.operator", operator, text)
    if operator == "Exists" and toleration.get("value"):
        text = "value must be empty when `operator` is 'Exists'"
        yield errors.invalid(f"{path}.operator", toleration["value"], text)
    if toleration.get("effect"):
        yield from words.one_of(f"{path}.effect", toleration["effect"], _EFFECTS)
    if toleration.get("tolerationSeconds") is not None and toleration.get("effect") != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield errors.invalid(f"{path}.effect", toleration.get("effect") or "", text)
