"""Bytes of JSON per token, learned for each model from the usage that servers report."""

from __future__ import annotations

from inferway.scheduling.request import Request

# What English text and the reference pickers assume until something is known.
BYTES_PER_TOKEN_PRIOR = 4.0
# A ratio outside of this is a client that counts differently, such as images sent as base64.
BYTES_PER_TOKEN_MIN = 1.0
BYTES_PER_TOKEN_MAX = 16.0
# Old requests lose half of their weight after this many tokens, so that changes are followed.
MEMORY_TOKENS = 200_000.0
# The prior weighs as much as this many tokens, so that one short prompt does not decide.
PRIOR_TOKENS = 500.0
# Names of models come from servers; more than this is an error of theirs.
MODELS_MAX = 4096


class TokenRatios:
    """Weighted mean of bytes per token by model, with the mean over all models as prior."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._ratio: dict[str, float] = {}

    def bytes_per_token(self, model: str) -> float:
        """The ratio to use."""
        return self._ratio.get(model, BYTES_PER_TOKEN_PRIOR)

    def per_token(self, request: Request) -> float:
        """Bytes per token of one prompt: what in it is no text has been counted already."""
        ratio = self._ratio.get(request.model, BYTES_PER_TOKEN_PRIOR)
        if not request.counted_tokens:
            return ratio
        size = len(request.prompt)
        return size / ((size - request.counted_bytes) / ratio + request.counted_tokens)

    def learn(self, model: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """One request's prompt in bytes of raw JSON and in the server's tokens."""
        if prompt_tokens <= 0 or prompt_bytes <= 0:
            return
        ratio = prompt_bytes / prompt_tokens
        if not BYTES_PER_TOKEN_MIN <= ratio <= BYTES_PER_TOKEN_MAX:
            return
        if model not in self._sums and len(self._sums) >= MODELS_MAX:
            return
        total_bytes, total_tokens = self._sums.get(
            model, (PRIOR_TOKENS * BYTES_PER_TOKEN_PRIOR, PRIOR_TOKENS)
        )
        keep = 0.5 ** (prompt_tokens / MEMORY_TOKENS)
        total_bytes = total_bytes * keep + prompt_bytes
        total_tokens = total_tokens * keep + prompt_tokens
        self._sums[model] = (total_bytes, total_tokens)
        self._ratio[model] = total_bytes / total_tokens
