"""Jobs and CronJobs."""

from __future__ import annotations

from inferway.api.codec import Object
from inferway.api.defaults import pod

UID_LABEL = "batch.kubernetes.io/controller-uid"
NAME_LABEL = "batch.kubernetes.io/job-name"
_OLD_UID_LABEL = "controller-uid"
_OLD_NAME_LABEL = "job-name"


def complete(job: Object) -> None:
    """A Job runs one Pod once; it knows its Pods by its own uid."""
    spec = job.setdefault("spec", {})
    complete_spec(spec)
    metadata = job.get("metadata") or {}
    uid = metadata.get("uid")
    if spec.get("manualSelector") or spec.get("selector") or not uid:
        return
    spec["selector"] = {"matchLabels": {UID_LABEL: uid}}
    template = spec["template"]["metadata"]
    template["labels"] = (template.get("labels") or {}) | {
        UID_LABEL: uid,
        NAME_LABEL: metadata.get("name") or "",
        _OLD_UID_LABEL: uid,
        _OLD_NAME_LABEL: metadata.get("name") or "",
    }


def complete_spec(spec: Object) -> None:
    """The spec of a Job or of a CronJob's template."""
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    spec.setdefault("podReplacementPolicy", "TerminatingOrFailed")
    pod.complete_template(spec.setdefault("template", {}))


def complete_cron_job(cron_job: Object) -> None:
    spec = cron_job.setdefault("spec", {})
    spec.setdefault("concurrencyPolicy", "Allow")
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)
    complete_spec(spec.setdefault("jobTemplate", {}).setdefault("spec", {}))
