"""A reservation of another picker of the pool, as that one tells it.

Holds no text of the prompt: hashes of its blocks only, so that a second request with the same
beginning finds the same server, whichever picker it comes to.
"""

from __future__ import annotations

import msgspec

# A prompt of 700 KB; what is beyond it tells little more apart.
HASHES_MAX = 256
# Stands before the name of a picker where a reservation names the proxy that holds it.
PICKER = "picker:"


class Announced(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One reservation. ``hashes`` are of the pool's own blocks, or none."""

    pick: str
    address: str
    model: str
    prompt_bytes: int
    matched_bytes: int
    prompt_tokens: float
    stream: bool
    hashes: list[int] = []
