"""Bodies: what is found in them, and what is refused before a model server sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.apis import APIS, PARSERS, PASSTHROUGH, Api, Style, call_of
from inferway.picker.apis import parse as parse_call
from inferway.picker.body import BadBody, Parsed, form_model
from inferway.scheduling.request import ApiKind

COMPLETIONS = b"/v1/completions"
CHAT = b"/v1/chat/completions?timeout=3"


def parse(path: bytes, body: bytes) -> Parsed | BadBody:
    return parse_call(call_of(path), body)


@pytest.mark.parametrize(
    ("path", "ending", "kind"),
    [
        (b"/v1/completions?x=/chat/completions", "completions", ApiKind.COMPLETIONS),
        (b"/prefix/v1/chat/completions", "chat/completions", ApiKind.CHAT),
        (b"/v1/chat/completions/render", "chat/completions/render", ApiKind.RENDER),
        (b"/v1/responses", "responses", ApiKind.RESPONSES),
        (b"/v1/messages", "v1/messages", ApiKind.MESSAGES),
        (b"/v1/threads/t/messages", "", ApiKind.OTHER),
        (b"/inference/v1/generate", "inference/v1/generate", ApiKind.GENERATE),
        (b"/generate", "generate", ApiKind.GENERATE),
        (b"/regenerate", "", ApiKind.OTHER),
        (b"/v2/rerank", "rerank", ApiKind.RERANK),
        (b"/v1/models/m", "", ApiKind.OTHER),
        (b"/\xff\xfe", "", ApiKind.OTHER),
        (b"", "", ApiKind.OTHER),
    ],
)
def test_the_longest_ending_says_which_call_it_is(path: bytes, ending: str, kind: ApiKind) -> None:
    call = call_of(path)
    assert (call.api.ending, call.api.kind, call.lists_models) == (ending, kind, False)


def test_the_list_of_models_is_known() -> None:
    assert call_of(b"/v1/models?x=1").lists_models
    assert call_of(b"/v1/models", ("openai-parser",)).lists_models


def test_endings_and_parsers_are_each_their_own() -> None:
    assert len({api.ending for api in APIS}) == len(APIS)
    assert {api.parser for api in APIS} <= {*PARSERS, ""}


@pytest.mark.parametrize(
    ("path", "parsers", "ending", "claimed"),
    [
        (b"/v1/messages", ("openai-parser",), "", False),
        (b"/v1/messages", ("openai-parser", PASSTHROUGH), "", True),
        (b"/v1/messages", ("openai-parser", "anthropic-parser"), "v1/messages", True),
        (b"/v1/rerank", ("openai-parser",), "", False),
        (b"/v1/rerank", (PASSTHROUGH,), "", True),
        (b"/inference/v1/generate", ("sglanghttp-parser",), "generate", True),
    ],
)
def test_an_explicit_list_of_parsers_claims_paths(
    path: bytes, parsers: tuple[str, ...], ending: str, claimed: bool
) -> None:
    call = call_of(path, parsers)
    assert (call.api.ending, call.claimed) == (ending, claimed)
    body = b'{"model":"m","prompt":"x"}'
    if not ending:
        assert parse_call(call, body) == Parsed()


def test_only_calls_of_anthropic_have_its_errors() -> None:
    styled = {api.ending for api in APIS if api.style is Style.ANTHROPIC}
    assert styled == {"v1/messages", "v1/messages/count_tokens"}


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


@pytest.mark.parametrize(
    ("path", "body", "prompt", "salt", "tokens", "most"),
    [
        (b"/v1/completions", b'{"model":"m","prompt":[5, 6,7],"max_tokens":3}',
         b"[5, 6,7]", b"", 3, 3),
        (b"/v1/completions", b'{"model":"m","prompt":[[5],[6,7]]}', b"[[5],[6,7]]", b"", 3, 0),
        (b"/v1/completions", b'{"model":"m","prompt":["1","2"]}', b'["1","2"]', b"", 0, 0),
        (b"/v1/responses", (b'{"model":"m","input":"hi","instructions":"be","tools":[],'
         b'"max_output_tokens":4}'), b'"be""hi"', b"[]", 0, 4),
        (b"/v1/messages", b'{"model":"m","max_tokens":9,"messages":[{"role":"user"}],"system":"s"}',
         b'"s"[{"role":"user"}]', b"", 0, 9),
        (b"/v1/messages/count_tokens", b'{"model":"m","messages":[1]}', b"[1]", b"", 0, 0),
        (b"/v1/embeddings", b'{"model":"m","input":[1,2]}', b"[1,2]", b"", 2, 0),
        (b"/v1/embeddings", b'{"model":"m","messages":[]}', b"[]", b"", 0, 0),
        (b"/v1/rerank", b'{"model":"m","documents":["a"],"query":"q"}', b'"q"["a"]', b"", 0, 0),
        (b"/score", b'{"model":"m","text_1":"a","text_2":"b"}', b'"a""b"', b"", 0, 0),
        (b"/v1/score", b'{"model":"m","queries":"a","items":["b"]}', b'"a"["b"]', b"", 0, 0),
        (b"/pooling", b'{"model":"m","data":"x"}', b'"x"', b"", 0, 0),
        (b"/tokenize", b'{"prompt":"x"}', b'"x"', b"", 0, 0),
        (b"/inference/v1/generate", (b'{"token_ids":[1,2,3],"sampling_params":{"max_tokens":8},'
         b'"cache_salt":"t"}'), b"[1,2,3]", b'"t"', 3, 8),
        (b"/generate", b'{"text":"x","sampling_params":{"max_new_tokens":8},"lora_path":"l"}',
         b'"x"', b'"l"', 0, 8),
        (b"/generate", b'{"text":["x","y"],"sampling_params":[{},{}]}', b'["x","y"]', b"", 0, 0),
    ],
)  # fmt: skip
def test_what_is_the_prompt_of_each_call(
    path: bytes, body: bytes, prompt: bytes, salt: bytes, tokens: int, most: int
) -> None:
    parsed = parse(path, body)
    assert isinstance(parsed, Parsed)
    assert (bytes(parsed.prompt), parsed.salt) == (prompt, salt)
    assert (parsed.counted_tokens, parsed.max_tokens) == (tokens, most)
    assert parsed.counted_bytes == (len(prompt) if tokens else 0)


FORM = (
    b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n--x--\r\n'
)


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (FORM % b"abc", "whisper"),
        (FORM % (b"a" * 200_000), "whisper"),
        (b"--x\r\ncontent-disposition: form-data; name=file\r\n\r\n" + b"a" * 200_000 + b"\r\n"
         + FORM[:-8] % b"", "whisper"),
        ((b'--x\r\nContent-Disposition: form-data; name="model"\r\nContent-Type: text/plain'
         b"\r\n\r\nm2\r\n--x--\r\n"), "m2"),
        (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--x--\r\n', ""),
        (b'{"model":"m"}', ""),
    ],
)  # fmt: skip
def test_a_form_names_its_model(body: bytes, model: str) -> None:
    parsed = parse(b"/v1/audio/transcriptions", body)
    assert isinstance(parsed, Parsed)
    assert (parsed.model, parsed.kind) == (model, ApiKind.AUDIO)
    place = form_model(body)
    assert place is None or body[place[0] : place[1]].decode() == model


def test_a_byte_order_mark_is_passed() -> None:
    parsed = parse(COMPLETIONS, b'\xef\xbb\xbf{"model":"m","prompt":"x"}')
    assert isinstance(parsed, Parsed)
    assert (parsed.model, bytes(parsed.prompt)) == ("m", b'"x"')


def test_embeddings_take_their_input() -> None:
    parsed = parse(b"/v1/embeddings", b'{"model":"e","input":["a"]}')
    assert isinstance(parsed, Parsed)
    assert (parsed.kind, bytes(parsed.prompt)) == (ApiKind.EMBEDDINGS, b'["a"]')


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"model": "m",', None, "invalid_json"),
        (b'{"model": "m"} x', None, "invalid_json"),
        (b'{"model": "m\xff", "prompt": "x"}', "model", "invalid_model"),
        (b'{"m\\u006fdel\xff": "m", "prompt": "x"}', "model", "missing_model"),
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
    parsed = parse(path, body)
    assert isinstance(parsed, Parsed)
    assert (parsed.model, bytes(parsed.prompt)) == ("", b"")


def test_unknown_call_that_names_a_model_goes_to_it() -> None:
    parsed = parse(b"/v1/things", b'{"model":"adapter","prompt":"x"}')
    assert isinstance(parsed, Parsed)
    assert (parsed.model, parsed.kind) == ("adapter", ApiKind.OTHER)


@pytest.mark.fuzz
@given(st.binary(max_size=200), st.sampled_from(APIS))
def test_any_bytes_are_parsed_or_refused(body: bytes, api: Api) -> None:
    assert isinstance(parse(f"/{api.ending}".encode(), body), Parsed | BadBody)


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


GOOD = (
    b'{"model":"m","prompt":"caf\\u00e9 \\ud83d\\ude00","stream":true,"max_tokens":7}',
    (
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":'
        b'{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAABAAAAAIA"}}]}],"tools":[{}]}'
    ),
    b'{"model":"m","system":"s","messages":[{"content":[{"type":"image","source":{"data":"R0lG"}}]}]}',
    b'{"token_ids":[1,2,3],"sampling_params":{"max_tokens":8},"cache_salt":"t"}',
    b'{"model":"m","query":"q","documents":["a",{"content":[]}],"top_n":1e400}',
    FORM % b"abc",
)


@pytest.mark.fuzz
@given(
    st.sampled_from(GOOD),
    st.sampled_from(APIS),
    st.lists(
        st.tuples(
            st.integers(0, 300),
            st.integers(0, 8),
            st.sampled_from([b"", b"{", b"[", b'"', b"\\", b"\\ud800", b"\xff", b"\0", b"9" * 40])
            | st.binary(max_size=4),
        ),
        max_size=4,
    ),
)
def test_good_bodies_with_faults_are_parsed_or_refused(
    body: bytes, api: Api, faults: list[tuple[int, int, bytes]]
) -> None:
    for at, size, put in faults:
        body = body[:at] + put + body[at + size :]
    parsed = parse(f"/{api.ending}".encode(), body)
    if isinstance(parsed, Parsed):
        assert parsed.counted_bytes >= 0
        assert 0 <= parsed.counted_tokens < 1e9
        assert len(parsed.prompt) <= len(body)
