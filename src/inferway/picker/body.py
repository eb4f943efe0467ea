"""What scheduling needs to know of a request body, found without building what the body says.

The JSON is checked and skipped over in C; the prompt stays raw bytes. Field types are judged by
the model server, which words its own errors; only the model name is needed here. Which reader is
for which path stands in ``apis``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from inferway.picker.media import NO_MEDIA, media_of
from inferway.scheduling.request import ApiKind

_EMPTY = msgspec.Raw(b"")
# What readers raise for bodies that they can not take: no JSON, text that is no UTF-8, no end of
# brackets.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# An escape for a high surrogate without a low one behind it, or a low one without a high one
# before it. Backslashes in pairs before the escape stand for themselves.
_HALF_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*+(\\u(?:[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u)[dD][c-fC-F][0-9a-fA-F]{2}))"
)
# Digits of a number of tokens; longer ones are the server's to refuse.
_DIGITS_MAX = 9
# Whether a prompt is numbers of tokens: an array, perhaps of arrays, that begins with a digit.
_NUMBERS = re.compile(rb"\[[ \t\r\n]*(?:\[[ \t\r\n]*)?[0-9]")
# Form fields stand before the file or behind it; both ends of a form are searched so far.
FORM_BYTES_MAX = 64 * 1024
_FORM_MODEL = re.compile(
    rb'\r\n(?i:content-disposition):[^\r\n]*;[ \t]*name="?model"?(?=[;\r])[^\r\n]*'
    rb"(?:\r\n[^\r\n]+)*\r\n\r\n([^\r\n]{0,256})\r\n--"
)


class _Asked(msgspec.Struct, gc=False):
    """What all calls that generate have in common."""

    model: str = ""
    stream: msgspec.Raw = _EMPTY
    max_tokens: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY


class _Completion(_Asked, gc=False):
    prompt: msgspec.Raw = _EMPTY


class _Chat(_Asked, gc=False):
    messages: msgspec.Raw = _EMPTY
    tools: msgspec.Raw = _EMPTY
    max_completion_tokens: msgspec.Raw = _EMPTY
    # Anthropic's, before the messages.
    system: msgspec.Raw = _EMPTY


class _Response(_Asked, gc=False):
    instructions: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    tools: msgspec.Raw = _EMPTY
    max_output_tokens: msgspec.Raw = _EMPTY


class _Texts(msgspec.Struct, gc=False):
    """Calls that compute on texts and generate none."""

    model: str = ""
    prompt: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    data: msgspec.Raw = _EMPTY
    texts: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY


class _Pairs(msgspec.Struct, gc=False):
    """What is compared with what, under all names that vLLM knows."""

    model: str = ""
    query: msgspec.Raw = _EMPTY
    queries: msgspec.Raw = _EMPTY
    text_1: msgspec.Raw = _EMPTY
    data_1: msgspec.Raw = _EMPTY
    documents: msgspec.Raw = _EMPTY
    items: msgspec.Raw = _EMPTY
    text_2: msgspec.Raw = _EMPTY
    data_2: msgspec.Raw = _EMPTY


class _Limits(msgspec.Struct, gc=False):
    max_tokens: msgspec.Raw = _EMPTY
    max_new_tokens: msgspec.Raw = _EMPTY


class _Tokens(msgspec.Struct, gc=False):
    """The native calls of vLLM and SGLang."""

    model: str = ""
    token_ids: msgspec.Raw = _EMPTY
    input_ids: msgspec.Raw = _EMPTY
    text: msgspec.Raw = _EMPTY
    # An object, or with SGLang one for each prompt of a batch.
    sampling_params: msgspec.Raw = _EMPTY
    stream: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY
    lora_path: msgspec.Raw = _EMPTY


class _Named(msgspec.Struct, gc=False):
    model: str = ""


class _Model(msgspec.Struct):
    model: msgspec.Raw = _EMPTY


_decode_completion = msgspec.json.Decoder(_Completion).decode
_decode_chat = msgspec.json.Decoder(_Chat).decode
_decode_response = msgspec.json.Decoder(_Response).decode
_decode_texts = msgspec.json.Decoder(_Texts).decode
_decode_pairs = msgspec.json.Decoder(_Pairs).decode
_decode_tokens = msgspec.json.Decoder(_Tokens).decode
_decode_limits = msgspec.json.Decoder(_Limits).decode
_decode_named = msgspec.json.Decoder(_Named).decode
_decode_model = msgspec.json.Decoder(_Model).decode


@dataclass(frozen=True, slots=True)
class BadBody:
    """Why a body can not be routed; ``param`` is the field at fault, if one is."""

    message: str
    param: str | None = None
    code: str | None = None


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """The parts of a body that matter here.

    Of the prompt ``counted_bytes`` are no text, and the whole has ``counted_tokens`` besides those
    of its text: pictures, or token ids.
    """

    model: str = ""
    kind: ApiKind = ApiKind.OTHER
    prompt: memoryview | bytes = b""
    salt: bytes = b""
    stream: bool = False
    max_tokens: int = 0
    counted_bytes: int = 0
    counted_tokens: float = 0.0


# Raises what UNREADABLE has for what is no JSON object as it should be.
Reader: TypeAlias = Callable[[bytes, ApiKind], Parsed]
NOTHING = Parsed()


def parse(
    read: Reader, kind: ApiKind, body: bytes, *, needed: bool, model_optional: bool = False
) -> Parsed | BadBody:
    """Model, prompt and limits. Calls that need no model may lack the body as well.

    With ``model_optional`` other calls need a body, but no model in it.
    """
    try:
        parsed = read(body, kind)
        if parsed.model or not needed or model_optional:
            return parsed
    except UNREADABLE:
        if body.startswith(_BYTE_ORDER_MARK):
            # Servers accept the mark, and readers of JSON need not.
            rest = body[len(_BYTE_ORDER_MARK) :]
            return parse(read, kind, rest, needed=needed, model_optional=model_optional)
    return _why(body) if needed else NOTHING


# -- readers --------------------------------------------------------------------------------


def read_completion(body: bytes, kind: ApiKind) -> Parsed:
    """OpenAI's completions: text, texts, token ids, or several of these."""
    fields = _decode_completion(body)
    prompt, salt, stream, most = fields.prompt, fields.cache_salt, fields.stream, fields.max_tokens
    raw = memoryview(prompt)
    if raw and raw[0] == 0x5B:
        return _counted(fields.model, kind, raw, bytes(salt), _is_true(stream), _number(most))
    return Parsed(
        fields.model,
        kind,
        raw,
        bytes(salt) if salt else b"",
        _is_true(stream) if stream else False,
        _number(most) if most else 0,
    )


def read_chat(body: bytes, kind: ApiKind) -> Parsed:
    """Chats of OpenAI and messages of Anthropic, whose system text comes first."""
    fields = _decode_chat(body)
    system, tools, salt = fields.system, fields.tools, fields.cache_salt
    found = media_of(body)
    return Parsed(
        fields.model,
        kind,
        b"".join((system, fields.messages)) if system else memoryview(fields.messages),
        bytes(salt) + bytes(tools) if salt or tools else b"",
        _is_true(fields.stream) if fields.stream else False,
        _number(fields.max_tokens) or _number(fields.max_completion_tokens),
        found.bytes,
        found.tokens,
    )


def read_response(body: bytes, kind: ApiKind) -> Parsed:
    """OpenAI's responses: the instructions come before the input."""
    fields = _decode_response(body)
    found = media_of(body, b'"input"')
    return Parsed(
        fields.model,
        kind,
        _joined(fields.instructions, fields.input),
        bytes(fields.cache_salt) + bytes(fields.tools),
        _is_true(fields.stream),
        _number(fields.max_output_tokens) or _number(fields.max_tokens),
        found.bytes,
        found.tokens,
    )


def read_texts(body: bytes, kind: ApiKind) -> Parsed:
    """Embeddings, pooling, classification, tokenizing: one or many texts, or a chat."""
    fields = _decode_texts(body)
    prompt = fields.input or fields.prompt or fields.messages or fields.texts or fields.data
    found = media_of(body) if fields.messages else NO_MEDIA
    if found is NO_MEDIA and _NUMBERS.match(memoryview(prompt)):
        return _counted(fields.model, kind, memoryview(prompt), bytes(fields.cache_salt))
    salt = bytes(fields.cache_salt)
    return Parsed(fields.model, kind, memoryview(prompt), salt, False, 0, found.bytes, found.tokens)


def read_pairs(body: bytes, kind: ApiKind) -> Parsed:
    """Reranking and scoring."""
    f = _decode_pairs(body)
    first = f.query or f.queries or f.text_1 or f.data_1
    return Parsed(f.model, kind, _joined(first, f.documents or f.items or f.text_2 or f.data_2))


def read_tokens(body: bytes, kind: ApiKind) -> Parsed:
    """vLLM's and SGLang's own calls to generate, with token ids or with text."""
    fields = _decode_tokens(body)
    prompt = memoryview(fields.token_ids or fields.input_ids or fields.text)
    salt = bytes(fields.cache_salt) + bytes(fields.lora_path)
    most = _limit(fields.sampling_params)
    return _counted(fields.model, kind, prompt, salt, _is_true(fields.stream), most)


def read_other(body: bytes, kind: ApiKind) -> Parsed:
    """Anything: the model if it has one."""
    return Parsed(_decode_named(body).model, kind)


def read_nothing(body: bytes, kind: ApiKind) -> Parsed:
    """What is no JSON, or is not to be looked at."""
    return Parsed("", kind)


def read_form(body: bytes, kind: ApiKind) -> Parsed:
    """A form with a file: the model's field before or behind the file, without parsing the form."""
    place = form_model(body)
    if place is None:
        return Parsed("", kind)
    return Parsed(body[place[0] : place[1]].decode(errors="replace"), kind)


def form_model(body: bytes) -> tuple[int, int] | None:
    """Begin and end of the model's name in a multipart form."""
    if not body.startswith(b"--"):
        return None
    found = _FORM_MODEL.search(body, 0, FORM_BYTES_MAX)
    if found is None and len(body) > FORM_BYTES_MAX:
        found = _FORM_MODEL.search(body, max(FORM_BYTES_MAX, len(body) - FORM_BYTES_MAX))
    return found.span(1) if found is not None else None


# -- parts ----------------------------------------------------------------------------------


def _counted(
    model: str,
    kind: ApiKind,
    prompt: memoryview,
    salt: bytes,
    stream: bool = False,
    max_tokens: int = 0,
) -> Parsed:
    """A prompt that may be token ids: these are counted by what stands between them."""
    if not _NUMBERS.match(prompt):
        return Parsed(model, kind, prompt, salt, stream, max_tokens)
    tokens = bytes(prompt).count(b",") + 1.0
    return Parsed(model, kind, prompt, salt, stream, max_tokens, len(prompt), tokens)


def _joined(first: msgspec.Raw, second: msgspec.Raw) -> memoryview | bytes:
    return b"".join((first, second)) if first else memoryview(second)


def _limit(raw: msgspec.Raw) -> int:
    """The most tokens that sampling parameters allow; 0 for what is not one object."""
    if not raw:
        return 0
    try:
        limits = _decode_limits(raw)
    except UNREADABLE:
        return 0
    return _number(limits.max_tokens) or _number(limits.max_new_tokens)


def _why(body: bytes) -> BadBody:
    """What is wrong with a body that needs a model and gave none."""
    if not body:
        return BadBody("The request has no body; send a JSON object.")
    try:
        raw = bytes(_decode_model(body).model)
    except msgspec.ValidationError:
        return BadBody("The request body must be a JSON object.")
    except UNREADABLE as error:
        why = _half_pair(body) or str(error)
        return BadBody(f"The request body is not valid JSON: {why}", code="invalid_json")
    if raw in {b"", b"null"}:
        return BadBody("You must provide a model parameter.", "model", "missing_model")
    text = "The model must be a string that is not empty, in UTF-8."
    return BadBody(text, "model", "invalid_model")


def _half_pair(body: bytes) -> str:
    """Names a surrogate without its other half, which the parser takes for a body cut short."""
    found = _HALF_PAIR.search(body)
    if found is None:
        return ""
    return f"{found[1].decode()} (byte {found.start(1)}) is half of a surrogate pair"


def _is_true(raw: msgspec.Raw) -> bool:
    return bytes(raw) == b"true"


def _number(raw: msgspec.Raw) -> int:
    if not raw:
        return 0
    digits = bytes(raw)
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else 0
