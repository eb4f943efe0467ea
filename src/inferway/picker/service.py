"""From a callout to its answer: parse, decide, word. Called by the pump, does no I/O itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from inferway.base.clock import Clock
from inferway.picker import answers, body
from inferway.picker.answers import FinalAnswer
from inferway.picker.machine import Callout, Malformed
from inferway.scheduling.decision import Decision, Explanation, Refusal, RefusalReason
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request, Rng

# A pool without endpoints may have one soon; a client that waits this long is not a burden.
NO_ENDPOINT_RETRY_SECONDS = 1.0
# One decision of this many is explained in the ring, besides those that ask for it.
EXPLAIN_EVERY = 256
# Client-chosen ids are repeated in a header; longer ones are cut.
REQUEST_ID_BYTES_MAX = 256

# Targets whose pool and kind of call are remembered; a query makes one more.
ROUTES_MAX = 1024
ROUTE_BYTES_MAX = 512

_STATUS = {
    RefusalReason.NO_ENDPOINT: (answers.DECIDED_UNAVAILABLE_STATUS, "no_endpoint"),
    RefusalReason.UNKNOWN_MODEL: (404, "model_not_found"),
    RefusalReason.SHED: (429, "shed"),
}


@dataclass(slots=True)
class PoolRuntime:
    """One pool as the picker knows it."""

    scheduler: PoolScheduler
    synced: bool = False
    # Asks all servers what they serve and calls back when they have told; False: not worth it yet.
    refresh: Callable[[Callable[[], None]], bool] | None = None
    # Objective name -> priority.
    priorities: dict[str, int] = field(default_factory=dict)


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One callout on its way to an answer."""

    pool: PoolRuntime
    request: Request
    request_id: bytes
    proxy: str
    explain: bool


class Watcher(Protocol):
    """Who wants to know what was decided; counts and keeps, must not wait."""

    def decided(self, outcome: str, seconds: float) -> None:
        """One answer was given: ``chosen`` or the reason of a final answer."""
        ...

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """A decision with its reasons."""
        ...


class Reply(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer; ``pick`` is the id of the choice in it, empty for a final answer."""

    data: bytes
    pick: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """No answer yet: call ``start`` with what to do with it; False means that there is no wait."""

    start: Callable[[Callable[[Reply], None]], bool]
    otherwise: Reply


class PickService:
    """Answers callouts for the pools it has."""

    def __init__(
        self,
        pools: dict[tuple[str, str], PoolRuntime],
        clock: Clock,
        rng: Rng,
        watcher: Watcher,
        prefix: str,
    ) -> None:
        self.pools = pools
        self._monotonic = clock.monotonic
        self._rng = rng
        self._watcher = watcher
        # Unique in time and among picker processes.
        self._prefix = prefix
        self._count = 0
        self._anonymous = 0
        self._routes: dict[bytes, tuple[PoolRuntime, body.Call]] = {}

    def answer(self, call: Callout, proxy: str) -> Reply | Later:
        """The answer, or how to get it a little later."""
        began = self._monotonic()
        request_id = call.request_id[:REQUEST_ID_BYTES_MAX]
        if not request_id:
            self._anonymous += 1
            request_id = f"{self._prefix}-r{self._anonymous:x}".encode()
        found = self._routes.get(call.target) or self._find(call.target)
        if isinstance(found, FinalAnswer):
            return self._final(found, request_id, "unknown_pool", began)
        pool, kind = found
        if not pool.synced:
            answer = FinalAnswer(
                503,
                "The picker has not seen the pool yet.",
                code="not_ready",
                retry_after_seconds=NO_ENDPOINT_RETRY_SECONDS,
            )
            return self._final(answer, request_id, "not_ready", began)
        parsed = body.parse(kind, call.body)
        if isinstance(parsed, body.BadBody):
            bad = FinalAnswer(400, parsed.message, parsed.param, parsed.code)
            return self._final(bad, request_id, "bad_request", began)
        request = _request(call, parsed, pool)
        asked = Asked(pool, request, request_id, proxy, bool(call.explain))
        result = self._decide(asked, began)
        if isinstance(result, Reply):
            self._watcher.decided("chosen", self._monotonic() - began)
            return result
        return self._refused(asked, result, began)

    def _refused(self, asked: Asked, result: Refusal, began: float) -> Reply | Later:
        """The refusal in words; an unknown model may be one that was loaded just now."""
        pool, request_id = asked.pool, asked.request_id
        answer = _worded(result)
        wording = self._final(answer, request_id, result.reason.value, began)
        if result.reason is not RefusalReason.UNKNOWN_MODEL or pool.refresh is None:
            return wording

        def start(done: Callable[[Reply], None]) -> bool:
            def again() -> None:
                second = self._decide(asked, self._monotonic())
                if isinstance(second, Reply):
                    self._watcher.decided("chosen", self._monotonic() - began)
                    done(second)
                else:
                    done(Reply(answers.final(_worded(second), request_id)))

            assert pool.refresh is not None
            return pool.refresh(again)

        return Later(start, wording)

    def malformed(self, problem: Malformed) -> bytes:
        """The last answer on a connection that can not go on."""
        answer = FinalAnswer(problem.status, problem.message)
        self._watcher.decided("bad_request", 0.0)
        return answers.final(answer, b"", close=True)

    def _find(self, target: bytes) -> tuple[PoolRuntime, body.Call] | FinalAnswer:
        # /pick/{namespace}/{pool}{original path}
        pieces = target.split(b"/", 4)
        if len(pieces) < 4 or pieces[1] != b"pick":
            return FinalAnswer(404, "The picker answers under /pick/{namespace}/{pool} only.")
        path = b"/" + pieces[4] if len(pieces) > 4 else b"/"
        namespace = pieces[2].decode(errors="replace")
        name = pieces[3].partition(b"?")[0].decode(errors="replace")
        pool = self.pools.get((namespace, name))
        if pool is None:
            mine = ", ".join(sorted(f"{n}/{p}" for n, p in self.pools))
            return FinalAnswer(
                503,
                f"This picker does not serve the pool {namespace}/{name}; it serves {mine}.",
                code="unknown_pool",
            )
        found = pool, body.call_of(path)
        if len(target) <= ROUTE_BYTES_MAX:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[target] = found
        return found

    def _decide(self, asked: Asked, now: float) -> Reply | Refusal:
        self._count += 1
        pick = f"{self._prefix}-{self._count:x}"
        request, request_id, proxy = asked.request, asked.request_id, asked.proxy
        scheduler = asked.pool.scheduler
        if asked.explain or self._count % EXPLAIN_EVERY == 1:
            decision = scheduler.decide(request, now, self._rng)
            if isinstance(decision, Decision):
                self._watcher.explained(pick, request_id, scheduler.explain(request, decision, now))
                scheduler.reserve(request, decision, pick, proxy, now)
        else:
            decision = scheduler.pick(request, pick, proxy, now, self._rng)
        if isinstance(decision, Refusal):
            return decision
        address = scheduler.columns.address
        named = ",".join([address[slot] for slot in decision.slots])
        return Reply(answers.chosen(named, pick, request_id), pick)

    def _final(self, answer: FinalAnswer, request_id: bytes, outcome: str, began: float) -> Reply:
        self._watcher.decided(outcome, self._monotonic() - began)
        return Reply(answers.final(answer, request_id))


def _request(call: Callout, parsed: body.Parsed, pool: PoolRuntime) -> Request:
    model, kind, prompt, salt = parsed.model, parsed.kind, parsed.prompt, parsed.salt
    stream, most, size = parsed.stream, parsed.max_tokens, len(call.body)
    if not (call.objective or call.fairness_id or call.only):
        return Request(model, kind, prompt, salt, stream, most, size)
    objective = call.objective.decode(errors="replace")
    return Request(
        model,
        kind,
        prompt,
        salt,
        stream,
        most,
        size,
        objective=objective,
        fairness_id=call.fairness_id.decode(errors="replace"),
        priority=pool.priorities.get(objective, 0) if objective else 0,
        only=tuple(call.only.decode(errors="replace").split(",")) if call.only else (),
    )


def _worded(refusal: Refusal) -> FinalAnswer:
    status, code = _STATUS[refusal.reason]
    retry = refusal.retry_after_seconds
    if refusal.reason is RefusalReason.NO_ENDPOINT:
        retry = NO_ENDPOINT_RETRY_SECONDS
    param = "model" if refusal.reason is RefusalReason.UNKNOWN_MODEL else None
    return FinalAnswer(status, refusal.message, param, code, retry)
