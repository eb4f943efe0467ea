"""What the leading picker does: carry actions out, write statuses and Events.

Lives while the Lease is held. Its end cancels what is under way; the statuses tell the next leader
which copies are ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp

from inferway.api.resources import LORA_ADAPTERS
from inferway.base.clock import Clock, rfc3339
from inferway.base.errors import InferwayError
from inferway.cluster.client import KubeClient
from inferway.cluster.events import EventLevel, EventRecorder
from inferway.cluster.informer import Informer
from inferway.cluster.status import write_status
from inferway.picker.placement import calls, statuses
from inferway.picker.placement.objects import ON_SERVER_STATES, Adapter, Reading
from inferway.scheduling.events import ModelCard
from inferway.scheduling.placement.machine import Action, Outcome, Placement
from inferway.scheduling.placement.values import CopyState, Load
from inferway.scheduling.pool import PoolScheduler

_log = logging.getLogger(__name__)

# Changes of one moment are one write.
STATUS_SECONDS_MIN = 0.1
# A status that could not be written is tried again after this time, and looked at anyway.
STATUS_SECONDS_MAX = 2.0


class Keeper(Protocol):
    """Who leads."""

    scheduler: PoolScheduler
    reading: Reading
    monotonic: Callable[[], float]

    def wake(self) -> None:
        """Asks for another plan soon."""
        ...


class Acting:
    """One term as the leader."""

    def __init__(
        self,
        keeper: Keeper,
        client: KubeClient,
        session: aiohttp.ClientSession,
        scheme: str,
        events: EventRecorder,
    ) -> None:
        self.placement = Placement()
        self.statuses_due = asyncio.Event()
        self._keeper = keeper
        self._client = client
        self._session = session
        self._scheme = scheme
        self._events = events
        self._tasks: asyncio.TaskGroup | None = None
        self._counts = Counts()

    def adopt(self, counts: Counts) -> None:
        """Takes over what a leader before has placed, and goes on counting."""
        self._counts = counts
        now = self._keeper.monotonic()
        for name, one in self._keeper.reading.owners.items():
            for address, endpoint in statuses.placed_before(one, ON_SERVER_STATES).items():
                self.placement.adopt(
                    (name, address),
                    endpoint.name,
                    endpoint.source,
                    endpoint.state != CopyState.LOADING,
                    now,
                )
        self.placement.set_wishes(self._keeper.reading.wishes.values())

    async def run(self, informer: Informer[Adapter], clock: Clock) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._keeper.wake()
            self.statuses_due.set()
            tasks.create_task(self._events.run(), name="placement events")
            await self._write_statuses(informer, clock)

    @property
    def ready(self) -> bool:
        """Whether actions can be begun."""
        return self._tasks is not None

    # -- actions ---------------------------------------------------------------------------

    def begin(self, actions: Sequence[Action]) -> None:
        """Starts each of them; tells people what the plan and the ends of actions said."""
        assert self._tasks is not None
        for action in actions:
            verb = "load" if isinstance(action, Load) else "unload"
            self._tasks.create_task(self._do(action, verb), name=f"{verb} {action.adapter}")
        self._tell()
        if actions:
            self.statuses_due.set()

    async def _do(self, action: Action, verb: str) -> None:
        now = self._keeper.monotonic
        began = now()
        outcome, message = await calls.carry_out(self._session, self._scheme, action)
        seconds = now() - began
        self._counts.note(action.adapter, verb, outcome, seconds)
        _log.info(
            "adapter moved",
            extra={
                "data": {
                    "action": verb,
                    "adapter": action.adapter,
                    "endpoint": action.address,
                    "outcome": outcome.value,
                    "seconds": round(seconds, 3),
                    "said": message,
                }
            },
        )
        self.placement.done(action, outcome, message, now())
        if outcome in (Outcome.DONE, Outcome.ALREADY):
            self._correct_list(action)
        self._tell()
        self.statuses_due.set()
        self._keeper.wake()

    def _correct_list(self, action: Action) -> None:
        """Routing need not wait for the server's next list of models."""
        scheduler = self._keeper.scheduler
        cards = scheduler.cards(action.address)
        if cards is None:
            return
        others = [card for card in cards if card.id != action.adapter]
        if isinstance(action, Load):
            base = next((card.id for card in others if not card.parent), "")
            others.append(ModelCard(action.adapter, action.base_model or base))
            others.sort(key=lambda card: card.id)
        scheduler.observe_models(action.address, others)

    def _tell(self) -> None:
        for note in self.placement.take_notes():
            self.statuses_due.set()
            owner = self._keeper.reading.owners.get(note.adapter)
            if owner is not None:
                level: EventLevel = "Warning" if note.warning else "Normal"
                self._events.event(owner.raw, level, note.reason, note.message)

    # -- statuses --------------------------------------------------------------------------

    async def _write_statuses(self, informer: Informer[Adapter], clock: Clock) -> None:
        while True:
            try:
                async with asyncio.timeout(STATUS_SECONDS_MAX):
                    await self.statuses_due.wait()
            except TimeoutError:
                pass
            self.statuses_due.clear()
            reading = self._keeper.reading
            for one in reading.adapters:
                refused = reading.refused.get(one.key, "")
                status = statuses.status_of(one, refused, self.placement, rfc3339(clock.wall()))
                try:
                    written = await write_status(self._client, LORA_ADAPTERS, one.raw, status)
                except InferwayError as error:
                    data = {"adapter": one.key.name, "error": str(error)}
                    _log.warning("a status was not written", extra={"data": data})
                    continue
                if written is not None:
                    informer.absorb(written)
            await asyncio.sleep(STATUS_SECONDS_MIN)


class Counts:
    """What was done, over all terms of this picker."""

    def __init__(self) -> None:
        # (adapter, "load" or "unload", outcome) -> how often.
        self.ended: Counter[tuple[str, str, str]] = Counter()
        self.load_seconds: dict[str, float] = {}

    def note(self, adapter: str, verb: str, outcome: Outcome, seconds: float) -> None:
        """One action has ended."""
        self.ended[adapter, verb, outcome.value] += 1
        if verb == "load":
            self.load_seconds[adapter] = self.load_seconds.get(adapter, 0.0) + seconds
