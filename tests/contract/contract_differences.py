"""Where the simulated server answers otherwise than vLLM, on purpose, each with its reason.

docs/reference/simulator.md shows the same reasons to users; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

VOCABULARY = "Every id below 2**48 is a token, so none is outside of the vocabulary."
MESSAGES = "A wrong message or part is told once, not once per kind of message that it is not."
POOLING = (
    "`/v1/embeddings`, `/score`, `/rerank`, `/pooling` and `/classify` answer beside generation, "
    "so that one server serves for all pools."
)
COUNTED = "vLLM adds a field to a body of `/v1/responses` before it counts the fields in an error."


@dataclass(frozen=True, slots=True)
class Difference:
    """What the simulated server answers instead, and why."""

    status: str
    reason: str


# By group and name of the question.
DIFFERENCES = MappingProxyType(
    {
        "chat/message-is-text": Difference("400 Bad Request", MESSAGES),
        "chat/message-without-role": Difference("400 Bad Request", MESSAGES),
        "chat/content-number": Difference("400 Bad Request", MESSAGES),
        "chat/part-unknown": Difference("400 Bad Request", MESSAGES),
        "completions/token-out-of-vocabulary": Difference("200 OK", VOCABULARY),
        "completions/logit-bias-out-of-vocabulary": Difference("200 OK", VOCABULARY),
        "other/classify": Difference("400 Bad Request", POOLING),
        "other/embeddings": Difference("200 OK", POOLING),
        "other/embeddings-empty": Difference("400 Bad Request", POOLING),
        "other/pooling": Difference("400 Bad Request", POOLING),
        "other/rerank": Difference("400 Bad Request", POOLING),
        "other/score": Difference("400 Bad Request", POOLING),
        "other/responses-no-input": Difference("400 Bad Request", COUNTED),
    }
)

# Families about the HTTP framework and the interpreter, by the beginning of their names.
METRICS_LEFT_OUT = ("http_", "python_")

HINTED = (
    "A misspelt flag is refused with the nearest one, and an abbreviated flag like a misspelt one."
)
EARLY = "vLLM's parser takes it and the server fails later; here it is refused at once."
WORDED = "Refused as by vLLM, with a message that shows the right form."
FLAGS = MappingProxyType(
    {
        "misspelt": Difference("2", HINTED),
        "abbreviated": Difference("2", HINTED),
        "port-too-big": Difference("2", EARLY),
        "block-size-zero": Difference("2", EARLY),
        "max-loras-zero": Difference("2", EARLY),
        "lora-modules-bad-json": Difference("2", WORDED),
        "lora-modules-no-path": Difference("2", WORDED),
        "lora-modules-extra-field": Difference("2", WORDED),
        "lora-modules-word": Difference("2", WORDED),
        "config-lost": Difference("2", WORDED),
    }
)
