"""Jobs: Pods that run to their end, as many times as asked, with a limit on failures.

``plan`` is pure. Enough for Helm hooks and tests: completions, parallelism, backoffLimit,
activeDeadlineSeconds, suspend, ttlSecondsAfterFinished. Indexed Jobs and Pod failure policies are
not told apart from ordinary ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inferway.api.resources import JOBS, PODS
from inferway.base.clock import rfc3339
from inferway.cluster.client import Object
from inferway.cluster.store import Key
from inferway.cluster.workqueue import RetryLater, WorkQueue
from inferway.local.controllers import objects as o
from inferway.local.controllers.actions import Action, Again, Create, Delete, Note, Status
from inferway.local.controllers.objects import Raw
from inferway.local.controllers.pod_template import new_pod
from inferway.local.controllers.runtime import Context, Controller, follow_owner

COMPONENT = "job-controller"
# Kubernetes' pauses between failed Pods: 10 s, 20 s, 40 s ... six minutes.
BACKOFF_BASE_SECONDS = 10.0
BACKOFF_CAP_SECONDS = 360.0
BACKOFF_LIMIT = 6
# Pods started by one look; the next look goes on.
BURST_PODS_MAX = 500


@dataclass(frozen=True, slots=True)
class _Tally:
    active: list[Raw]
    succeeded: int
    failed: list[Raw]
    retries: int
    ready: int


def finished(job: Raw) -> Raw | None:
    """The condition that ended the Job."""
    for kind in ("Complete", "Failed"):
        found = o.condition(job, kind)
        if found is not None and found.get("status") == "True":
            return found
    return None


def plan(job: Raw, pods: Sequence[Raw], now: float) -> list[Action]:
    """The next step of a Job whose Pods are these."""
    if o.deleting(job):
        return []
    end = finished(job)
    if end is not None:
        return _after_the_end(job, pods, end, now)
    tally = _count(pods)
    status = dict(o.status(job))
    suspended = bool(o.spec(job).get("suspend"))
    if not suspended and not status.get("startTime"):
        status["startTime"] = rfc3339(now)
    verdict = _verdict(job, tally, status, now)
    if verdict is not None:
        return _end(job, tally, status, verdict, now)
    if suspended:
        steps: list[Action] = [Delete(PODS, pod) for pod in tally.active]
        status.pop("startTime", None)
    else:
        steps = _run(job, tally, now)
    return [*steps, Status(JOBS, job, _counts(status, tally)), *_deadline(job, status, now)]


def _count(pods: Sequence[Raw]) -> _Tally:
    failed = [p for p in pods if o.pod_phase(p) == "Failed"]
    # A Pod that is deleted before it ended is a failure too.
    failed += [p for p in pods if o.deleting(p) and not o.pod_finished(p)]
    active = [p for p in pods if o.pod_active(p)]
    in_place = sum(o.restarts(p) for p in active if o.spec(p).get("restartPolicy") == "OnFailure")
    return _Tally(
        active=active,
        succeeded=sum(1 for p in pods if o.pod_phase(p) == "Succeeded"),
        failed=failed,
        retries=len(failed) + in_place,
        ready=sum(1 for p in active if o.pod_ready(p)),
    )


def _verdict(job: Raw, tally: _Tally, status: Raw, now: float) -> tuple[str, str, str] | None:
    """(condition, reason, message) of a Job that is over."""
    spec = o.spec(job)
    deadline = spec.get("activeDeadlineSeconds")
    started = o.seconds(status.get("startTime"))
    if isinstance(deadline, int) and started and now - started >= deadline:
        return "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
    if tally.retries > o.integer(spec.get("backoffLimit"), BACKOFF_LIMIT):
        message = "Job has reached the specified backoff limit"
        return "Failed", "BackoffLimitExceeded", message
    completions = spec.get("completions")
    if completions is None:
        done = tally.succeeded > 0 and not tally.active
    else:
        done = tally.succeeded >= o.integer(completions, 1)
    if done:
        return "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
    return None


def _end(
    job: Raw, tally: _Tally, status: Object, verdict: tuple[str, str, str], now: float
) -> list[Action]:
    kind, reason, message = verdict
    conditions: list[Object] = [dict(c) for c in status.get("conditions") or ()]
    # Since 1.31 each end is announced by a first condition of its own.
    herald = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    for name in (herald, kind):
        new = {"type": name, "status": "True", "reason": reason, "message": message}
        conditions = o.with_condition(conditions, new, now, touch="lastProbeTime")
    status["conditions"] = conditions
    if kind == "Complete":
        status["completionTime"] = rfc3339(now)
        note = Note(job, "Normal", "Completed", "Job completed")
    else:
        note = Note(job, "Warning", reason, message)
    stopped: list[Action] = [Delete(PODS, pod) for pod in tally.active]
    counts = _counts(status, tally)
    counts.pop("active", None)
    counts["ready"] = 0
    return [*stopped, Status(JOBS, job, counts), note]


def _counts(status: Object, tally: _Tally) -> Object:
    counts = {
        "active": len(tally.active),
        "succeeded": tally.succeeded,
        "failed": len(tally.failed),
    }
    rest = {key: value for key, value in status.items() if key not in counts}
    return {
        **rest,
        **{key: value for key, value in counts.items() if value},
        "ready": tally.ready,
        "terminating": 0,
    }


def _run(job: Raw, tally: _Tally, now: float) -> list[Action]:
    spec = o.spec(job)
    parallelism = o.integer(spec.get("parallelism"), 1)
    completions = spec.get("completions")
    if completions is None:
        wanted = len(tally.active) if tally.succeeded else parallelism
    else:
        wanted = min(parallelism, max(o.integer(completions, 1) - tally.succeeded, 0))
    missing = wanted - len(tally.active)
    if missing < 0:
        youngest = sorted(tally.active, key=lambda p: (-o.created_at(p), o.name(p)))
        return [Delete(PODS, pod) for pod in youngest[:-missing]]
    if missing == 0:
        return []
    pause = _pause(tally, now)
    if pause > 0:
        return [Again(pause)]
    pod = new_pod(job, JOBS, spec.get("template") or {}, _labels(job))
    return [Create(PODS, pod)] * min(missing, BURST_PODS_MAX)


def _labels(job: Raw) -> Object:
    return {
        "batch.kubernetes.io/controller-uid": o.uid(job),
        "batch.kubernetes.io/job-name": o.name(job),
        "controller-uid": o.uid(job),
        "job-name": o.name(job),
    }


def _pause(tally: _Tally, now: float) -> float:
    """Seconds until the next Pod may start after failures."""
    if not tally.failed:
        return 0.0
    last = max(_ended_at(pod) for pod in tally.failed)
    # Ten doublings are above the cap.
    doublings = min(len(tally.failed) - 1, 10)
    return last + min(BACKOFF_BASE_SECONDS * (1 << doublings), BACKOFF_CAP_SECONDS) - now


def _ended_at(pod: Raw) -> float:
    ends = [
        o.seconds(((entry.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for entry in o.status(pod).get("containerStatuses") or ()
    ]
    return max([*ends, o.seconds(o.meta(pod).get("deletionTimestamp")), o.created_at(pod)])


def _deadline(job: Raw, status: Raw, now: float) -> list[Action]:
    deadline = o.spec(job).get("activeDeadlineSeconds")
    started = o.seconds(status.get("startTime"))
    if not isinstance(deadline, int) or not started:
        return []
    return [Again(max(started + deadline - now, 0.05))]


def _after_the_end(job: Raw, pods: Sequence[Raw], end: Raw, now: float) -> list[Action]:
    actions: list[Action] = [Delete(PODS, pod) for pod in pods if o.pod_active(pod)]
    kept = o.spec(job).get("ttlSecondsAfterFinished")
    if isinstance(kept, int):
        left = o.seconds(end.get("lastTransitionTime")) + kept - now
        if left > 0:
            actions.append(Again(left))
        else:
            actions.append(Delete(JOBS, job))
    return actions


def controller(context: Context) -> Controller:
    """The pump: Jobs and their Pods in, requests out."""
    queue: WorkQueue[Key] = WorkQueue("jobs")
    executor = context.executor(COMPONENT)
    context.caches.of(JOBS).subscribe(queue.add)
    context.caches.of(PODS).subscribe_changes(follow_owner(queue, JOBS.kind))

    async def reconcile(key: Key) -> float | None:
        job = context.get(JOBS, key)
        if job is None:
            return None
        actions = plan(job, context.owned(PODS, o.uid(job)), context.now())
        creates = [a for a in actions if isinstance(a, Create)]
        failed = False
        for result in await executor.create_in_batches(creates):
            if isinstance(result, BaseException):
                text = getattr(result, "message", str(result))
                note = Note(job, "Warning", "FailedCreate", f"Error creating: {text}")
                failed = True
            else:
                created = f"Created pod: {o.name(result)}"
                note = Note(job, "Normal", "SuccessfulCreate", created)
            await executor.perform([note])
        again = await executor.perform([a for a in actions if not isinstance(a, Create)])
        if failed:
            raise RetryLater
        return again

    return Controller("jobs", queue, reconcile)
