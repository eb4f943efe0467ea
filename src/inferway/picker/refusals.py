"""Refusals of scheduling in the words of OpenAI's errors."""

from __future__ import annotations

from inferway.picker.answers import DECIDED_UNAVAILABLE_STATUS, FinalAnswer
from inferway.scheduling.decision import Refusal, RefusalReason
from inferway.scheduling.flow.events import DROPPED, Refuse, Why

# A pool without endpoints may have one soon; a client that waits this long is not a burden.
NO_ENDPOINT_RETRY_SECONDS = 1.0
# A server that was not ready in the time that a request may wait takes some more of it.
WAITED_RETRY_SECONDS = 5.0

_STATUS = {
    RefusalReason.NO_ENDPOINT: (DECIDED_UNAVAILABLE_STATUS, "no_endpoint"),
    RefusalReason.UNKNOWN_MODEL: (404, "model_not_found"),
    RefusalReason.SHED: (429, "shed"),
    RefusalReason.NOT_CACHED: (412, "not_cached"),
    RefusalReason.UNKNOWN_PROFILE: (400, "unknown_profile"),
}
# The words of llm-d's header for requests that were good and are not served.
_DROPPED = {
    RefusalReason.NO_ENDPOINT: "rejected-no-endpoints",
    RefusalReason.SHED: "rejected-saturated",
}
# The code and the text for requests that end in the picker's queue. ``{seconds}`` is how long
# one has waited.
_WAITED = {
    Why.SATURATED: ("shed", "The pool is saturated and the request's priority allows to shed it."),
    Why.QUEUE_FULL: ("queue_full", "The pool is saturated and as many requests as may wait do so."),
    Why.TIMEOUT: ("queue_timeout", "No server had room for the request in {seconds} seconds."),
    Why.PRESSURE: ("evicted", "The request gave its place in the queue to a more important one."),
    Why.NO_ENDPOINTS: ("no_endpoint", "The pool has no ready endpoint."),
    Why.EMPTY_FULL: (
        "no_endpoint",
        "The pool has no ready endpoint, and as many requests as may wait for one do so.",
    ),
    Why.EMPTY_TIMEOUT: ("no_endpoint", "The pool had no ready endpoint for {seconds} seconds."),
    Why.STOPPING: ("no_endpoint", "The picker is stopping; ask again."),
}
# An empty pool is no overload of it; for everything else the client is the one who asks too much.
_UNAVAILABLE = {Why.NO_ENDPOINTS, Why.EMPTY_FULL, Why.EMPTY_TIMEOUT, Why.STOPPING}


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
    """The end of waiting, or no room to wait."""
    why = refusal.why
    code, text = _WAITED[why]
    retry = refusal.retry_seconds
    if why in _UNAVAILABLE:
        soon = why in (Why.NO_ENDPOINTS, Why.STOPPING)
        retry = NO_ENDPOINT_RETRY_SECONDS if soon else WAITED_RETRY_SECONDS
    return FinalAnswer(
        DECIDED_UNAVAILABLE_STATUS if why in _UNAVAILABLE else 429,
        text.format(seconds=f"{refusal.waited_seconds:.3g}"),
        code=code,
        retry_after_seconds=retry,
        dropped=DROPPED[why],
    )
