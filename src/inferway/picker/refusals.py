"""Refusals of scheduling in the words of OpenAI's errors."""

from __future__ import annotations

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer
from inferway.scheduling.decision import Refusal, RefusalReason
from inferway.scheduling.holding import Refuse, Why

# A pool without endpoints may have one soon; a client that waits this long is not a burden.
NO_ENDPOINT_RETRY_SECONDS = 1.0
# A server that was not ready in the time that a request may wait takes some more of it.
WAITED_RETRY_SECONDS = 5.0

_STATUS = {
    RefusalReason.NO_ENDPOINT: (DECIDED_UNAVAILABLE_STATUS, "no_endpoint"),
    RefusalReason.UNKNOWN_MODEL: (404, "model_not_found"),
    RefusalReason.SHED: (429, "shed"),
    RefusalReason.NOT_CACHED: (412, "not_cached"),
}
# The words of llm-d's header for requests that were good and are not served.
_DROPPED = {
    RefusalReason.NO_ENDPOINT: "rejected-no-endpoints",
    RefusalReason.SHED: "rejected-saturated",
}
_DROPPED_WAITING = {
    Why.TIMEOUT: "rejected-ttl-expired",
    Why.STOPPING: "rejected-shutting-down",
    Why.OFF: "rejected-no-endpoints",
}


def decided(refusal: Refusal, alias: str = "") -> FinalAnswer:
    """A decision against the request; ``alias`` is the model that the client named instead."""
    status, code = _STATUS[refusal.reason]
    retry = refusal.retry_after_seconds
    if refusal.reason is RefusalReason.NO_ENDPOINT:
        retry = NO_ENDPOINT_RETRY_SECONDS
    message, param = refusal.message, None
    if refusal.reason is RefusalReason.UNKNOWN_MODEL:
        param = "model"
        if alias:
            message += f" It was rewritten from `{alias}` by an InferenceModelRewrite."
    return FinalAnswer(status, message, param, code, retry, _DROPPED.get(refusal.reason, ""))


def waited(refusal: Refuse) -> FinalAnswer:
    """The end of waiting for a pool's first endpoint, or no room to wait."""
    retry = WAITED_RETRY_SECONDS
    if refusal.why is Why.TIMEOUT:
        text = f"The pool had no ready endpoint for {refusal.waited_seconds:.3g} seconds."
    elif refusal.why is Why.STOPPING:
        text, retry = "The picker is stopping; ask again.", NO_ENDPOINT_RETRY_SECONDS
    elif refusal.why is Why.OFF:
        text, retry = "The pool has no ready endpoint.", NO_ENDPOINT_RETRY_SECONDS
    else:
        text = "The pool has no ready endpoint, and as many requests as may wait for one do so."
    return FinalAnswer(
        DECIDED_UNAVAILABLE_STATUS,
        text,
        code="no_endpoint",
        retry_after_seconds=retry,
        dropped=_DROPPED_WAITING.get(refusal.why, "rejected-saturated"),
    )
