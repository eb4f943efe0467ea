"""What is kept of a request that is on its way to an endpoint."""

from __future__ import annotations

import msgspec


class Reservation(msgspec.Struct, gc=False):
    """One request on its way. ``life`` tells an endpoint from a later one in the same slot."""

    pick: str
    slot: int
    life: int
    tokens: int
    adapter: str
    model: str
    prompt_bytes: int
    matched_bytes: int
    prompt_tokens: float
    backlog_tokens: float
    in_flight: int
    at: float
    deadline: float
    proxy: str
    stream: bool
    # What it found of its adapter: a word of ``lora``.
    found: int = 0
    # The endpoint's placed tokens with this request's own.
    position: float = 0.0
    # Estimated output, where the policy counts it as load.
    output_tokens: float = 0.0
