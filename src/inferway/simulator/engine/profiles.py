"""How long a step takes: a linear model whose coefficients are data.

seconds = base + prefill tokens * a + prefill pairs * p + decoding sequences * b
          + cached tokens read * c + adapter step + adapter loads

This is the usual first-order model of a batch step: weights are read once (base), prefill is
compute bound (a; p is its attention, which grows with every token before), each sequence costs
sampling and launch work (b), and attention of decoding sequences reads their KV cache (c). A batch
with an adapter runs further kernels (adapter step). The values of the GPU profile lie in the
published ranges for an 8B model on one H100: 25 to 40 ms overhead, 0.15 to 0.30 ms a prompt token,
10 to 15 ms between tokens.
"""

from __future__ import annotations

import math

import msgspec
import xxhash


class Work(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a step does. ``prefill_pairs`` are pairs of a prompt token and one at or before it."""

    prefill_tokens: int = 0
    prefill_pairs: int = 0
    decode_sequences: int = 0
    cache_tokens: int = 0
    adapters: int = 0


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Coefficients of the step time and of adapter loading."""

    name: str = "custom"
    base_seconds: float = 0.0
    prefill_token_seconds: float = 0.0
    # For each pair of a prompt token and a token at or before it.
    prefill_pair_seconds: float = 0.0
    decode_sequence_seconds: float = 0.0
    cache_token_seconds: float = 0.0
    adapter_step_seconds: float = 0.0
    adapter_host_load_seconds: float = 0.0
    adapter_disk_load_seconds: float = 0.0
    # What the API server spends on a request before the engine sees it, and on each token of it.
    request_seconds: float = 0.0
    token_seconds: float = 0.0
    # From the API server to the engine, in which nobody works.
    handover_seconds: float = 0.0
    # How much a step of the base time differs from the mean, as a standard deviation; a longer step
    # meets more interruptions and so differs less in proportion.
    jitter_share: float = 0.0
    # More than one stands for speculative decoding; the instant profile finishes in one step.
    decode_tokens_per_step: int = 1
    # Bytes of keys and values a token occupies, from which the number of blocks follows.
    kv_token_bytes: int = 28_672
    # Tokens in a block of the cache, unless a flag says otherwise; vLLM has 128 on a CPU.
    block_size_tokens: int = 16

    def scaled(self, factor: float) -> Profile:
        """The same shape, ``factor`` times as slow."""
        times = {
            name: value * factor
            for name, value in msgspec.structs.asdict(self).items()
            if name.endswith("_seconds")
        }
        return msgspec.structs.replace(self, **times)

    def step_seconds(self, work: Work) -> float:
        """The time of a step without adapter loads."""
        return (
            self.base_seconds
            + self.prefill_token_seconds * work.prefill_tokens
            + self.prefill_pair_seconds * work.prefill_pairs
            + self.decode_sequence_seconds * work.decode_sequences
            + self.cache_token_seconds * work.cache_tokens
            + (self.adapter_step_seconds if work.adapters else 0.0)
        )

    def jittered(self, seconds: float, step: int) -> float:
        """The time of the step with that number: always the same, and ``seconds`` in the mean."""
        if self.jitter_share == 0.0 or seconds <= 0.0:
            return seconds
        sigma = self.jitter_share * min((self.base_seconds / seconds) ** 0.5, 1.0)
        return seconds * math.exp(sigma * _normal(step) - sigma * sigma / 2.0)


def _normal(number: int) -> float:
    """A nearly normal number that depends on ``number`` only: the sum of twelve uniform ones."""
    digest = xxhash.xxh3_128_intdigest(number.to_bytes(8, "big"))
    total = 0
    for _ in range(12):
        total += digest & 0x3FF
        digest >>= 10
    return total / 1023.0 - 6.0


# A sequence is done in the step that prefills it: no answer is longer than this.
_ALL_TOKENS = 1 << 30


def builtin_profiles() -> dict[str, Profile]:
    """Profiles by name. ``default`` is quick enough for tests and still queues under load."""
    profiles = (
        Profile(name="instant", decode_tokens_per_step=_ALL_TOKENS),
        Profile(
            name="default",
            base_seconds=0.0010,
            prefill_token_seconds=0.000_010,
            decode_sequence_seconds=0.000_010,
            cache_token_seconds=0.5e-9,
            adapter_host_load_seconds=0.002,
            adapter_disk_load_seconds=0.020,
        ),
        Profile(
            name="cpu-1.5b",
            base_seconds=0.060,
            prefill_token_seconds=0.002,
            decode_sequence_seconds=0.004,
            cache_token_seconds=4.0e-7,
            adapter_host_load_seconds=0.010,
            adapter_disk_load_seconds=0.500,
        ),
        Profile(
            name="h100-8b",
            base_seconds=0.010,
            prefill_token_seconds=0.000_16,
            decode_sequence_seconds=0.000_030,
            cache_token_seconds=4.0e-8,
            adapter_host_load_seconds=0.010,
            adapter_disk_load_seconds=0.800,
            kv_token_bytes=131_072,
        ),
    )
    return {profile.name: profile for profile in profiles}
