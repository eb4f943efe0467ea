"""Which adapters are on which server, and what a request for one would have to wait.

A server lists the adapters it can serve (``/v1/models``) and has ``max_loras`` places for those in
use at one time. Which ones lie in the places is not told, so it is followed by what was routed.

vLLM gives a place that comes free to the first waiting request that needs one, and lets requests
whose adapter has a place pass those that wait. So the adapters in use stand in a line, the first
``max_loras`` of them have places, and a place comes free when the last request of its adapter has
ended. With ``m`` requests in flight, and others of the same adapter still coming, that takes
``service * (e^m - 1) / m``: the busy period of an M/G/infinity queue with a mean of ``m`` (Takacs,
Introduction to the Theory of Queues, 1962).
"""

from __future__ import annotations

import math
from collections import OrderedDict

# Time to bring a small adapter into its place until it is learned.
LOAD_SECONDS_PRIOR = 0.05
LOAD_SECONDS_MIN = 0.001
LOAD_SECONDS_MAX = 30.0
# Weight of one observed load, and how far it may move the estimate at full weight, in logarithms:
# what is observed is a small difference of long times, often less than nothing.
LOAD_GAIN = 0.2
LOAD_LOG_STEP_MAX = 0.7
# Places of a server that does not tell; vLLM's own default is 1, but a server with adapters
# that hides the number is more often another engine, and a wrong 1 would serialise it.
MAX_LORAS_DEFAULT = 4
# Adapters that a server is remembered to have had, so that most of those in its memory are known.
SEEN_MAX = 256

# What a request finds: its adapter in a place, or one to load, for the first time or once more, or
# no place.
IN_PLACE, LOADS_FIRST, LOADS_AGAIN, WAITS = range(4)

# Ends of an adapter's use in one service time, by its requests in flight; more last for ever.
_ENDS = (1.0, *(m / (math.exp(m) - 1.0) for m in range(1, 32)))
# Service times for which one request alone keeps its adapter's place.
_HELD = 1.0 / _ENDS[1]


class _Server:
    __slots__ = (
        "active", "line", "max_loras", "resident", "running", "seen", "told_max", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self.max_loras = MAX_LORAS_DEFAULT
        # Adapter -> requests of ours in flight.
        self.active: dict[str, int] = {}
        # Adapters in use, in the order in which they get places.
        self.line: dict[str, None] = {}
        # Adapters in flight as the server says, whoever sent them.
        self.running: frozenset[str] = frozenset()
        self.waiting: frozenset[str] = frozenset()
        # What the server tells of its places; 0 while it does not.
        self.told_max = 0
        # Adapters that are taken to lie in the places, least recently used first.
        self.resident: OrderedDict[str, None] = OrderedDict()
        # Adapters that were in places at any time, least recently used first.
        self.seen: OrderedDict[str, None] = OrderedDict()


class LoraState:
    """Adapters by slot."""

    def __init__(self) -> None:
        self._servers: dict[int, _Server] = {}
        # A server that had the adapter before may have kept it in its memory.
        self.load_seconds = LOAD_SECONDS_PRIOR
        self.reload_seconds = LOAD_SECONDS_PRIOR
        # Adapter -> own requests that were sent to it, ever.
        self.uses: dict[str, int] = {}

    def observe(
        self, slot: int, max_loras: int, running: frozenset[str], waiting: frozenset[str]
    ) -> None:
        """What ``vllm:lora_requests_info`` says; ``max_loras`` 0 means that it does not."""
        server = self._server(slot)
        if max_loras > 0:
            server.max_loras = server.told_max = max_loras
        server.running = running
        server.waiting = waiting
        if not running and not server.line:
            return
        placed = sorted(running)
        for adapter in placed:
            if adapter not in server.resident:
                self._touch(server, adapter)
        server.line = dict.fromkeys((*placed, *(a for a in server.line if a in server.active)))

    def reserve(self, slot: int, adapter: str) -> None:
        """A request for the adapter is on its way."""
        server = self._server(slot)
        server.active[adapter] = server.active.get(adapter, 0) + 1
        server.line[adapter] = None
        self.uses[adapter] = self.uses.get(adapter, 0) + 1
        self._touch(server, adapter)

    def release(self, slot: int, adapter: str) -> None:
        """That request has ended."""
        server = self._servers[slot]
        left = server.active[adapter] - 1
        assert left >= 0
        if left:
            server.active[adapter] = left
        else:
            del server.active[adapter]
            server.line.pop(adapter, None)

    def told(self, slot: int) -> tuple[frozenset[str], frozenset[str], int]:
        """What the server says: adapters running, adapters waiting, places (0: unknown)."""
        server = self._servers.get(slot)
        if server is None:
            return frozenset(), frozenset(), 0
        return server.running, server.waiting, server.told_max

    def in_flight(self, slot: int) -> dict[str, int]:
        """Own requests in flight by adapter."""
        server = self._servers.get(slot)
        return {} if server is None else dict(server.active)

    def max_loras(self, slot: int) -> int:
        """Places for adapters."""
        server = self._servers.get(slot)
        return MAX_LORAS_DEFAULT if server is None else server.max_loras

    def is_resident(self, slot: int, adapter: str) -> bool:
        """Whether the adapter is taken to need no load."""
        server = self._servers.get(slot)
        return server is not None and adapter in server.resident

    def blocked(self, slot: int) -> int:
        """Own requests in flight whose adapter has no place yet."""
        server = self._servers.get(slot)
        if server is None or len(server.line) <= server.max_loras:
            return 0
        behind = list(server.line)[server.max_loras :]
        return sum([server.active.get(adapter, 0) for adapter in behind])

    def finds(self, slot: int, adapter: str) -> int:
        """What a request for the adapter would find there: one of the four words above."""
        server = self._servers.get(slot)
        return LOADS_FIRST if server is None else _finds(server, adapter)

    def wait_seconds(self, slot: int, adapter: str, service_seconds: float) -> float:
        """Time until the adapter is in its place, given the mean time that a request runs."""
        server = self._servers.get(slot)
        if server is None:
            return self.load_seconds
        found = _finds(server, adapter)
        if found == IN_PLACE:
            return 0.0
        load = self.reload_seconds if adapter in server.seen else self.load_seconds
        if found != WAITS:
            return load
        ends = 0.0
        for place, other in enumerate(server.line):
            if place == server.max_loras:
                break
            ends += _ENDS[min(server.active.get(other, 1), len(_ENDS) - 1)]
        return load + _ahead(server, adapter) * service_seconds / ends

    def harm_seconds(
        self, slot: int, adapter: str, service_seconds: float, requests: float
    ) -> float:
        """What it costs others that the adapter gets a place there.

        A load stops the ``requests`` that are there, and takes the place of an adapter that will be
        loaded again. A place that is held is missed by the next that needs one with the probability
        of Erlang's loss formula.
        """
        server = self._servers.get(slot)
        if server is None:
            return requests * self.load_seconds
        harm = 0.0
        if adapter not in server.line:
            used = len(server.line) + 1
            harm = service_seconds * _HELD * _all_used(server.max_loras, used)
        if adapter not in server.resident and adapter not in server.line:
            load = self.reload_seconds if adapter in server.seen else self.load_seconds
            harm += requests * load
            if len(server.resident) >= server.max_loras:
                harm += self.reload_seconds
        return harm

    def learn_load(self, seconds: float, found: int) -> None:
        """What a first token took longer than predicted where ``found`` told of a load."""
        if found == LOADS_FIRST:
            self.load_seconds = _towards(self.load_seconds, seconds)
        elif found == LOADS_AGAIN:
            self.reload_seconds = _towards(self.reload_seconds, seconds)

    def drop(self, slot: int) -> None:
        """Forgets a server that is gone."""
        self._servers.pop(slot, None)

    def _server(self, slot: int) -> _Server:
        server = self._servers.get(slot)
        if server is None:
            server = self._servers[slot] = _Server()
        return server

    @staticmethod
    def _touch(server: _Server, adapter: str) -> None:
        for places, most in ((server.resident, server.max_loras), (server.seen, SEEN_MAX)):
            places[adapter] = None
            places.move_to_end(adapter)
            while len(places) > most:
                places.popitem(last=False)


def _ahead(server: _Server, adapter: str) -> int:
    """Adapters whose use must end before this one gets a place."""
    if len(server.line) < server.max_loras:
        return 0
    for place, other in enumerate(server.line):
        if other == adapter:
            return max(place + 1 - server.max_loras, 0)
    return len(server.line) + 1 - server.max_loras


def _finds(server: _Server, adapter: str) -> int:
    if adapter in server.running:
        return IN_PLACE
    if _ahead(server, adapter) > 0:
        return WAITS
    if adapter in server.resident or adapter in server.line:
        return IN_PLACE
    return LOADS_AGAIN if adapter in server.seen else LOADS_FIRST


def _all_used(places: int, mean: float) -> float:
    """Erlang's B: how often all places are in use where ``mean`` would be."""
    share = 1.0
    for place in range(1, places + 1):
        share *= mean
        share /= place + share
    return share


def _towards(estimate: float, seconds: float) -> float:
    step = math.log(min(max(seconds, LOAD_SECONDS_MIN), LOAD_SECONDS_MAX) / estimate)
    return estimate * math.exp(LOAD_GAIN * min(max(step, -LOAD_LOG_STEP_MAX), LOAD_LOG_STEP_MAX))
