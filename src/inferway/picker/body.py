"""What scheduling needs to know of a request body, found without building what the body says.

The JSON is checked and skipped over in C; the prompt stays raw bytes. Field types are judged by
the model server, which words its own errors; only the model name is needed here.
"""

from __future__ import annotations

import re
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
# An escape for a high surrogate without a low one behind it, or a low one without a high one
# before it. Backslashes in pairs before the escape stand for themselves.
_HALF_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*+(\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2}))"
)
# Digits of a number of tokens; longer ones are the server's to refuse.
_DIGITS_MAX = 9


class _Body(msgspec.Struct, gc=False):
    model: str = ""
    prompt: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    tools: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY
    stream: msgspec.Raw = _EMPTY
    max_tokens: msgspec.Raw = _EMPTY
    max_completion_tokens: msgspec.Raw = _EMPTY


class _Model(msgspec.Struct):
    model: msgspec.Raw = _EMPTY


_decode = msgspec.json.Decoder(_Body).decode
_decode_model = msgspec.json.Decoder(_Model).decode


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


class Call(msgspec.Struct, frozen=True):
    """What a path says: the kind, whether a body with a model is needed, and whether it lists."""

    kind: ApiKind
    needed: bool
    lists_models: bool = False


def call_of(path: bytes) -> Call:
    """Which call a path (with or without query) is, by its longest known ending."""
    path = path.partition(b"?")[0]
    for ending, kind in _KINDS:
        if path.endswith(ending):
            return Call(kind, True)
    return Call(ApiKind.OTHER, path.endswith(_MODEL_NEEDED), path.endswith(b"/v1/models"))


def parse(call: Call, body: bytes, *, model_optional: bool = False) -> Parsed | BadBody:
    """Model, prompt and limits. Calls that are not known may lack a body or a model.

    With ``model_optional`` other calls need a body, but no model in it.
    """
    try:
        fields = _decode(body)
        if fields.model or (model_optional and call.needed):
            return Parsed(
                fields.model,
                call.kind,
                memoryview(fields.prompt or fields.messages or fields.input),
                bytes(fields.cache_salt) + bytes(fields.tools) if _is_salted(fields) else b"",
                bool(fields.stream) and bytes(fields.stream) == b"true",
                _number(fields.max_tokens) or _number(fields.max_completion_tokens),
            )
    except (msgspec.DecodeError, RecursionError):
        pass
    return _why(body) if call.needed else Parsed()


def _why(body: bytes) -> BadBody:
    """What is wrong with a body that needs a model and gave none."""
    if not body:
        return BadBody("The request has no body; send a JSON object.")
    try:
        raw = bytes(_decode_model(body).model)
    except msgspec.ValidationError:
        return BadBody("The request body must be a JSON object.")
    except (msgspec.DecodeError, RecursionError) as error:
        why = _half_pair(body) or str(error)
        return BadBody(f"The request body is not valid JSON: {why}", code="invalid_json")
    if raw in {b"", b"null"}:
        return BadBody("You must provide a model parameter.", "model", "missing_model")
    return BadBody("The model must be a string that is not empty.", "model", "invalid_model")


def _half_pair(body: bytes) -> str:
    """Names a surrogate without its other half, which the parser takes for a body cut short."""
    found = _HALF_PAIR.search(body)
    if found is None:
        return ""
    return f"{found[1].decode()} (byte {found.start(1)}) is half of a surrogate pair"


def _is_salted(fields: _Body) -> bool:
    return bool(fields.cache_salt) or bool(fields.tools)


def _number(raw: msgspec.Raw) -> int:
    if not raw:
        return 0
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else 0
