"""What scheduling needs to know of a request body, found without building what the body says.

The JSON is checked and skipped over in C; the prompt stays raw bytes. Field types are judged by
the model server, which words its own errors; only the model name is needed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inferway.scheduling.request import ApiKind

_KINDS = (
    (b"/chat/completions", ApiKind.CHAT),
    (b"/completions", ApiKind.COMPLETIONS),
    (b"/embeddings", ApiKind.EMBEDDINGS),
)
# Further calls that name their model in a JSON body and make no sense without one.
_MODEL_NEEDED = (b"/responses", b"/messages", b"/rerank", b"/score", b"/pooling", b"/classify")
_EMPTY = msgspec.Raw(b"")
# Digits of a number of tokens; longer ones are the server's to refuse.
_DIGITS_MAX = 9


class _Body(msgspec.Struct):
    model: msgspec.Raw = _EMPTY
    prompt: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    tools: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY
    stream: msgspec.Raw = _EMPTY
    max_tokens: msgspec.Raw = _EMPTY
    max_completion_tokens: msgspec.Raw = _EMPTY


_decode = msgspec.json.Decoder(_Body).decode
_decode_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class BadBody:
    """Why a body can not be routed; ``param`` is the field at fault, if one is."""

    message: str
    param: str | None = None
    code: str | None = None


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """The parts of a body that matter here."""

    model: str = ""
    kind: ApiKind = ApiKind.OTHER
    prompt: memoryview | bytes = b""
    salt: bytes = b""
    stream: bool = False
    max_tokens: int = 0


def kind_of(path: bytes) -> ApiKind:
    """Which call a path (with or without query) is, by its longest known ending."""
    path = path.partition(b"?")[0]
    for ending, kind in _KINDS:
        if path.endswith(ending):
            return kind
    return ApiKind.OTHER


def parse(path: bytes, body: bytes) -> Parsed | BadBody:
    """Model, prompt and limits. Calls that are not known may lack a body or a model."""
    kind = kind_of(path)
    needed = kind is not ApiKind.OTHER or path.partition(b"?")[0].endswith(_MODEL_NEEDED)
    if not body:
        return BadBody("The request has no body; send a JSON object.") if needed else Parsed()
    try:
        fields = _decode(body)
    except msgspec.ValidationError:
        if not needed:
            return Parsed()
        return BadBody("The request body must be a JSON object.")
    except (msgspec.DecodeError, RecursionError) as error:
        if not needed:
            return Parsed()
        return BadBody(f"The request body is not valid JSON: {error}", code="invalid_json")
    model = _text(fields.model)
    if not model:
        if not needed:
            return Parsed()
        if not bytes(fields.model) or bytes(fields.model) == b"null":
            return BadBody("You must provide a model parameter.", "model", "missing_model")
        return BadBody("The model must be a string that is not empty.", "model", "invalid_model")
    prompt = memoryview(fields.prompt or fields.messages or fields.input)
    return Parsed(
        model,
        kind,
        prompt,
        bytes(fields.cache_salt) + bytes(fields.tools),
        bytes(fields.stream) == b"true",
        _number(fields.max_tokens) or _number(fields.max_completion_tokens),
    )


def _text(raw: msgspec.Raw) -> str:
    try:
        return _decode_text(raw) if raw else ""
    except msgspec.MsgspecError:
        return ""


def _number(raw: msgspec.Raw) -> int:
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else 0
