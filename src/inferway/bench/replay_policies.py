"""Ways to choose a server for a request, by a client that sees what a picker sees.

The cost policy is the picker's own code; the others are what peers do, in a few lines. Knows no
network and no clock.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Protocol

from inferway.bench.replay_trace import Call
from inferway.scheduling.decision import Decision
from inferway.scheduling.events import Finished, ModelCard
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

# A server that has this many requests more than another loses the prompts it knows.
AFFINITY_REQUESTS_MAX = 4


class Policy(Protocol):
    """Chooses servers by their number; hears when a request is over."""

    name: str

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int: ...

    def ended(self, call: Call, server: int, times: tuple[float, float], now: float) -> None:
        """``times`` are the seconds until the first and the last token."""
        ...


class RoundRobin:
    """One after the other."""

    name = "round-robin"

    def __init__(self, servers: int) -> None:
        self._servers = servers
        self._next = -1

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int:
        self._next += 1
        return self._next % self._servers

    def ended(self, call: Call, server: int, times: tuple[float, float], now: float) -> None:
        pass


class Random:
    """Any of them."""

    name = "random"

    def __init__(self, servers: int) -> None:
        self._servers = servers
        self._rng = random.Random(1)

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int:
        return self._rng.randrange(self._servers)

    def ended(self, call: Call, server: int, times: tuple[float, float], now: float) -> None:
        pass


class LeastRequests:
    """The one with the fewest requests in flight."""

    name = "least-requests"

    def __init__(self, servers: int) -> None:
        self.in_flight = [0] * servers
        self._next = 0

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int:
        servers = len(self.in_flight)
        self._next += 1
        # Equal ones take turns.
        order = ((self._next + index) % servers for index in range(servers))
        server = min(order, key=self.in_flight.__getitem__)
        self.in_flight[server] += 1
        return server

    def ended(self, call: Call, server: int, times: tuple[float, float], now: float) -> None:
        self.in_flight[server] -= 1


class PrefixAffinity(LeastRequests):
    """The one that had the same beginning before, unless it has much more to do."""

    name = "prefix-affinity"

    def __init__(self, servers: int) -> None:
        super().__init__(servers)
        self._known: dict[int, int] = {}

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int:
        known = self._known.get(call.group)
        least = min(self.in_flight)
        if known is not None and self.in_flight[known] - least <= AFFINITY_REQUESTS_MAX:
            self.in_flight[known] += 1
            return known
        server = super().choose(call, prompt, now)
        self._known[call.group] = server
        return server


class Cost:
    """The picker's default: the least predicted time to the first token."""

    name = "inferway-cost"

    def __init__(self, servers: int) -> None:
        self._scheduler = PoolScheduler(CostPolicy())
        self._addresses = [f"10.0.0.{server + 1}:8000" for server in range(servers)]
        self._scheduler.set_endpoints([Endpoint(a, a) for a in self._addresses], 0.0)
        for address in self._addresses:
            self._scheduler.observe_models(address, [ModelCard("m")])
        self._rng = random.Random(1)

    def choose(self, call: Call, prompt: Sequence[int], now: float) -> int:
        body = json.dumps(list(prompt)).encode()
        request = Request(
            "m", ApiKind.COMPLETIONS, body, stream=True, max_tokens=call.output_tokens
        )
        found = self._scheduler.pick(request, str(call.number), "client", now, self._rng)
        assert isinstance(found, Decision)
        return self._addresses.index(self._scheduler.columns.address[found.slots[0]])

    def ended(self, call: Call, server: int, times: tuple[float, float], now: float) -> None:
        first, last = times
        self._scheduler.settle(
            Finished(
                str(call.number),
                code=200,
                served=self._addresses[server],
                first_byte_seconds=first,
                last_byte_seconds=last,
                duration_seconds=last,
                prompt_tokens=call.prompt_tokens,
                completion_tokens=call.output_tokens,
            ),
            now,
        )


def policies(servers: int) -> list[Policy]:
    """A fresh one of each."""
    return [kind(servers) for kind in (RoundRobin, Random, LeastRequests, PrefixAffinity, Cost)]
