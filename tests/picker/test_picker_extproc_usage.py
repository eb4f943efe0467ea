"""Token usage out of answers on their way, in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.extproc.usage import USAGE_BYTES_MAX, UsageReader

Counts = tuple[int | None, int | None, int | None]


def read(*pieces: bytes) -> Counts:
    reader = UsageReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.prompt, reader.completion, reader.cached


def events(*objects: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in objects)


COMPLETION = {
    "id": "c",
    "choices": [{"text": 'he said "usage": {"prompt_tokens": 99}'}],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 8},
    },
    "kv_transfer_params": {"x": "y" * 5000},
}
STREAM = events(
    {"choices": [{"delta": {"content": "a"}}], "usage": None},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
)
RESPONSES = events(
    {"type": "response.created", "response": {"usage": None}},
    {
        "type": "response.completed",
        "response": {
            "usage": {
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 16},
                "output_tokens": 2,
            }
        },
    },
)
MESSAGES = events(
    {"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}},
    {"type": "message_delta", "usage": {"output_tokens": 30}},
)
CACHED_MESSAGE = b'{"usage": {"input_tokens": 9, "cache_read_input_tokens": 7, "output_tokens": 1}}'
ANSWERS: list[tuple[bytes, Counts]] = [
    (json.dumps(COMPLETION).encode(), (11, 5, 8)),
    (json.dumps(COMPLETION, indent=2).encode(), (11, 5, 8)),
    (STREAM + b"data: [DONE]\n\n", (3, 4, None)),
    (RESPONSES, (20, 2, 16)),
    (MESSAGES, (9, 30, None)),
    (CACHED_MESSAGE, (16, 1, 7)),
    (b'{"usage": {"prompt_tokens": -1, "completion_tokens": 99999999999}}', (None, None, None)),
    (b'{"usage": {"prompt_tokens": "x"}}', (None, None, None)),
    (b'{"usage": {"a": "%b", "prompt_tokens": 1}}' % (b"x" * USAGE_BYTES_MAX), (None,) * 3),
    (b'{"usage"', (None, None, None)),
]


@pytest.mark.parametrize(("answer", "counts"), ANSWERS)
def test_usage_of_every_api(answer: bytes, counts: Counts) -> None:
    assert read(answer) == counts
    for size in (1, 2, 7, 64):
        assert read(*(answer[at : at + size] for at in range(0, len(answer), size))) == counts


@pytest.mark.fuzz
@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 6000), max_size=8))
def test_any_cuts_say_the_same(answer: tuple[bytes, Counts], cuts: list[int]) -> None:
    text, counts = answer
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(bounds)]
    assert read(*pieces) == counts


@pytest.mark.fuzz
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([b'"usage"', b":", b" ", b"{", b"}", b'"prompt_tokens": 3', b"null"]),
        ),
        max_size=30,
    )
)
def test_anything_is_read_in_bounded_memory(pieces: list[bytes]) -> None:
    reader = UsageReader()
    for piece in pieces:
        reader.feed(piece)
        assert len(reader._rest) <= USAGE_BYTES_MAX + 64
