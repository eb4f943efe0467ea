"""Drives the pure engine in real time.

The engine's clock follows its own steps: a step begins where the one before ended, and outputs are
told when the clock of the loop has passed the end of their step. Timers are late by up to a
millisecond, so steps that are already over are caught up in one go; when the process was held up
for longer, the engine's clock is moved instead of racing after it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from inferway.simulator.engine.engine import Engine
from inferway.simulator.engine.values import Request, Step, Timing

# Lag that is made up for; anything beyond it is time in which the machine was busy elsewhere.
LAG_SECONDS_MAX = 0.050
# uvloop counts milliseconds: a shorter timer fires at once and would be set again and again.
_TIMER_SECONDS = 0.001
# A timer that is this close is not worth setting.
_EARLY_SECONDS = 0.0002


class Sink(Protocol):
    """Whoever waits for the tokens of one sequence."""

    def gained(self, tokens: int, at: float, timing: Timing | None) -> None:
        """``tokens`` more at loop time ``at``; ``timing`` comes with the last of them."""
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
        self._sinks: dict[int, Sink] = {}
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
        self.engine.add(request)
        self._sinks[request.id] = sink
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
                    self._armed = True
                    self._loop.call_later(max(self._step_end - now, _TIMER_SECONDS), self._run)
                    return
                step, self._step = self._step, None
                self._deliver(step, self._step_end)
                late = now - self._step_end > LAG_SECONDS_MAX
                start = now if late else self._step_end
            if self.engine.idle:
                return
            self._step = self.engine.step(start)
            self._step_end = start + self._step.seconds

    def _deliver(self, step: Step, at: float) -> None:
        self._observer.stepped(step)
        for output in step.outputs:
            sink = self._sinks.get(output.id)
            if sink is None:
                continue
            if output.finished:
                del self._sinks[output.id]
            sink.gained(output.tokens, at, step.timings.get(output.id))
