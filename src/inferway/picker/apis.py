"""Which call a path is: one table, in which the longest ending that fits wins.

The table is the order of nothing: endings are compared as whole segments of the path. Parsers are
those of llm-d's configuration; a call without one is beyond them and belongs to the parser that
passes everything through.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

import msgspec

from inferway.picker import body
from inferway.picker.body import BadBody, Parsed, Reader
from inferway.scheduling.request import ApiKind

OPENAI = "openai-parser"
ANTHROPIC = "anthropic-parser"
VLLM_HTTP = "vllmhttp-parser"
SGLANG_HTTP = "sglanghttp-parser"
PASSTHROUGH = "passthrough-parser"
PARSERS = (OPENAI, ANTHROPIC, VLLM_HTTP, SGLANG_HTTP, PASSTHROUGH)


class Style(StrEnum):
    """Whose words errors have."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Api(msgspec.Struct, frozen=True):
    """One call. ``needed`` says that it makes no sense without a model in its body."""

    ending: str
    kind: ApiKind
    read: Reader
    needed: bool
    # What of the body is the prompt, for people.
    prompt: str
    parser: str = ""
    style: Style = Style.OPENAI


APIS = (
    Api("completions", ApiKind.COMPLETIONS, body.read_completion, True, "prompt", OPENAI),
    Api("chat/completions", ApiKind.CHAT, body.read_chat, True, "messages", OPENAI),
    Api("responses", ApiKind.RESPONSES, body.read_response, True, "instructions, input", OPENAI),
    Api("embeddings", ApiKind.EMBEDDINGS, body.read_texts, True, "input, messages", OPENAI),
    Api("conversations", ApiKind.OTHER, body.read_other, False, "", OPENAI),
    Api("images/generations", ApiKind.IMAGES, body.read_texts, True, "prompt", OPENAI),
    Api("completions/render", ApiKind.RENDER, body.read_completion, True, "prompt", OPENAI),
    Api("chat/completions/render", ApiKind.RENDER, body.read_chat, True, "messages", OPENAI),
    Api(
        "v1/messages",
        ApiKind.MESSAGES,
        body.read_chat,
        True,
        "system, messages",
        ANTHROPIC,
        Style.ANTHROPIC,
    ),
    Api(
        "v1/messages/count_tokens",
        ApiKind.RENDER,
        body.read_chat,
        True,
        "system, messages",
        ANTHROPIC,
        Style.ANTHROPIC,
    ),
    Api("inference/v1/generate", ApiKind.GENERATE, body.read_tokens, False, "token_ids", VLLM_HTTP),
    Api("generate", ApiKind.GENERATE, body.read_tokens, False, "text, input_ids", SGLANG_HTTP),
    Api("rerank", ApiKind.RERANK, body.read_pairs, True, "query, documents"),
    Api("score", ApiKind.SCORE, body.read_pairs, True, "queries, documents"),
    Api("pooling", ApiKind.POOLING, body.read_texts, True, "input, messages, data"),
    Api("classify", ApiKind.POOLING, body.read_texts, True, "input, messages"),
    Api("v2/embed", ApiKind.EMBEDDINGS, body.read_texts, True, "texts"),
    Api("tokenize", ApiKind.RENDER, body.read_texts, False, "prompt, messages"),
    Api("detokenize", ApiKind.OTHER, body.read_other, False, ""),
    Api("responses/render", ApiKind.RENDER, body.read_response, True, "instructions, input"),
    Api("v1/messages/render", ApiKind.RENDER, body.read_chat, True, "system, messages"),
    Api("invocations", ApiKind.COMPLETIONS, body.read_texts, False, "prompt, messages, input"),
    Api("audio/transcriptions", ApiKind.AUDIO, body.read_form, False, ""),
    Api("audio/translations", ApiKind.AUDIO, body.read_form, False, ""),
)
_OTHER = Api("", ApiKind.OTHER, body.read_other, False, "")
_UNREAD = Api("", ApiKind.OTHER, body.read_nothing, False, "", PASSTHROUGH)
_LONGEST_FIRST = tuple(sorted(APIS, key=lambda api: -len(api.ending)))


class Call(msgspec.Struct, frozen=True):
    """What a path says: which API, whether it lists models, and whether its body may be routed."""

    api: Api
    lists_models: bool = False
    claimed: bool = True


def call_of(path: bytes, parsers: Collection[str] = ()) -> Call:
    """Which call a path (with or without query) is.

    ``parsers`` are those of an explicit list: what none of them claims is passed through if that is
    among them, and else is not for this pool. Without a list everything is read as well as it goes.
    """
    text = path.partition(b"?")[0].decode(errors="replace")
    listing = text.endswith("/v1/models")
    for api in _LONGEST_FIRST:
        if text.endswith("/" + api.ending) and (not parsers or api.parser in parsers):
            return Call(api)
    if not parsers:
        return Call(_OTHER, listing)
    return Call(_UNREAD, listing, claimed=PASSTHROUGH in parsers)


def parse(call: Call, data: bytes, *, model_optional: bool = False) -> Parsed | BadBody:
    """What the call's body says."""
    api = call.api
    return body.parse(api.read, api.kind, data, needed=api.needed, model_optional=model_optional)
