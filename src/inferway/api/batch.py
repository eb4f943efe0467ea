"""Jobs. Their Pod template stays raw: it is copied, never interpreted."""

from __future__ import annotations

from inferway.api.codec import ApiStruct, Object
from inferway.api.meta import Condition, LabelSelector, ObjectMeta


class JobSpec(ApiStruct, frozen=True, kw_only=True):
    """``completions`` None with ``parallelism`` set is a work queue."""

    template: Object = {}
    selector: LabelSelector | None = None
    parallelism: int = 1
    completions: int | None = None
    backoff_limit: int = 6
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    manual_selector: bool = False


class JobStatus(ApiStruct, frozen=True, kw_only=True):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    start_time: str = ""
    completion_time: str = ""
    conditions: tuple[Condition, ...] = ()


class Job(ApiStruct, frozen=True, kw_only=True):
    api_version: str = "batch/v1"
    kind: str = "Job"
    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()
