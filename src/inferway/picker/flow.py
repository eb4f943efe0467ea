"""The pump of a pool's queue: measures the servers, keeps who waits, one timer, and counts.

Knows the loop and the machine in ``scheduling.flow``; knows nothing of what a request says. While
nothing is saturated a request costs one comparison here: ``credit`` is above zero.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from inferway.base.clock import Clock
from inferway.picker.flow_counts import FlowCounts
from inferway.scheduling.cost import expected_output, prompt_tokens
from inferway.scheduling.flow.events import (
    LEFT,
    OUTCOMES,
    Arrived,
    Command,
    Configured,
    Dispatch,
    Drain,
    Endpoints,
    Event,
    Left,
    Measured,
    Refuse,
    Tick,
)
from inferway.scheduling.flow.machine import FlowMachine
from inferway.scheduling.flow.options import FlowOptions
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request

# Servers are measured this often while requests wait: they have some more waiting themselves, which
# last longer. Each endpoint adds to it, so that measuring takes two cores of a hundred at most.
MEASURE_SECONDS = 0.005
MEASURE_SECONDS_PER_ENDPOINT = 20e-6
DEFAULT_FLOW = "default-flow"


class Waiter(Protocol):
    """A request that waits; is told one of these once, or nothing after it left."""

    def released(self, waited_seconds: float) -> None:
        """There is room."""
        ...

    def refused(self, refusal: Refuse) -> None:
        """There was none for as long as this request may wait, or others need the place more."""
        ...


class FlowGate:
    """The requests of one pool that wait."""

    def __init__(
        self, scheduler: PoolScheduler, clock: Clock, options: FlowOptions | None = None
    ) -> None:
        # How many requests may pass without a question; each one looks, so it is a plain attribute.
        self.credit = 0
        self.queue = FlowMachine(options)
        self.counts = FlowCounts()
        self._scheduler = scheduler
        self._detector = self.queue.options.detector()
        self._loop = asyncio.get_running_loop()
        self._monotonic = clock.monotonic
        self._waiters: dict[int, tuple[Waiter, Request]] = {}
        self._count = 0
        self._granted = 0
        self._next_measure = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def now(self) -> float:
        """The time by which the queue counts."""
        return self._monotonic()

    def oldest_seconds(self) -> float:
        """How long the first of the queue has waited."""
        return self.queue.oldest_seconds(self._monotonic())

    def enter(self, request: Request, waiter: Waiter) -> int | Refuse | None:
        """The key to leave with, why the request can not wait, or None: it need not."""
        queue = self.queue
        if queue.idle:
            return None
        now = self._monotonic()
        if not len(queue) and self._has_room(now):
            self.credit -= 1
            return None
        self._count += 1
        key = self._count
        snapshot = self._scheduler.snapshot()
        arrived = Arrived(
            key,
            request.priority,
            request.fairness_id or DEFAULT_FLOW,
            request.body_bytes,
            # A token of output costs a server about twice as much as one of the prompt.
            prompt_tokens(request, snapshot) + 2.0 * expected_output(request, snapshot),
            request.ttl_seconds,
            request.slo_ttft_ms / 1000.0,
        )
        self._waiters[key] = waiter, request
        answer: int | Refuse | None = key
        others: list[Command] = []
        for command in queue.handle(arrived, now):
            if command.key != key:
                others.append(command)
                continue
            del self._waiters[key]
            answer = command if isinstance(command, Refuse) else None
            self._counted(command, request)
        self._run(others)
        self._set_timer()
        return answer

    def leave(self, key: int) -> None:
        """The client is gone; its waiter hears nothing more."""
        found = self._waiters.pop(key, None)
        if found is not None:
            now = self._monotonic()
            self.counts.left(found[1], LEFT, self.queue.waited_seconds(key, now))
            self._handle(Left(key))

    def set_options(self, options: FlowOptions) -> None:
        """What holds from here on."""
        if options != self.queue.options:
            if options.detector is not self.queue.options.detector:
                self._detector = options.detector()
            self.credit = 0
            self._handle(Configured(options))

    def set_endpoints(self, count: int) -> None:
        """How many endpoints there are."""
        self.credit = 0
        self._next_measure = 0.0
        self._handle(Endpoints(count))

    def stop(self) -> None:
        """Refuses all that wait."""
        self._handle(Drain())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _has_room(self, now: float) -> bool:
        """Looks for further credit where nobody waits."""
        if now >= self._next_measure:
            self._measure(now)
        else:
            more = self.queue.take_credit()
            self._granted += more
            self.credit += more
        return self.credit > 0

    def _measure(self, now: float) -> None:
        columns = self._scheduler.columns
        queue = self.queue
        self._next_measure = (
            now + MEASURE_SECONDS + len(columns.live) * MEASURE_SECONDS_PER_ENDPOINT
        )
        capacity = self._detector.measure(columns, now, pressed=len(queue) > 0)
        commands = queue.handle(Measured(capacity, self._granted - self.credit), now)
        self.credit = self._granted = queue.take_credit()
        self._run(commands)

    def _handle(self, event: Event) -> None:
        self._run(self.queue.handle(event, self._monotonic()))
        self._set_timer()

    def _run(self, commands: list[Command]) -> None:
        for command in commands:
            found = self._waiters.pop(command.key, None)
            if found is None:
                # It left while others were told.
                continue
            waiter, request = found
            self._counted(command, request)
            if isinstance(command, Dispatch):
                waiter.released(command.waited_seconds)
            else:
                waiter.refused(command)

    def _counted(self, command: Command, request: Request) -> None:
        if isinstance(command, Dispatch):
            self.counts.dispatched(request, command.waited_seconds)
        else:
            self.counts.left(request, OUTCOMES[command.why], command.waited_seconds)

    def _set_timer(self) -> None:
        due = self.queue.wake_at
        if self.queue.waits_for_room:
            due = self._next_measure if due is None else min(due, self._next_measure)
        if self._timer is not None:
            if due == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            self._timer_at = due
            self._timer = self._loop.call_later(max(0.0, due - self._monotonic()), self._woken)

    def _woken(self) -> None:
        self._timer = None
        now = self._monotonic()
        if self.queue.waits_for_room and now >= self._next_measure:
            self._measure(now)
            self._set_timer()
        else:
            self._handle(Tick())
