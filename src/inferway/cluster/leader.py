"""Leader election on a Lease, as client-go does it.

``decide`` is pure; ``run`` is the pump. The clocks of two candidates are never compared: a
candidate measures with its own clock how long the Lease stood unchanged.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from inferway.api.resources import LEASES
from inferway.base.clock import Clock, SystemClock, rfc3339_micro
from inferway.base.errors import InferwayError
from inferway.cluster.backoff import Jitter
from inferway.cluster.client import KubeClient, Object
from inferway.cluster.errors import AlreadyExistsError, ConflictError, NotFoundError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Kubernetes' own defaults: a dead leader is replaced within 15 s, a slow one keeps 10 s."""

    lease_seconds: int = 15
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0


Step = Literal["create", "take", "renew", "wait"]


def decide(spec: Object | None, identity: str, unchanged_seconds: float, timing: Timing) -> Step:
    """What to do about a Lease that has not changed for ``unchanged_seconds``."""
    if spec is None:
        return "create"
    holder = spec.get("holderIdentity") or ""
    if holder == identity:
        return "renew"
    duration = float(spec.get("leaseDurationSeconds") or timing.lease_seconds)
    return "take" if not holder or unchanged_seconds >= duration else "wait"


def next_spec(spec: Object | None, identity: str, now_wall: float, timing: Timing) -> Object:
    """The spec that claims or renews the Lease."""
    now = rfc3339_micro(now_wall)
    old = spec or {}
    ours = old.get("holderIdentity") == identity
    transitions = int(old.get("leaseTransitions") or 0)
    return {
        "holderIdentity": identity,
        "leaseDurationSeconds": timing.lease_seconds,
        "acquireTime": old.get("acquireTime") if ours else now,
        "renewTime": now,
        "leaseTransitions": transitions if ours or spec is None else transitions + 1,
    }


async def run(
    client: KubeClient,
    name: str,
    namespace: str,
    identity: str,
    on_started: Callable[[], Awaitable[None]],
    *,
    timing: Timing | None = None,
    clock: Clock | None = None,
    jitter: Jitter = random.random,
) -> None:
    """Waits for the Lease, runs ``on_started`` while it is held, and waits again when it is lost.

    Returns when ``on_started`` returns by itself; the Lease is given back then, and on cancel.
    """
    elector = _Elector(
        client, (name, namespace, identity), timing or Timing(), clock or SystemClock(), jitter
    )
    while True:
        await elector.acquire()
        _log.info("leads", extra={"data": {"lease": f"{namespace}/{name}"}})
        try:
            if await elector.lead(on_started):
                return
        finally:
            await elector.release()
        _log.warning("lost the lead", extra={"data": {"lease": f"{namespace}/{name}"}})


class _Elector:
    def __init__(
        self,
        client: KubeClient,
        names: tuple[str, str, str],
        timing: Timing,
        clock: Clock,
        jitter: Jitter,
    ) -> None:
        self._client = client
        self._name, self._namespace, self._identity = names
        self._timing = timing
        self._clock = clock
        self._jitter = jitter
        self._seen: Any = None
        self._seen_at = clock.monotonic()

    async def acquire(self) -> None:
        while True:
            if await self._attempt():
                return
            # A fifth of jitter keeps candidates from asking in step.
            await asyncio.sleep(self._timing.retry_seconds * (1 + 0.2 * self._jitter()))

    async def lead(self, on_started: Callable[[], Awaitable[None]]) -> bool:
        """True if the work ended by itself, False if the Lease was lost."""
        ended = False

        async def work(keeper: asyncio.Task[None]) -> None:
            nonlocal ended
            await on_started()
            ended = True
            keeper.cancel()

        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep(), name="lease-keeper")
            worker = group.create_task(work(keeper), name="lease-work")
            # A worker that ends the keeper must not be cancelled for it, hence not shielded
            # waiting but a callback.
            keeper.add_done_callback(lambda _: None if ended else worker.cancel())
        return ended

    async def _keep(self) -> None:
        renewed = self._clock.monotonic()
        while self._clock.monotonic() - renewed < self._timing.renew_deadline_seconds:
            await asyncio.sleep(self._timing.retry_seconds)
            if await self._attempt():
                renewed = self._clock.monotonic()
            elif self._holder() not in ("", self._identity):
                return

    async def release(self) -> None:
        if self._holder() != self._identity:
            return
        patch = {"spec": {"holderIdentity": None, "leaseDurationSeconds": 1}}
        version = (self._seen or {}).get("metadata", {}).get("resourceVersion")
        if version:
            patch["metadata"] = {"resourceVersion": version}
        try:
            async with asyncio.timeout(self._timing.retry_seconds):
                await self._client.patch(LEASES, self._name, patch, self._namespace)
        except (InferwayError, TimeoutError):
            # The Lease runs out by itself.
            pass

    def _holder(self) -> str:
        return str(((self._seen or {}).get("spec") or {}).get("holderIdentity") or "")

    async def _attempt(self) -> bool:
        try:
            async with asyncio.timeout(self._timing.renew_deadline_seconds):
                return await self._attempt_once()
        except (InferwayError, TimeoutError) as error:
            if not isinstance(error, AlreadyExistsError | ConflictError):
                _log.warning("the lease is out of reach", extra={"data": {"error": str(error)}})
            return False

    async def _attempt_once(self) -> bool:
        try:
            lease: Object | None = await self._client.get(LEASES, self._name, self._namespace)
        except NotFoundError:
            lease = None
        now = self._clock.monotonic()
        version = (lease or {}).get("metadata", {}).get("resourceVersion")
        if self._seen is None or self._seen.get("metadata", {}).get("resourceVersion") != version:
            self._seen, self._seen_at = lease, now
        spec = None if lease is None else lease.get("spec") or {}
        step = decide(spec, self._identity, now - self._seen_at, self._timing)
        if step == "wait":
            return False
        wanted = next_spec(spec, self._identity, self._clock.wall(), self._timing)
        if lease is None:
            meta = {"name": self._name, "namespace": self._namespace}
            body = {"apiVersion": LEASES.api_version, "kind": "Lease", "metadata": meta}
            self._seen = await self._client.create(LEASES, {**body, "spec": wanted})
        else:
            # The resourceVersion makes sure that of two candidates one gets a conflict.
            self._seen = await self._client.update(LEASES, {**lease, "spec": wanted})
        self._seen_at = self._clock.monotonic()
        return True
