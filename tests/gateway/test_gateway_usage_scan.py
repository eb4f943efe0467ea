"""The scanner that finds token usage in answers, called from Python."""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BYTES_MAX = 1024
SOURCE = Path(__file__).parent.parent.parent / "native" / "usage.c"
Scan = Callable[[Sequence[bytes], bool], bytes]


class _Usage(ctypes.Structure):
    _fields_ = (
        ("text", ctypes.c_char * BYTES_MAX),
        ("length", ctypes.c_size_t),
        ("open", ctypes.c_char * BYTES_MAX),
        ("open_length", ctypes.c_size_t),
        ("depth", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("matched", ctypes.c_ubyte),
        ("events", ctypes.c_bool),
    )


@pytest.fixture(scope="session")
def scan(c_compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Feeds pieces and gives the usage's text."""
    made = tmp_path_factory.mktemp("usage") / "usage.so"
    subprocess.run([c_compiler, "-O2", "-shared", "-fPIC", "-o", made, SOURCE], check=True)
    library = ctypes.CDLL(str(made))
    library.usage_start.argtypes = [ctypes.POINTER(_Usage), ctypes.c_bool]
    library.usage_feed.argtypes = [ctypes.POINTER(_Usage), ctypes.c_char_p, ctypes.c_size_t]
    library.usage_start.restype = library.usage_feed.restype = None

    def run(pieces: Sequence[bytes], events: bool) -> bytes:
        usage = _Usage()
        library.usage_start(usage, events)
        for piece in pieces:
            library.usage_feed(usage, piece, len(piece))
        return ctypes.string_at(ctypes.addressof(usage), usage.length)

    return run


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b"", b""),
        (b"{}", b""),
        (b'{"usage": {"a": 1}}', b'{"a": 1}'),
        (b'{"usage":{"a":{"b":[1,{"c":"}"}]}},"x":1}', b'{"a":{"b":[1,{"c":"}"}]}}'),
        (b'{"usage" \n:\t {"a": 1}}', b'{"a": 1}'),
        (b'{"usage": null}', b""),
        (b'{"usage": 5, "x": {"usage": {"a": 1}}}', b""),
        (b'{"usage": [{"a": 1}]}', b""),
        (b'{"model": "usage", "x": {"a": 1}}', b""),
        (b'{"x": "\\"usage\\": {1}"}', b""),
        (b'{"x": "a\\\\", "usage": {"q": "\\\\"}}', b'{"q": "\\\\"}'),
        (b'{"usage_more": {"a": 1}}', b""),
        (b'{"usag": {"a": 1}}', b""),
        (b'{"my usage": {"a": 1}}', b""),
        (b'{"x": ["usage", {"a": 1}], "usage": {"b": 2}}', b'{"b": 2}'),
        (b'["usage", {"a": 1}]', b""),
        (b'[{"usage": {"a": 1}}]', b""),
        (b'{"usage": {"a": 1', b""),
        (b'}}}{"usage": {"a": 1}}', b'{"a": 1}'),
        (b'{"usage": {"a": "' + b"x" * BYTES_MAX + b'"}}', b""),
    ],
)
def test_json_answers(scan: Scan, body: bytes, usage: bytes) -> None:
    assert scan([body], False) == usage
    assert scan([body[at : at + 1] for at in range(len(body))], False) == usage


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(
    ("lines", "usage"),
    [
        ([b"data: [DONE]"], b""),
        ([b'data: {"usage": {"a": 1}}', b"", b"data: [DONE]"], b'{"a": 1}'),
        ([b'data:{"usage":{"a":1}}', b'data:{"usage":null}'], b'{"a":1}'),
        ([b'data: {"usage": {"a": 1}}', b'data: {"usage": {"a": 2}}'], b'{"a": 2}'),
        ([b'data: {"usage": {"a": 1', b'data: {"usage": {"a": 2}}'], b'{"a": 2}'),
        ([b'data: {"x": "unended', b'data: {"usage": {"a": 2}}'], b'{"a": 2}'),
        ([b'event: {"usage": {"a": 1}}', b': {"usage": {"a": 1}}', b"dat"], b""),
        ([b"id: 1", b"event: usage", b'data: {"choices": [{"usage": {}}]}'], b""),
    ],
)
def test_events(scan: Scan, lines: list[bytes], usage: bytes, end: bytes) -> None:
    body = b"".join(line + end for line in lines)
    assert scan([body], True) == usage
    for at in range(len(body)):
        assert scan([body[:at], body[at:]], True) == usage


_KEYS = st.sampled_from(["usage", "usag", "usage ", "id", "Usage", '"usage":{']) | st.text()
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["usage", "{", "\\"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_DOCUMENTS = st.dictionaries(_KEYS, _VALUES, max_size=6)


def _worded(document: Any, ascii_only: bool, indent: int | None) -> bytes:
    return json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode(
        errors="surrogatepass"
    )


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[start:end] for start, end in itertools.pairwise(places)]


def _found(text: bytes) -> Any:
    return json.loads(text.decode(errors="surrogatepass")) if text else None


def _expected(body: bytes) -> Any:
    usage = json.loads(body.decode(errors="surrogatepass")).get("usage")
    return usage if isinstance(usage, dict) else None


@given(_DOCUMENTS, st.booleans(), st.sampled_from([None, 0, 2]), st.lists(st.integers(0)))
def test_same_as_a_json_parser(
    scan: Scan, document: dict[str, Any], ascii_only: bool, indent: int | None, cuts: list[int]
) -> None:
    body = _worded(document, ascii_only, indent)
    found = _found(scan(_cut(body, cuts), False))
    expected = _expected(body)
    # One that is too long is not kept; the lines of an indented one count.
    if found is None and expected is not None:
        assert len(body) > BYTES_MAX
    else:
        assert found == expected


@given(
    st.lists(_DOCUMENTS, max_size=4),
    st.sampled_from(["\n\n", "\r\n\r\n"]),
    st.lists(st.integers(0)),
)
def test_events_same_as_a_json_parser(
    scan: Scan, documents: list[dict[str, Any]], end: str, cuts: list[int]
) -> None:
    bodies = [_worded(document, True, None) for document in documents]
    stream = b"".join(b"data: " + body + end.encode() for body in bodies)
    expected = [usage for body in bodies if (usage := _expected(body)) is not None]
    if all(len(body) <= BYTES_MAX for body in bodies):
        assert _found(scan(_cut(stream, cuts), True)) == (expected[-1] if expected else None)


@given(st.binary(), st.booleans())
def test_any_bytes_are_survived(scan: Scan, body: bytes, events: bool) -> None:
    assert len(scan([body, body], events)) <= BYTES_MAX
