"""Bodies: what is found in them, and what is refused before a model server sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.body import BadBody, Call, Parsed, call_of
from inferway.picker.body import parse as parse_call
from inferway.scheduling.request import ApiKind

COMPLETIONS = b"/v1/completions"
CHAT = b"/v1/chat/completions?timeout=3"


def parse(path: bytes, body: bytes) -> Parsed | BadBody:
    return parse_call(call_of(path), body)


def test_paths() -> None:
    assert call_of(b"/v1/completions?x=/chat/completions") == Call(ApiKind.COMPLETIONS, True)
    assert call_of(b"/prefix/v1/chat/completions") == Call(ApiKind.CHAT, True)
    assert call_of(b"/v1/responses") == Call(ApiKind.OTHER, True)
    assert call_of(b"/v1/models?x=1") == Call(ApiKind.OTHER, False, lists_models=True)
    assert call_of(b"/v1/models/m") == Call(ApiKind.OTHER, False)


def test_completion() -> None:
    body = b'{"model": "m", "prompt": "caf\\u00e9", "stream": true, "max_tokens": 7, "n": [1]}'
    parsed = parse(COMPLETIONS, body)
    assert isinstance(parsed, Parsed)
    assert (parsed.model, parsed.kind, parsed.stream) == ("m", ApiKind.COMPLETIONS, True)
    assert (bytes(parsed.prompt), parsed.max_tokens) == (b'"caf\\u00e9"', 7)


def test_chat_with_tools_and_salt() -> None:
    body = (
        b'{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"cache_salt":"s",'
        b'"tools":[{"type":"function"}],"max_completion_tokens":9,"stream":false,"model":"m/\\"x"}'
    )
    parsed = parse(CHAT, body)
    assert isinstance(parsed, Parsed)
    assert (parsed.model, parsed.kind, parsed.stream) == ('m/"x', ApiKind.CHAT, False)
    assert bytes(parsed.prompt).startswith(b'[{"role"')
    assert (parsed.salt, parsed.max_tokens) == (b'"s"[{"type":"function"}]', 9)


@pytest.mark.parametrize("prompt", [b"[1, 2, 3]", b'["a", "b"]', b"null", b"[[1],[2]]"])
def test_prompts_of_other_shapes(prompt: bytes) -> None:
    parsed = parse(COMPLETIONS, b'{"model":"m","prompt":' + prompt + b"}")
    assert isinstance(parsed, Parsed)
    assert bytes(parsed.prompt) == prompt


def test_embeddings_take_their_input() -> None:
    parsed = parse(b"/v1/embeddings", b'{"model":"e","input":["a"]}')
    assert isinstance(parsed, Parsed)
    assert (parsed.kind, bytes(parsed.prompt)) == (ApiKind.EMBEDDINGS, b'["a"]')


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"model": "m",', None, "invalid_json"),
        (b'{"model": "m"} x', None, "invalid_json"),
        (b'{"x":' + b"[" * 100_000, None, "invalid_json"),
        (b"[]", None, None),
        (b"3", None, None),
        (b"", None, None),
        (b'{"prompt": "x"}', "model", "missing_model"),
        (b'{"model": null, "prompt": "x"}', "model", "missing_model"),
        (b'{"model": "", "prompt": "x"}', "model", "invalid_model"),
        (b'{"model": 3, "prompt": "x"}', "model", "invalid_model"),
    ],
)
def test_refusals(body: bytes, param: str | None, code: str | None) -> None:
    bad = parse(COMPLETIONS, body)
    assert isinstance(bad, BadBody)
    assert (bad.param, bad.code) == (param, code)
    assert bad.message


@pytest.mark.parametrize("body", [b"", b"not json", b"{}", b"[]", b'{"model": 3}'])
@pytest.mark.parametrize("path", [b"/v1/models", b"/tokenize", b"/v1/audio/transcriptions", b"/"])
def test_calls_that_are_not_known_go_anywhere(path: bytes, body: bytes) -> None:
    assert parse(path, body) == Parsed()


def test_unknown_call_that_names_a_model_goes_to_it() -> None:
    parsed = parse(b"/tokenize", b'{"model":"adapter","prompt":"x"}')
    assert isinstance(parsed, Parsed)
    assert (parsed.model, parsed.kind) == ("adapter", ApiKind.OTHER)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    assert isinstance(parse(COMPLETIONS, body), Parsed | BadBody)


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        (b'{"model":"m","prompt":"\\ud800"}', 23),
        (b'{"model":"m","prompt":"\\uDBFF x"}', 23),
        (b'{"model":"m","prompt":"a\\udc00 x"}', 24),
        (b'{"model":"m","prompt":"\\ud83d\\ude00\\ud83d"}', 35),
        (b'{"model":"\\ud800","prompt":"x"}', 10),
        (b'{"model":"m","prompt":"\\\\\\ud800"}', 25),
    ],
)
def test_half_of_a_surrogate_pair_is_named(text: bytes, byte: int) -> None:
    bad = parse(COMPLETIONS, text)
    assert isinstance(bad, BadBody)
    assert f"(byte {byte}) is half of a surrogate pair" in bad.message
    assert bad.code == "invalid_json"


@pytest.mark.parametrize(
    "text",
    [
        b'{"model":"m","prompt":"\\ud83d\\ude00"}',
        b'{"model":"m","prompt":"\\\\ud800"}',
        b'{"model":"m","prompt":"\\u00e9"}',
    ],
)
def test_whole_pairs_and_escaped_backslashes_are_text(text: bytes) -> None:
    assert isinstance(parse(COMPLETIONS, text), Parsed)


def test_a_body_that_is_cut_short_is_called_so() -> None:
    bad = parse(COMPLETIONS, b'{"model":"m","prompt":"\\ud83d\\ude00')
    assert isinstance(bad, BadBody)
    assert "truncated" in bad.message
