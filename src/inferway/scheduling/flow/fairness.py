"""Which flow of a band is next: the fairness policies.

A flow is a tenant, a program, whatever a fairness id names. A policy sees flows with somebody
waiting only, hears what each one was given, and keeps its own books. ``ProgramAware`` looks at all
lanes for each choice; the others do not.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Protocol

from inferway.scheduling.flow.queue import Item, Ordered

# Usual requests that a flow may get in one go: they most often share a prefix and so stay together.
# More would cost a flow its turn that asks again only when it has been answered.
RUN_REQUESTS = 2.0
# What a request is thought to cost before any was seen, and the weight of one in the usual cost.
COST_TOKENS_PRIOR = 512.0
COST_GAIN = 0.1
# No request is taken for more than this, so that a wrong estimate shuts nobody out for long.
COST_TOKENS_MAX = 131_072.0
# Flows that have nobody waiting and are remembered for what they had; the oldest go first.
DEBTORS_MAX = 4096
HALF_LIFE_SECONDS = 60.0
SERVICE_WEIGHT = 0.8
WAIT_WEIGHT = 0.2


class Fairness(Protocol):
    """Shares one band among its flows."""

    def lane(self, flow: str) -> str:
        """The name under which a flow's requests queue: its own, or one for all."""
        ...

    def joined(self, lane: str) -> None:
        """A lane that was empty has somebody waiting."""
        ...

    def choose(self, lanes: Mapping[str, Ordered], now: float) -> str:
        """Which of the lanes is served next; they are those with somebody waiting."""
        ...

    def served(self, lane: str, item: Item, now: float) -> None:
        """The first of a lane goes."""
        ...


class TokenFairness:
    """Deficit round robin over tokens: whoever asks gets the same amount of work.

    A flow is served while its account is above zero and pays with each request's tokens, so that
    an account may fall below. Once nobody's is above, each gets a quantum, two usual requests, as
    often as it takes. Between two flows that both wait all the time the tokens served differ by two
    quanta and two of the largest requests at most. Debts outlive an empty queue, so that coming and
    going pays nothing.
    """

    def __init__(self) -> None:
        # Flows whose account is above zero, in turn; and the accounts, oldest first.
        self._turn: OrderedDict[str, None] = OrderedDict()
        self._accounts: dict[str, float] = {}
        self._usual = COST_TOKENS_PRIOR

    @property
    def quantum(self) -> float:
        """Tokens that a flow may get in one go."""
        return RUN_REQUESTS * self._usual

    def lane(self, flow: str) -> str:
        return flow

    def joined(self, lane: str) -> None:
        if lane not in self._accounts:
            self._accounts[lane] = self.quantum
            self._turn[lane] = None

    def choose(self, lanes: Mapping[str, Ordered], now: float) -> str:
        accounts, turn = self._accounts, self._turn
        while True:
            while turn:
                lane = next(iter(turn))
                if lane in lanes:
                    return lane
                # Who has nobody waiting saves nothing up.
                del turn[lane]
                del accounts[lane]
            self._refill(lanes)

    def _refill(self, lanes: Mapping[str, Ordered]) -> None:
        accounts = self._accounts
        richest = max(accounts[lane] for lane in lanes)
        # As many rounds at once as it takes until somebody may go.
        quantum = self.quantum
        given = quantum * (math.floor(-richest / quantum) + 1)
        for lane in list(accounts):
            accounts[lane] += given
            if lane not in lanes:
                if accounts[lane] >= 0:
                    del accounts[lane]
            elif accounts[lane] > 0:
                self._turn[lane] = None
        for lane in [lane for lane in accounts if lane not in lanes][:-DEBTORS_MAX]:
            del accounts[lane]

    def served(self, lane: str, item: Item, now: float) -> None:
        cost = min(max(item.tokens, 1.0), COST_TOKENS_MAX)
        self._usual += COST_GAIN * (cost - self._usual)
        self._accounts[lane] -= cost
        if self._accounts[lane] <= 0:
            del self._turn[lane]


class RoundRobin:
    """``round-robin-fairness-policy``: one request of each flow in turn."""

    def __init__(self) -> None:
        self._turn: OrderedDict[str, None] = OrderedDict()

    def lane(self, flow: str) -> str:
        return flow

    def joined(self, lane: str) -> None:
        self._turn.setdefault(lane)

    def choose(self, lanes: Mapping[str, Ordered], now: float) -> str:
        while True:
            lane = next(iter(self._turn))
            if lane in lanes:
                return lane
            del self._turn[lane]

    def served(self, lane: str, item: Item, now: float) -> None:
        self._turn.move_to_end(lane)


class GlobalStrict:
    """``global-strict-fairness-policy``: flows do not count, the band has one order."""

    def lane(self, flow: str) -> str:
        return ""

    def joined(self, lane: str) -> None:
        """Keeps no books."""

    def choose(self, lanes: Mapping[str, Ordered], now: float) -> str:
        return ""

    def served(self, lane: str, item: Item, now: float) -> None:
        """Keeps no books."""


class ProgramAware:
    """``program-aware-fairness``: least attained service, and the wait of the first a little.

    Service is tokens, output twice, forgotten by half in ``half_life_seconds``. The share of the
    largest of each counts: weight x (1 - service / most) + weight x (wait / longest).
    """

    def __init__(
        self,
        service_weight: float = SERVICE_WEIGHT,
        wait_weight: float = WAIT_WEIGHT,
        half_life_seconds: float = HALF_LIFE_SECONDS,
    ) -> None:
        self._service_weight = service_weight
        self._wait_weight = wait_weight
        self._half_life = half_life_seconds
        # Tokens, and when that was so.
        self._had: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def lane(self, flow: str) -> str:
        return flow

    def joined(self, lane: str) -> None:
        """Its books are kept by what it was given."""

    def choose(self, lanes: Mapping[str, Ordered], now: float) -> str:
        service = {lane: self._service(lane, now) for lane in lanes}
        waits = {lane: _head_wait(order, now) for lane, order in lanes.items()}
        most = max(max(service.values()), 1e-9)
        longest = max(max(waits.values()), 1e-9)

        def score(lane: str) -> float:
            had = 1 - service[lane] / most
            return self._service_weight * had + self._wait_weight * waits[lane] / longest

        return max(lanes, key=score)

    def served(self, lane: str, item: Item, now: float) -> None:
        self._had[lane] = self._service(lane, now) + item.tokens, now
        self._had.move_to_end(lane)
        if len(self._had) > DEBTORS_MAX:
            self._had.popitem(last=False)

    def _service(self, lane: str, now: float) -> float:
        had, at = self._had.get(lane, (0.0, now))
        keep: float = 0.5 ** ((now - at) / self._half_life)
        return had * keep


def _head_wait(order: Ordered, now: float) -> float:
    first = order.first()
    return now - first[1].since if first is not None else 0.0
