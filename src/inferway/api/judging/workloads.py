"""Deployments, ReplicaSets, StatefulSets, DaemonSets and Jobs."""

from __future__ import annotations

from typing import Any

from inferway.api.codec import Object, decode
from inferway.api.judging import pod, words
from inferway.api.judging.words import Errors
from inferway.api.labels import from_label_selector
from inferway.api.meta import LabelSelector
from inferway.api.schema import errors


def judge_deployment(deployment: Object, old: Object | None) -> Errors:
    spec = deployment.get("spec") or {}
    yield from _selected(spec, "deployment", ("Always",))
    yield from _numbers(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
    yield from _strategy(spec.get("strategy") or {})
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    if deadline is not None:
        yield from words.not_negative("spec.progressDeadlineSeconds", deadline)
        if deadline <= ready:
            text = "must be greater than minReadySeconds"
            yield errors.invalid("spec.progressDeadlineSeconds", deadline, text)
    yield from _same(spec, old, "selector")


def judge_replica_set(replica_set: Object, old: Object | None) -> Errors:
    spec = replica_set.get("spec") or {}
    yield from _selected(spec, "replica set", ("Always",))
    yield from _numbers(spec, "replicas", "minReadySeconds")
    yield from _same(spec, old, "selector")


_STATEFUL_MUTABLE = (
    "minReadySeconds",
    "ordinals",
    "persistentVolumeClaimRetentionPolicy",
    "replicas",
    "revisionHistoryLimit",
    "template",
    "updateStrategy",
)


def judge_stateful_set(stateful_set: Object, old: Object | None) -> Errors:
    spec = stateful_set.get("spec") or {}
    yield from _selected(spec, "statefulset", ("Always",))
    yield from _numbers(spec, "replicas", "minReadySeconds", "revisionHistoryLimit")
    if old is None:
        return
    before = old.get("spec") or {}
    fixed = [{k: v for k, v in s.items() if k not in _STATEFUL_MUTABLE} for s in (spec, before)]
    if fixed[0] != fixed[1]:
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', "
            "'template', 'updateStrategy', 'revisionHistoryLimit', "
            "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        yield errors.forbidden("spec", text)


def judge_daemon_set(daemon_set: Object, old: Object | None) -> Errors:
    spec = daemon_set.get("spec") or {}
    yield from _selected(spec, "daemonset", ("Always",))
    yield from _numbers(spec, "minReadySeconds", "revisionHistoryLimit")
    yield from _same(spec, old, "selector")


def judge_job(job: Object, old: Object | None) -> Errors:
    spec = job.get("spec") or {}
    yield from _numbers(
        spec,
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    )
    yield from words.one_of(
        "spec.completionMode", spec.get("completionMode"), ("NonIndexed", "Indexed")
    )
    if spec.get("completionMode") == "Indexed" and spec.get("completions") is None:
        text = "when completion mode is Indexed"
        yield errors.required("spec.completions", text)
    yield from _selected(spec, "job", ("OnFailure", "Never"))
    if old is None:
        return
    yield from _same(spec, old, "selector")
    yield from _same(spec, old, "completionMode")
    before = old.get("spec") or {}
    # A suspended Job's template may still be told where to run.
    if not before.get("suspend"):
        yield from _same(spec, old, "template")


def judge_cron_job(cron_job: Object, old: Object | None) -> Errors:
    spec = cron_job.get("spec") or {}
    if not spec.get("schedule"):
        yield errors.required("spec.schedule")
    yield from words.one_of(
        "spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace")
    )
    template = ((spec.get("jobTemplate") or {}).get("spec") or {}).get("template") or {}
    path = "spec.jobTemplate.spec.template"
    yield from pod.judge_template(path, template)
    yield from _restart(path, template, ("OnFailure", "Never"))


def _numbers(spec: Object, *names: str) -> Errors:
    for name in names:
        yield from words.not_negative(f"spec.{name}", spec.get(name))


def _same(spec: Object, old: Object | None, name: str) -> Errors:
    if old is not None:
        before = (old.get("spec") or {}).get(name)
        yield from words.unchanged(f"spec.{name}", spec.get(name), before)


def _selected(spec: Object, kind: str, restarts: tuple[str, ...]) -> Errors:
    """Selector and template belong together."""
    selector, template = spec.get("selector"), spec.get("template") or {}
    path = "spec.selector"
    if selector is None:
        yield errors.required(path)
    else:
        wrong = list(words.label_selector(path, selector))
        yield from wrong
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield errors.invalid(path, selector, f"empty selector is invalid for {kind}")
        elif not wrong:
            yield from _matching(selector, template)
    yield from pod.judge_template("spec.template", template)
    yield from _restart("spec.template", template, restarts)


def _matching(selector: Object, template: Object) -> Errors:
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not from_label_selector(decode(LabelSelector, selector)).matches(labels):
        text = "`selector` does not match template `labels`"
        yield errors.invalid("spec.template.metadata.labels", labels, text)


def _restart(path: str, template: Object, restarts: tuple[str, ...]) -> Errors:
    spec = template.get("spec") or {}
    yield from words.one_of(f"{path}.spec.restartPolicy", spec.get("restartPolicy"), restarts)


def _strategy(strategy: Object) -> Errors:
    path = "spec.strategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            text = "may not be specified when strategy `type` is 'Recreate'"
            yield errors.forbidden(f"{path}.rollingUpdate", text)
        return
    if kind != "RollingUpdate":
        yield errors.not_supported(f"{path}.type", kind, ("Recreate", "RollingUpdate"))
        return
    rolling = rolling or {}
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    here = f"{path}.rollingUpdate"
    yield from words.amount_or_percent(f"{here}.maxUnavailable", unavailable)
    yield from words.amount_or_percent(f"{here}.maxSurge", surge)
    if _is_zero(unavailable) and _is_zero(surge):
        text = "may not be 0 when `maxSurge` is 0"
        yield errors.invalid(f"{here}.maxUnavailable", unavailable, text)
    if isinstance(unavailable, str) and unavailable[:-1].isdigit() and int(unavailable[:-1]) > 100:
        text = "must not be greater than 100%"
        yield errors.invalid(f"{here}.maxUnavailable", unavailable, text)


def _is_zero(value: Any) -> bool:
    return value in (0, "0%")
