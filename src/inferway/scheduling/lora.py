"""Which adapters are on which server, and what a request for one would have to wait.

A server lists the adapters it can serve (``/v1/models``) and has ``max_loras`` places for those in
use at one time. Which ones lie in the places is not told, so it is followed by what was routed.
"""

from __future__ import annotations

from collections import OrderedDict

# Time to bring a small adapter into its place until it is learned.
LOAD_SECONDS_PRIOR = 0.05
LOAD_SECONDS_MAX = 30.0
# Weight of one observed load.
LOAD_GAIN = 0.2
# Places of a server that does not tell; vLLM's own default is 1, but a server with adapters
# that hides the number is more often another engine, and a wrong 1 would serialise it.
MAX_LORAS_DEFAULT = 4


class _Server:
    __slots__ = ("active", "max_loras", "resident", "running", "told_max", "waiting")

    def __init__(self) -> None:
        self.max_loras = MAX_LORAS_DEFAULT
        # Adapter -> requests of ours in flight.
        self.active: dict[str, int] = {}
        # Adapters in flight as the server says, whoever sent them.
        self.running: frozenset[str] = frozenset()
        self.waiting: frozenset[str] = frozenset()
        # What the server tells of its places; 0 while it does not.
        self.told_max = 0
        # Adapters that are taken to lie in the places, least recently used first.
        self.resident: OrderedDict[str, None] = OrderedDict()


class LoraState:
    """Adapters by slot."""

    def __init__(self) -> None:
        self._servers: dict[int, _Server] = {}
        self.load_seconds = LOAD_SECONDS_PRIOR
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
        for adapter in running:
            self._touch(server, adapter)

    def reserve(self, slot: int, adapter: str) -> None:
        """A request for the adapter is on its way."""
        server = self._server(slot)
        server.active[adapter] = server.active.get(adapter, 0) + 1
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

    def wait_seconds(self, slot: int, adapter: str, service_seconds: float) -> float:
        """Time until the adapter is in place, and what putting it there costs others.

        A free place costs one load; a place taken from an idle adapter costs its expected reload
        too; if every place is busy, a running request must end first.
        """
        server = self._servers.get(slot)
        if server is None:
            return self.load_seconds
        if adapter in server.resident or adapter in server.running:
            return 0.0
        if len(server.resident) < server.max_loras:
            return self.load_seconds
        busy = len(server.running.union(server.active))
        if busy < server.max_loras:
            return 2 * self.load_seconds
        return 2 * self.load_seconds + service_seconds / busy

    def learn_load(self, seconds: float) -> None:
        """What a first token took longer than predicted where a load was expected."""
        seconds = min(max(seconds, 0.0), LOAD_SECONDS_MAX)
        self.load_seconds += LOAD_GAIN * (seconds - self.load_seconds)

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
        server.resident[adapter] = None
        server.resident.move_to_end(adapter)
        while len(server.resident) > server.max_loras:
            server.resident.popitem(last=False)
