"""From a callout to its answer: parse, decide, word. Called by the pump, does no I/O itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import msgspec

from inferway.base.clock import Clock
from inferway.picker import refusals
from inferway.picker.answers import FinalAnswer
from inferway.picker.apis import Call, Style, call_of
from inferway.picker.flow import FlowGate
from inferway.picker.listing import Listing
from inferway.picker.machine import Callout, Malformed
from inferway.picker.reading import Notes, understand
from inferway.picker.replies import Chosen, Later, Refused, Reply, Told, in_style
from inferway.scheduling.decision import Decision, Explanation, Refusal, RefusalReason
from inferway.scheduling.flow.events import Refuse
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.rewrite import RewriteTable

# One decision of this many is explained in the ring, besides those that ask for it.
EXPLAIN_EVERY = 256
# Names the span that a request comes from (W3C Trace Context).
TRACEPARENT = b"traceparent"
# Client-chosen ids are repeated in a header; longer ones are cut.
REQUEST_ID_BYTES_MAX = 256

# How many milliseconds a request has waited in the picker, told to the client.
QUEUE_HEADER = "x-llm-d-flow-queue-duration-ms"

# Targets whose pool and kind of call are remembered; a query makes one more.
ROUTES_MAX = 1024
ROUTE_BYTES_MAX = 512


_NOT_CACHED = Refusal(
    RefusalReason.NOT_CACHED, "No server has a part of the prompt in its cache, as preferred."
)


class Adapters(Protocol):
    """Who loads adapters on demand."""

    def enter(
        self, adapter: str, told: Callable[[FinalAnswer | None], None]
    ) -> int | FinalAnswer | None:
        """A key to leave with, the final answer, or None where it is nothing to load.

        ``told`` is called once, later, with None if the adapter may be there.
        """
        ...

    def leave(self, key: int) -> None:
        """Who waited is gone."""
        ...


@dataclass(slots=True)
class PoolRuntime:
    """One pool as the picker knows it."""

    scheduler: PoolScheduler
    synced: bool = False
    # Asks all servers what they serve and calls back when they have told; False: not worth it yet.
    refresh: Callable[[Callable[[], None]], bool] | None = None
    # What the servers say that they serve.
    listing: Listing = field(default_factory=Listing)
    # Objective name -> priority.
    priorities: dict[str, int] = field(default_factory=dict)
    # Which models stand for which; None: each for itself.
    rewrites: RewriteTable | None = None
    # Where requests wait while no endpoint can take them; None: they do not.
    flow: FlowGate | None = None
    # Where requests wait for an adapter that is loaded for them; None: nowhere.
    adapters: Adapters | None = None
    # Parsers of llm-d's configuration, where it lists some; none: whatever is understood is read.
    parsers: tuple[str, ...] = ()
    # Headers that the pool's policy reads: the name in a callout, and in a request.
    declared: tuple[tuple[bytes, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        self.declared = tuple((n.encode(), n) for n in sorted(self.scheduler.policy.headers))


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One callout on its way to an answer."""

    pool: PoolRuntime
    request: Request
    request_id: bytes
    proxy: str
    explain: bool
    # What to cut out of the body, and the model that the client named, if another stands for it.
    splice: bytes = b""
    alias: str = ""
    # Whether only a server will do that has a part of the prompt in its cache.
    if_available: bool = False
    # When the question came.
    arrived: float = 0.0
    # The client's traceparent, where requests are traced.
    trace: bytes = b""
    # What the answer is to name as its model, as JSON text, or empty.
    restore: str = ""


class Watcher(Notes, Protocol):
    """Who wants to know what was decided; counts and keeps, must not wait."""

    def chosen(
        self, pick: str, asked: Asked, decision: Decision, began: float, ended: float
    ) -> None:
        """A server was chosen; deciding began and ended at these times."""
        ...

    def refused(self, outcome: str, seconds: float, asked: Asked | None) -> None:
        """The picker gave the final answer itself, for the reason ``outcome``."""
        ...

    def listed(self) -> None:
        """The picker answered what the pool serves."""
        ...

    def explained(self, pick: str, request_id: bytes, explanation: Explanation) -> None:
        """A decision with its reasons."""
        ...


class _Waiter:
    """A request in the pool's queue: hears of the end of its waiting once, and answers."""

    def __init__(self, service: PickService, asked: Asked) -> None:
        self._service = service
        self._asked = asked
        self._done: Callable[[Reply], None] = _nobody
        # How to leave what the request waits in.
        self.leave: Callable[[], None] | None = None

    def start(self, done: Callable[[Reply], None]) -> bool:
        self._done = done
        return True

    def cancel(self) -> None:
        if self.leave is not None:
            self.leave()

    def released(self, waited_seconds: float) -> None:
        reply = self._service.again(self._asked)
        if not isinstance(reply, Later):
            if isinstance(reply, Chosen):
                said = (QUEUE_HEADER, str(round(waited_seconds * 1000)))
                reply = msgspec.structs.replace(
                    reply, response_headers=(*reply.response_headers, said)
                )
            self._done(reply)
            return
        # It waits on, for an adapter or for what the servers tell.
        self.leave = reply.cancel
        if not reply.start(self._done):
            self._done(reply.otherwise)

    def refused(self, refusal: Refuse) -> None:
        self._done(self._service.not_let_go(refusal, self._asked))


class _AdapterWaiter:
    """A request that waits for an adapter."""

    def __init__(self, service: PickService, asked: Asked) -> None:
        self._service = service
        self._asked = asked
        self._done: Callable[[Reply], None] = _nobody

    def start(self, done: Callable[[Reply], None]) -> bool:
        self._done = done
        return True

    def told(self, answer: FinalAnswer | None) -> None:
        self._done(self._service.adapter_told(self._asked, answer))


class _ModelWaiter:
    """A request that waits for what the servers tell; whose client is gone, reserves nothing."""

    def __init__(
        self, service: PickService, asked: Asked, refresh: Callable[[Callable[[], None]], bool]
    ) -> None:
        self._service = service
        self._asked = asked
        self._refresh = refresh
        self._done: Callable[[Reply], None] | None = None

    def start(self, done: Callable[[Reply], None]) -> bool:
        self._done = done
        return self._refresh(self._told)

    def cancel(self) -> None:
        self._done = None

    def _told(self) -> None:
        if self._done is not None:
            self._done(self._service.servers_told(self._asked))


def _nobody(reply: Reply) -> None:
    """Who is answered before somebody waits for the answer."""


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
        self._traced = False
        # Unique in time and among picker processes.
        self._prefix = prefix
        self._count = 0
        self._anonymous = 0
        self._routes: dict[bytes, tuple[PoolRuntime, Call]] = {}

    @property
    def declared(self) -> frozenset[bytes]:
        """Lower-case names of all headers that policies of the pools, or tracing, read."""
        names = {name for pool in self.pools.values() for name, _ in pool.declared}
        return frozenset({*names, TRACEPARENT} if self._traced else names)

    def trace(self, watcher: Watcher) -> None:
        """Lets another watcher see decisions, and the trace that each request belongs to."""
        self._watcher = watcher
        self._traced = True

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
        reply = self._routed(call, proxy, pool, kind, request_id, began)
        return reply if kind.api.style is Style.OPENAI else in_style(reply, kind.api.style)

    def _routed(
        self,
        call: Callout,
        proxy: str,
        pool: PoolRuntime,
        kind: Call,
        request_id: bytes,
        began: float,
    ) -> Reply | Later:
        if not pool.synced:
            answer = FinalAnswer(
                503,
                "The picker has not seen the pool yet.",
                code="not_ready",
                retry_after_seconds=refusals.NO_ENDPOINT_RETRY_SECONDS,
            )
            return self._final(answer, request_id, "not_ready", began)
        if kind.lists_models and call.method == b"GET" and pool.listing:
            return self._listed(pool, request_id)
        read = understand(call, kind, pool, request_id, self._watcher)
        if isinstance(read, FinalAnswer):
            return self._final(read, request_id, "bad_request", began)
        wishes = read.wishes
        asked = Asked(
            pool,
            read.request,
            request_id,
            proxy,
            wishes.explain,
            read.splice,
            read.alias,
            wishes.if_available,
            began,
            call.headers.get(TRACEPARENT, b"") if self._traced else b"",
            read.restore,
        )
        flow = pool.flow
        if flow is not None:
            if flow.credit > 0:
                flow.credit -= 1
            elif (waits := self._queued(flow, asked)) is not None:
                return waits
        result = self._decide(asked, began)
        if isinstance(result, Chosen):
            return result
        return self._refused(asked, result, began)

    def _refused(self, asked: Asked, result: Refusal, began: float) -> Reply | Later:
        """The refusal in words; an unknown model may be one that was loaded just now."""
        pool, request_id = asked.pool, asked.request_id
        if pool.adapters is not None and result.reason is RefusalReason.UNKNOWN_MODEL:
            waits = self._await_adapter(pool.adapters, asked, began)
            if waits is not None:
                return waits
        answer = refusals.decided(result, asked.alias)
        wording = self._final(answer, request_id, result.reason.value, began, asked)
        if result.reason is not RefusalReason.UNKNOWN_MODEL or pool.refresh is None:
            return wording

        waiter = _ModelWaiter(self, asked, pool.refresh)
        return Later(waiter.start, wording, waiter.cancel)

    def servers_told(self, asked: Asked) -> Reply:
        """Decides for a model that may be one since the servers were asked anew."""
        result = self._decide(asked, self._monotonic())
        if isinstance(result, Chosen):
            return result
        return Refused(refusals.decided(result, asked.alias), asked.request_id)

    def _await_adapter(
        self, adapters: Adapters, asked: Asked, began: float
    ) -> Reply | Later | None:
        """Waits until the adapter is loaded; None: it is nothing that can be loaded."""
        waiter = _AdapterWaiter(self, asked)
        key = adapters.enter(asked.request.model, waiter.told)
        if key is None:
            return None
        if isinstance(key, FinalAnswer):
            return self._final(key, asked.request_id, key.code or "", began, asked)
        # Who has entered waits, so that the other answer is never taken.
        otherwise = Refused(FinalAnswer(503, "The request was not held."), asked.request_id)
        return Later(waiter.start, otherwise, lambda: adapters.leave(key))

    def adapter_told(self, asked: Asked, answer: FinalAnswer | None) -> Reply:
        """The end of waiting for an adapter."""
        began = self._monotonic()
        if answer is not None:
            return self._final(answer, asked.request_id, answer.code or "", began, asked)
        result = self._decide(asked, began)
        if isinstance(result, Refusal):
            wording = refusals.decided(result, asked.alias)
            return self._final(wording, asked.request_id, result.reason.value, began, asked)
        return result

    def _listed(self, pool: PoolRuntime, request_id: bytes) -> Reply | Later:
        """The pool's models, asked for anew unless that was done just now."""
        self._watcher.listed()
        if pool.refresh is None:
            return Told(pool.listing.text(pool.rewrites), request_id)
        refresh = pool.refresh

        def start(done: Callable[[Reply], None]) -> bool:
            return refresh(lambda: done(Told(pool.listing.text(pool.rewrites), request_id)))

        return Later(start, Told(pool.listing.text(pool.rewrites), request_id))

    def _queued(self, flow: FlowGate, asked: Asked) -> Reply | Later | None:
        """Waits for its turn, or says why not; None: its turn is at once."""
        waiter = _Waiter(self, asked)
        key = flow.enter(asked.request, waiter)
        if key is None:
            return None
        if isinstance(key, Refuse):
            return self.not_let_go(key, asked)
        # Who has entered waits, so that the other answer is never taken.
        otherwise = Refused(FinalAnswer(503, "The request was not held."), asked.request_id)
        waiter.leave = partial(flow.leave, key)
        return Later(waiter.start, otherwise, waiter.cancel)

    def again(self, asked: Asked) -> Reply | Later:
        """Decides for a request that has waited."""
        began = self._monotonic()
        result = self._decide(asked, began)
        if isinstance(result, Refusal):
            return self._refused(asked, result, began)
        return result

    def not_let_go(self, refusal: Refuse, asked: Asked) -> Reply:
        """The final answer to a request that may not wait, or no longer."""
        answer = refusals.waited(refusal)
        return self._final(answer, asked.request_id, refusal.why.value, self._monotonic(), asked)

    def malformed(self, problem: Malformed) -> Refused:
        """The last answer on a connection that can not go on."""
        self._watcher.refused("bad_request", 0.0, None)
        return Refused(FinalAnswer(problem.status, problem.message), b"")

    def _find(self, target: bytes) -> tuple[PoolRuntime, Call] | FinalAnswer:
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
        found = pool, call_of(path, pool.parsers)
        if len(target) <= ROUTE_BYTES_MAX:
            if len(self._routes) >= ROUTES_MAX:
                self._routes.clear()
            self._routes[target] = found
        return found

    def _decide(self, asked: Asked, now: float) -> Chosen | Refusal:
        self._count += 1
        pick = f"{self._prefix}-{self._count:x}"
        request, request_id, proxy = asked.request, asked.request_id, asked.proxy
        scheduler = asked.pool.scheduler
        explaining = 0.0
        if asked.explain or asked.if_available or self._count % EXPLAIN_EVERY == 1:
            decision = scheduler.decide(request, now, self._rng)
            if isinstance(decision, Decision):
                if asked.if_available and not decision.matched_bytes:
                    return _NOT_CACHED
                looked = self._monotonic()
                self._watcher.explained(pick, request_id, scheduler.explain(request, decision, now))
                # Explaining is for people and no part of deciding.
                explaining = self._monotonic() - looked
                scheduler.reserve(request, decision, pick, proxy, now)
        else:
            decision = scheduler.pick(request, pick, proxy, now, self._rng)
        if isinstance(decision, Refusal):
            return decision
        address = scheduler.columns.address
        named = ",".join([address[slot] for slot in decision.slots])
        if scheduler.policy.port:
            named = _at_port(named, scheduler.policy.port)
        self._watcher.chosen(pick, asked, decision, now, self._monotonic() - explaining)
        told = decision.response_headers
        return Chosen(named, pick, request_id, asked.splice, decision.headers, told, asked.restore)

    def _final(
        self,
        answer: FinalAnswer,
        request_id: bytes,
        outcome: str,
        began: float,
        asked: Asked | None = None,
    ) -> Refused:
        self._watcher.refused(outcome, self._monotonic() - began, asked)
        return Refused(answer, request_id)


def _at_port(addresses: str, port: int) -> str:
    """The same Pods, each once, at one port of theirs."""
    hosts = dict.fromkeys(one.rpartition(":")[0] for one in addresses.split(","))
    return ",".join(f"{host}:{port}" for host in hosts)
