"""The name that a client asked for, put back into answers; against a JSON parser."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.restore import NAME_BYTES_MAX, ModelRestorer, name_text

NAME = '"the \\u00e9\\"alias"'


def restored(pieces: list[bytes], *, events: bool) -> bytes:
    machine = ModelRestorer(NAME.encode(), events=events)
    return b"".join(machine.feed(piece) for piece in pieces)


# What stands in an answer; N is the name that is put back.
DOCUMENTS = [
    ('{"model": "m"}', '{"model": N}'),
    ('{"model":"m","x":"m"}', '{"model":N,"x":"m"}'),
    ('{"model" \n:\t"org/a\\"b\\\\","x":1}', '{"model" \n:\tN,"x":1}'),
    ('{"model": null, "x": "m"}', '{"model": null, "x": "m"}'),
    ('{"model": {"model": "m"}}', '{"model": {"model": "m"}}'),
    ('{"x": "model", "y": "m"}', '{"x": "model", "y": "m"}'),
    ('{"x": "\\"model\\": \\"m\\""}', '{"x": "\\"model\\": \\"m\\""}'),
    ('{"x\\\\": "{", "model": "m"}', '{"x\\\\": "{", "model": N}'),
    ('{"choices": [{"model": "m", "message": {"model": "m"}}]}', None),
    ('{"my model": "m", "models": "m", "mode": "l", "Model": "m"}', None),
    ('[{"model": "m"}]', None),
    ('["model", "m", {"message": {"model": "m"}}]', None),
    ('{"message": {"id": 1, "model": "m", "x": {"model": "m"}}}', None),
    ('{"message": {"model": "m"}, "x": {"model": "m"}, "model": "m"}', None),
    ('{"response": {"x": [], "model": "m"}}', None),
    ('{"message": {"response": 1, "model": "m"}}', '{"message": {"response": 1, "model": N}}'),
    ('{"response": [{"model": "m"}], "message": "model"}', None),
    ("", None),
    ("}}]model", None),
    ('{"model": "m', '{"model": N'),
    ('{"model"', '{"model"'),
]
CHANGED = {
    '{"message": {"id": 1, "model": "m", "x": {"model": "m"}}}': (
        '{"message": {"id": 1, "model": N, "x": {"model": "m"}}}'
    ),
    '{"message": {"model": "m"}, "x": {"model": "m"}, "model": "m"}': (
        '{"message": {"model": N}, "x": {"model": "m"}, "model": N}'
    ),
    '{"response": {"x": [], "model": "m"}}': '{"response": {"x": [], "model": N}}',
}


@pytest.mark.parametrize(("body", "expected"), DOCUMENTS)
def test_json(body: str, expected: str | None) -> None:
    wanted = (expected or CHANGED.get(body, body)).replace("N", NAME).encode()
    data = body.encode()
    assert restored([data], events=False) == wanted
    assert restored([data[at : at + 1] for at in range(len(data))], events=False) == wanted


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ['data: {"model": "m"}', "", 'data:{"model":"m"}'],
            'data: {"model": N}||data:{"model":N}|',
        ),
        (['event: {"model": "m"}', ': {"model": "m"}', "data: [DONE]"], None),
        (['dat: {"model": "m"}', '{"model": "m"}'], None),
        # A document that does not end, in a key, in the name, before it and in text.
        (['data: {"mod', 'data: {"model": "m"}'], 'data: {"mod|data: {"model": N}|'),
        (['data: {"model": "m', 'data: {"model": "m"}'], 'data: {"model": N|data: {"model": N}|'),
        (['data: {"model":', 'data: {"model": "m"}'], 'data: {"model":|data: {"model": N}|'),
        (['data: {"x": "y\\', 'data: {"model": "m"}'], 'data: {"x": "y\\|data: {"model": N}|'),
        (['data: {"model": "m\\', "data: 1"], 'data: {"model": N|data: 1|'),
    ],
)
def test_events(lines: list[str], expected: str | None, end: str) -> None:
    body = "".join(line + end for line in lines).encode()
    wanted = body
    if expected is not None:
        wanted = expected.replace("N", NAME).replace("|", end).encode()
    for at in range(len(body)):
        assert restored([body[:at], body[at:]], events=True) == wanted
    assert restored([body[at : at + 1] for at in range(len(body))], events=True) == wanted


def test_nothing_waits_but_the_name_itself() -> None:
    machine = ModelRestorer(b'"a"', events=False)
    pieces = [b'{"mod', b'el"', b": ", b'"ta', b"rg", b'et"', b', "x": 1}']
    assert [machine.feed(piece) for piece in pieces] == [
        *(b'{"mod', b'el"', b": ", b'"a"', b"", b"", b', "x": 1}'),
    ]


def test_what_does_not_change_is_not_copied() -> None:
    machine = ModelRestorer(b'"a"', events=True)
    piece = b'data: {"choices": [{"text": "model"}]}\n\n'
    assert machine.feed(piece) is piece


def test_long_names_are_not_put_back() -> None:
    assert name_text("caf\u00e9") == '"caf\\u00e9"'
    assert name_text("n" * (NAME_BYTES_MAX - 2))
    assert not name_text("n" * NAME_BYTES_MAX)


_KEYS = st.sampled_from(["model", "message", "response", "mode", "models", 'model":'])
_TEXTS = st.sampled_from(["m", "model", "{", '"model": "m"', "\\", "\n", "\u00e9", ""])
_VALUES = st.recursive(
    st.none() | st.integers() | _TEXTS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=10,
)
_DOCUMENTS = st.dictionaries(_KEYS | st.text(max_size=8), _VALUES, max_size=5)


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    """The same by means of objects."""
    name = json.loads(NAME)
    made = dict(document)
    for key in ("message", "response"):
        if isinstance(made.get(key), dict):
            made[key] = {
                k: name if k == "model" and isinstance(v, str) else v for k, v in made[key].items()
            }
    if isinstance(made.get("model"), str):
        made["model"] = name
    return made


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(one % (len(body) + 1) for one in cuts)})
    return [body[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(_DOCUMENTS, max_size=4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 2]),
    st.lists(st.integers(0)),
)
def test_same_as_by_a_json_parser(
    documents: list[dict[str, Any]],
    events: bool,
    ascii_only: bool,
    indent: int | None,
    cuts: list[int],
) -> None:
    """However the answer is cut into pieces; and not a byte differs but in the name."""

    def worded(all_of_them: list[dict[str, Any]]) -> bytes:
        texts = [
            json.dumps(one, ensure_ascii=ascii_only, indent=None if events else indent)
            for one in all_of_them
        ]
        whole = "".join(f"data: {text}\n\n" for text in texts) if events else "\n".join(texts)
        return whole.encode(errors="surrogatepass")

    # The name is written in one way, whatever the rest is written in.
    plain = json.dumps(json.loads(NAME), ensure_ascii=ascii_only).encode()
    body = worded(documents)
    found = restored(cut(body, cuts), events=events)
    unmarked = worded([renamed(one) for one in documents])
    assert found.replace(NAME.encode(), plain) == unmarked.replace(NAME.encode(), plain)


@given(st.binary(), st.booleans(), st.lists(st.integers(0)))
def test_any_bytes_are_survived(body: bytes, events: bool, cuts: list[int]) -> None:
    assert restored(cut(body, cuts), events=events) == restored([body], events=events)
