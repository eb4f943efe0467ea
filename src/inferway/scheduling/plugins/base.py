"""What a plugin is: the kinds with their methods, and one decision as plugins see it.

How a type is described (name, parameters, what it reads) is in ``types``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from inferway.scheduling.decision import Refusal
from inferway.scheduling.policy import blocks_of
from inferway.scheduling.prefix import Blocks
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot


class Context:
    """One decision as plugins see it; what is costly is made when first asked for.

    ``peer`` is the slot that an earlier profile of the same decision chose. ``memo`` holds what a
    plugin has worked out for this request, under a key of its own.
    """

    __slots__ = ("_blocks", "_matched", "memo", "now", "peer", "request", "rng", "snapshot")

    def __init__(self, request: Request, snapshot: Snapshot, now: float, rng: Rng) -> None:
        self.request = request
        self.snapshot = snapshot
        self.now = now
        self.rng = rng
        self.peer: int | None = None
        self.memo: dict[Hashable, Any] = {}
        self._blocks: Blocks | None = None
        self._matched: Mapping[int, int] | None = None

    @property
    def blocks(self) -> Blocks:
        """The prompt's blocks under the pool's own schedule."""
        if self._blocks is None:
            self._blocks = blocks_of(self.request)
        return self._blocks

    @property
    def matched(self) -> Mapping[int, int]:
        """Bytes of prompt that a slot is taken to have cached."""
        if self._matched is None:
            self._matched = self.snapshot.matched(self.request, self.blocks, self.now)
        return self._matched

    @property
    def prompt_tokens(self) -> float:
        """Estimated tokens of the prompt, by the ratio learned from usage (4 bytes at first)."""
        size = len(self.request.prompt)
        return size / self.snapshot.ratios.per_token(self.request) if size else 0.0


class Placed(NamedTuple):
    """What became of a decision: the endpoints of each profile that ran, best first."""

    context: Context
    primary: str
    picked: Mapping[str, Sequence[int]]

    def slot(self, profile: str = "") -> int | None:
        """The endpoint of a profile, of the primary one without a name."""
        slots = self.picked.get(profile or self.primary)
        return slots[0] if slots else None


class Plugin:
    """Common to all kinds; most plugins keep nothing between decisions."""

    def placed(self, placed: Placed) -> None:
        """The request goes where the decision says."""

    def drop(self, slot: int) -> None:
        """The slot's endpoint is gone."""

    def request_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        """Lower-case names and values to set on the request to the server."""
        return ()

    def response_headers(self, placed: Placed) -> Sequence[tuple[str, str]]:
        """Lower-case names and values to set on the answer to the client."""
        return ()


class Screener(Plugin):
    """Leaves out endpoints before any profile runs, for all of them alike."""

    def screen(self, context: Context, slots: list[int]) -> list[int]:
        """The slots that may; none refuses the request."""
        raise NotImplementedError


class Admitter(Plugin):
    """Refuses requests."""

    def admit(self, context: Context, slots: list[int]) -> Refusal | None:
        """Why the request is refused; None admits it."""
        raise NotImplementedError


class Filter(Plugin):
    """Leaves out endpoints that must not get the request."""

    def keep(self, context: Context, slots: list[int]) -> list[int]:
        """The slots that may; order is kept."""
        raise NotImplementedError


class Scorer(Plugin):
    """Values endpoints from 0 (worst) to 1; the profile cuts off what is outside."""

    def score(self, context: Context, slots: list[int]) -> list[float]:
        """One value per slot."""
        raise NotImplementedError


class Picker(Plugin):
    """Orders endpoints by their summed scores."""

    def order(self, context: Context, slots: list[int], scores: list[float]) -> list[int]:
        """The slots to name, best first."""
        raise NotImplementedError


class Decider(Plugin):
    """Says whether a stage of disaggregated serving runs for a request."""

    def wants(self, context: Context, slot: int | None) -> bool:
        """``slot``: the endpoint that was chosen for decoding, if it was already."""
        raise NotImplementedError


class PrefixMatch(NamedTuple):
    """How much of a prompt is cached where. ``matched`` and ``total`` are bytes of prompt."""

    matched: Mapping[int, int]
    total: int
    tokens_per_byte: float
    # Tokens of the blocks that are compared; two matches that differ by less may be equal.
    block_tokens: float

    def share(self, slot: int) -> float:
        """Matched part of the prompt, from 0 to 1."""
        return self.matched.get(slot, 0) / self.total if self.total else 0.0


class PrefixProducer(Plugin):
    """Knows how much of a prompt a server has cached."""

    def match(self, context: Context) -> PrefixMatch:
        """Found once for a request, however many plugins ask."""
        raise NotImplementedError


class LoadProducer(Plugin):
    """Knows what is in flight, of the picker's own accounting."""

    def requests(self, context: Context, slot: int) -> float:
        """Requests that were sent and have not ended."""
        raise NotImplementedError

    def tokens(self, context: Context, slot: int) -> float:
        """Prompt tokens that are still to be computed, and output if it is counted."""
        raise NotImplementedError

    def output_tokens(self, context: Context) -> float:
        """Estimated output of the request, if it is counted."""
        return 0.0


class Latency(NamedTuple):
    """One prediction, in milliseconds; headroom is objective minus prediction."""

    ttft: float
    tpot: float
    ttft_headroom: float
    tpot_headroom: float

    @property
    def valid(self) -> bool:
        """Whether both objectives are met."""
        return self.ttft_headroom >= 0 and self.tpot_headroom >= 0


class LatencyProducer(Plugin):
    """Predicts latencies."""

    def predict(self, context: Context, slots: list[int]) -> list[Latency] | None:
        """One per slot; None while nothing is known that a prediction could rest on."""
        raise NotImplementedError


class SessionProducer(Plugin):
    """Knows which session a request belongs to."""

    def session(self, context: Context) -> str:
        """Its name; empty if it belongs to none."""
        raise NotImplementedError


class MediaProducer(Plugin):
    """Knows which images, videos and sounds a server's encoder has seen."""

    def match(self, context: Context) -> tuple[Mapping[int, int], int]:
        """Items of the request that a slot has, and how many there are."""
        raise NotImplementedError


def spread(values: list[float]) -> list[float]:
    """(max - v) / (max - min): the least is 1, the greatest 0; all equal are 1."""
    high, low = max(values), min(values)
    if high == low:
        return [1.0] * len(values)
    return [(high - value) / (high - low) for value in values]
