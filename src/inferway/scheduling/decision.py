"""What a decision can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol

import msgspec

from inferway.scheduling.prefix import NO_BLOCKS, Blocks
from inferway.scheduling.request import Request, Rng
from inferway.scheduling.snapshot import Snapshot


class RefusalReason(StrEnum):
    """Why no endpoint is named; the values are labels of metrics."""

    NO_ENDPOINT = "no_endpoint"
    UNKNOWN_MODEL = "unknown_model"
    SHED = "shed"
    NOT_CACHED = "not_cached"
    UNKNOWN_PROFILE = "unknown_profile"


class Refusal(msgspec.Struct, frozen=True):
    """A final answer. ``known_models`` names what there is when a model is unknown."""

    reason: RefusalReason
    message: str
    # So that a refusal can be told from a decision by what both have.
    slots: ClassVar[tuple[int, ...]] = ()
    known_models: tuple[str, ...] = ()
    retry_after_seconds: float = 0.0


class Decision(msgspec.Struct, gc=False):
    """Endpoints, best first, and what the choice was based on.

    ``headers`` (lower-case name, value) are set on the request to the server,
    ``response_headers`` on the answer to the client. ``trail`` is the policy's own, which it finds
    again when the request is placed. Where another server prefills, ``prefill`` is its slot, and
    ``prefill_matched_bytes`` what it has cached; ``stages`` names what is done apart, as in
    ``disagg_decision_total``.
    """

    slots: Sequence[int]
    matched_bytes: int = 0
    prompt_tokens: float = 0.0
    blocks: Blocks = NO_BLOCKS
    score: float = 0.0
    headers: Sequence[tuple[str, str]] = ()
    response_headers: Sequence[tuple[str, str]] = ()
    trail: Any = None
    prefill: int = -1
    prefill_matched_bytes: int = 0
    stages: str = ""
    # Estimated output that counts as load until the request has ended.
    output_tokens: float = 0.0
    # The longest prefix of the prompt that any server has, where the policy counts who has it.
    prefix: int = 0


class Explanation(msgspec.Struct, frozen=True):
    """A decision for people. Holds no text of the prompt.

    ``others`` says what further rules would have chosen, by the rule's name.
    """

    at: float
    model: str
    kind: str
    prompt_bytes: int
    prompt_tokens: float
    policy: str
    chosen: Sequence[str]
    candidates: Sequence[dict[str, Any]]
    others: Mapping[str, str] = {}


class Policy(Protocol):
    """A way to rank endpoints."""

    name: str
    # Lower-case names of request headers that it reads; others need not be kept for it.
    headers: frozenset[str]
    # Requests go to this port of the chosen Pod instead of the endpoint's own; 0: they do not.
    port: int

    def rank(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float, rng: Rng
    ) -> Decision | Refusal:
        """Endpoints best first, none if the policy's filters leave none; or why it refuses."""
        ...

    def placed(self, request: Request, decision: Decision) -> None:
        """The first endpoint of the decision gets the request."""
        ...

    def drop(self, slot: int) -> None:
        """An endpoint is gone."""
        ...

    def explain(
        self, request: Request, snapshot: Snapshot, slots: list[int], now: float
    ) -> list[dict[str, Any]]:
        """What ``rank`` sees, one entry per candidate."""
        ...
