"""Splices: applied to the body, they make it name the other model and change nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.splice import VALUE_BYTES_MAX, locate, splice


def apply(body: bytes, model: str) -> bytes:
    """What the proxy does with the header."""
    header = splice(body, model)
    assert header is not None
    if json.loads(body).get("model"):
        # The quick way finds the same place.
        assert splice(body, model, named=True) == header
    assert b"\n" not in header
    assert header.isascii()
    begin, end, value = header.split(b",", 2)
    return body[: int(begin)] + value + body[int(end) :]


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"model":"m","prompt":"x"}', b'{"model":"n","prompt":"x"}'),
        (b'{ "prompt" : "x" ,\n "model" \t: "m" }', b'{ "prompt" : "x" ,\n "model" \t: "n" }'),
        (
            b'{"messages":[{"model":"m"}],"model":"m"}',
            b'{"messages":[{"model":"m"}],"model":"n"}',
        ),
        (
            b'{"model":"m","extra":{"model":"m"},"stop":["model"]}',
            b'{"model":"n","extra":{"model":"m"},"stop":["model"]}',
        ),
        # Readers take the last of several.
        (b'{"model":"a","model":"b"}', b'{"model":"a","model":"n"}'),
        (b'{"model":"a","mod\\u0065l":"b"}', b'{"model":"a","mod\\u0065l":"n"}'),
        (
            b'{"a\\"model":"m","model":"m\\"q"}',
            b'{"a\\"model":"m","model":"n"}',
        ),
        (b'{"prompt":"say \\"model\\": \\"m\\"","model":"m"}', None),
        (b'{"prompt":"{[\\\\","model":"m"}', b'{"prompt":"{[\\\\","model":"n"}'),
        (b'{"x":"model","model":"m"}', b'{"x":"model","model":"n"}'),
        (b'{"model":null,"prompt":"x"}', b'{"model":"n","prompt":"x"}'),
        # A body without a model gets one.
        (b'{"prompt":"x"}', b'{"model":"n","prompt":"x"}'),
        (b"{ }", b'{"model":"n" }'),
        (b'{"a\\"model":"m"}', b'{"model":"n","a\\"model":"m"}'),
        (b'\n {"a":{"model":"m"}}', b'\n {"model":"n","a":{"model":"m"}}'),
    ],
)
def test_bodies(body: bytes, wanted: bytes | None) -> None:
    made = apply(body, "n")
    if wanted is not None:
        assert made == wanted
    assert json.loads(made) == {**json.loads(body), "model": "n"}


keys = st.sampled_from(["model", "prompt", 'a"model', "messages", "x\\", "", "mod"])
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just('"model":"q"')),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.slow
@pytest.mark.fuzz
@given(
    st.dictionaries(keys, values, max_size=4),
    st.text(max_size=12),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.text(min_size=1, max_size=12),
)
def test_any_body(
    fields: dict[str, object], asked: str, indent: int | None, ascii_only: bool, target: str
) -> None:
    fields = {**fields, "model": asked}
    text = json.dumps(fields, indent=indent, ensure_ascii=ascii_only)
    body = text.encode(errors="surrogatepass")
    made = json.loads(apply(body, target))
    assert made == {**fields, "model": target}


def test_a_name_that_is_no_header_stays_away() -> None:
    assert splice(b'{"model":"m"}', "n" * VALUE_BYTES_MAX) is None


def test_the_value_is_ascii_whatever_the_name_is() -> None:
    assert splice(b'{"model":"m"}', 'caf\u00e9\n"x,y') == b'9,12,"caf\\u00e9\\n\\"x,y"'


def test_a_large_prompt_before_the_model() -> None:
    body = b'{"messages":[' + b'{"content":"{[,:\\"model\\"}"},' * 2000 + b'{}],"model":"m"}'
    begin, end = locate(body) or (0, 0)
    assert body[begin:end] == b'"m"'
    assert end == len(body) - 1


def test_a_key_that_is_no_text_is_not_the_models() -> None:
    body = b'{"\\u006dode\xff":1,"model":"m"}'
    assert splice(body, "n") == b"%d,%d,%b" % (body.index(b'"m"'), body.index(b'"m"') + 3, b'"n"')
