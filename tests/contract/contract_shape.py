"""What of an answer is the contract: everything but ids, times, texts and what follows from them.

Pure: an answer becomes a plain value that two servers can be compared by.
"""

from __future__ import annotations

import json
import re
from typing import Any

from contract_wire import Answer

# Values of these headers differ from run to run.
_LOOSE_HEADERS = {"date": "DATE", "content-length": "LENGTH"}
_COMMON = {"date": "DATE", "server": "uvicorn", "vary": "Origin"}
_HEADER_SETS = {
    "json": {**_COMMON, "content-length": "LENGTH", "content-type": "application/json"},
    "plain": {**_COMMON, "content-length": "LENGTH"},
    "events": {
        **_COMMON,
        "content-type": "text/event-stream; charset=utf-8",
        "transfer-encoding": "chunked",
    },
}
_TEXTS = frozenset({"text", "content", "reasoning", "prompt", "delta", "decoded_token"})
_IDS = re.compile(r"^([a-z]+(?:_[a-z]+)*)[-_][0-9a-zA-Z-]{16,}$")
_TIMES = frozenset({"created", "created_at", "completed_at"})
_COUNTS = frozenset(
    {"prompt_tokens", "total_tokens", "input_tokens", "cached_tokens", "sequence_number", "count"}
)
# The longest token of a vocabulary decides it.
_BOUND = re.compile(r"more than \d+ characters")


def shape(answer: Answer, *, exact: bool = False) -> dict[str, Any]:
    """The contract of one answer. ``exact`` keeps token counts, for prompts given as tokens."""
    return {
        "status": f"{answer.status} {answer.reason}",
        "headers": headers(answer),
        "body": _body(answer, exact=exact),
    }


def headers(answer: Answer) -> str | dict[str, str]:
    """The headers of an answer, or the name of a set that most answers have."""
    found = {name: _LOOSE_HEADERS.get(name, value) for name, value in sorted(answer.headers)}
    for name, known in _HEADER_SETS.items():
        if found == known:
            return name
    return found


def _body(answer: Answer, *, exact: bool) -> Any:
    kind = answer.header("content-type") or ""
    if kind.startswith("text/event-stream"):
        return _stream(answer, exact=exact)
    text = answer.body.decode()
    if not text:
        return ""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if isinstance(value, dict):
        # Dumped again so that the order of the fields is part of the contract.
        return mask(value, exact=exact)
    return value


def _stream(answer: Answer, *, exact: bool) -> list[Any]:
    """The events, runs of equal ones folded: how tokens fall into events is a matter of time."""
    folded: list[Any] = []
    for name, data in answer.events():
        try:
            value: Any = mask(json.loads(data), exact=exact)
        except ValueError:
            value = data
        if name:
            value = {"event": name, "data": value}
        if not folded or folded[-1] != value:
            folded.append(value)
    return folded


def mask(value: Any, *, exact: bool, key: str = "") -> Any:
    """A JSON value with everything replaced that the contract leaves open."""
    if isinstance(value, dict):
        if key == "prompt_logprobs":
            inner = mask(next(iter(value.values())), exact=exact)
            return {"TOKEN": {**inner, "rank": "RANK"}}
        if key == "top_logprobs":
            return {"TOKEN": "LOGPROB"}
        return {name: mask(inner, exact=exact, key=name) for name, inner in value.items()}
    if isinstance(value, list):
        return _mask_list(value, exact=exact, key=key)
    if key in _TIMES and isinstance(value, int | float):
        return "TIME"
    if key in _COUNTS and isinstance(value, int) and not exact:
        return "COUNT"
    if isinstance(value, float) and "logprob" in key:
        return "LOGPROB"
    if isinstance(value, str):
        return _mask_text(value, key)
    return value


def _mask_list(value: list[Any], *, exact: bool, key: str) -> Any:
    if key == "bytes":
        return "BYTES"
    if key in ("token_logprobs", "text_offset", "embedding", "token_strs"):
        return f"{key.upper()} {'x'.join(sorted({type(v).__name__ for v in value[-1:]}))}"
    if key == "tokens" and value:
        return f"TOKENS {type(value[0]).__name__}"
    if key.endswith("token_ids") and value:
        return "IDS"
    if key == "top_logprobs" and value and isinstance(value[-1], dict):
        last = value[-1]
        return [{"TOKEN": "LOGPROB"}] if "token" not in last else [mask(last, exact=exact)]
    if key == "content" and value and "logprob" in str(value[0]):
        return [mask(value[-1], exact=exact)]
    return [mask(item, exact=exact, key=key) for item in value]


def _mask_text(value: str, key: str) -> str:
    if key in _TEXTS:
        return "TEXT"
    if key == "token":
        return "TOKEN"
    if key == "system_fingerprint":
        return re.sub(r"-[0-9a-f]{8}$", "-HASH", value)
    if key == "embedding":
        return "BASE64"
    found = _IDS.match(value)
    if found and key != "message":
        return f"{found.group(1)}-ID"
    return _BOUND.sub("more than COUNT characters", value)
