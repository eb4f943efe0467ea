"""Drives the pure engine in real time.

The engine's clock follows its own steps: a step begins where the one before ended, and outputs are
told when the clock of the loop has passed the end of their step. Timers are late by up to a
millisecond, so steps that are already over are caught up in one go; when the process was held up
for longer, the engine's clock is moved instead of racing after it.

In front of the engine stands vLLM's API server, a process of its own that works on one thing at a
time: on a request before the engine sees it, and on each token before the client does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import msgspec

from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.frontend import Frontend
from inferway.simulator.engine.values import Request, Step, Timing

# Lag that is made up for; anything beyond it is time in which the machine was busy elsewhere.
LAG_SECONDS_MAX = 0.050
# uvloop counts milliseconds: a shorter timer fires at once and would be set again and again.
_TIMER_SECONDS = 0.001
# A timer that is this close is not worth setting.
_EARLY_SECONDS = 0.0002


class Sink(Protocol):
    """Whoever waits for the tokens of one sequence."""

    def gained(self, tokens: int, at: float, ended: float, timing: Timing | None) -> None:
        """``tokens`` more at loop time ``at``, of a step that ended at ``ended``; ``timing`` comes
        with the last of them.
        """
        ...


class StepObserver(Protocol):
    """Whoever counts steps."""

    def stepped(self, step: Step) -> None: ...


class EnginePump:
    """Engine, waiting sinks and the timer between steps."""

    def __init__(
        self, engine: Engine, loop: asyncio.AbstractEventLoop, observer: StepObserver
    ) -> None:
        self.engine = engine
        self._loop = loop
        self._observer = observer
        self._frontend = Frontend(engine.profile)
        self._sinks: dict[int, Sink] = {}
        # Requests that the API server still works on, in order, with the time when it is done.
        self._coming: deque[tuple[float, Request]] = deque()
        # Steps whose outputs the API server still works on, likewise.
        self._telling: deque[tuple[float, float, Step]] = deque()
        self._next_id = 0
        self._step: Step | None = None
        self._step_end = 0.0
        self._armed = False

    def now(self) -> float:
        return self._loop.time()

    def next_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def submit(self, request: Request, sink: Sink) -> None:
        """Queues a request; its sink hears of every token."""
        ready = self._frontend.take(self._loop.time())
        self._sinks[request.id] = sink
        self._coming.append((ready, request))
        if self._step is None and not self._armed:
            self._armed = True
            self._loop.call_soon(self._run)

    def abort(self, request_id: int) -> None:
        """Nobody waits for this request any longer."""
        if self._sinks.pop(request_id, None) is not None:
            self.engine.abort(request_id)

    def _run(self) -> None:
        self._armed = False
        start = self._loop.time()
        while True:
            now = self._loop.time()
            if self._step is not None:
                if self._step_end > now + _EARLY_SECONDS:
                    self._wait_until(self._step_end, now)
                    return
                step, self._step = self._step, None
                self._over(step, self._step_end, now)
                late = now - self._step_end > LAG_SECONDS_MAX
                start = now if late else self._step_end
            self._admit(start, now)
            if self.engine.idle:
                if not self._coming:
                    return
                ready = self._coming[0][0]
                if ready > now + _EARLY_SECONDS:
                    self._wait_until(ready, now)
                    return
                start = ready
                continue
            self._step = self.engine.step(start)
            self._step_end = start + self._step.seconds

    def _wait_until(self, moment: float, now: float) -> None:
        self._armed = True
        self._loop.call_later(max(moment - now, _TIMER_SECONDS), self._run)

    def _admit(self, start: float, now: float) -> None:
        """Hands the engine what the API server is done with when a step begins."""
        limit = max(start, now) + _EARLY_SECONDS if self.engine.idle else start
        while self._coming and self._coming[0][0] <= limit:
            ready, request = self._coming.popleft()
            if request.id in self._sinks:
                if ready > request.arrived:
                    # The engine's own queue begins here.
                    request = msgspec.structs.replace(request, arrived=ready)
                self.engine.add(request)

    def _over(self, step: Step, at: float, now: float) -> None:
        """A step has ended; its outputs are told when the API server is done with them."""
        self._observer.stepped(step)
        if not step.outputs:
            return
        told = self._frontend.tell(at, len(step.outputs))
        if told <= now + _EARLY_SECONDS and not self._telling:
            self._deliver(step, told, at)
            return
        self._telling.append((told, at, step))
        if len(self._telling) == 1:
            self._loop.call_later(max(told - now, _TIMER_SECONDS), self._tell)

    def _tell(self) -> None:
        now = self._loop.time()
        while self._telling:
            told, ended, step = self._telling[0]
            if told > now + _EARLY_SECONDS:
                self._loop.call_later(max(told - now, _TIMER_SECONDS), self._tell)
                return
            self._telling.popleft()
            self._deliver(step, told, ended)

    def _deliver(self, step: Step, at: float, ended: float) -> None:
        for output in step.outputs:
            sink = self._sinks.get(output.id)
            if sink is None:
                continue
            if output.finished:
                del self._sinks[output.id]
            sink.gained(output.tokens, at, ended, step.timings.get(output.id))
