"""Tokens and answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.simulator import answers, tokenizer

GUIDE_PROMPT = "What is the warmest city in the USA?"


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (GUIDE_PROMPT,
         ["What", " is", " the", " warme", "st", " city", " in", " the", " USA", "?"]),
        ("", []),
        ("2025", ["2", "0", "2", "5"]),
        ("<|im_start|>user\n", ["<|im_start|>", "user", "\n"]),
        ("a  b", ["a", "  ", "b"]),
        ("日本", ["日", "本"]),
    ],
)  # fmt: skip
def test_pieces(text: str, pieces: list[str]) -> None:
    assert tokenizer.pieces(text) == pieces


def test_about_four_characters_a_token() -> None:
    text = answers.answer("anything", 0, 2000).text
    assert 3.0 < len(text) / len(tokenizer.encode(text)) < 5.0


@pytest.mark.slow
@given(st.text())
def test_tokens_turn_back_into_the_text(text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert all(0 <= token < 2**49 for token in tokens)


@given(st.integers(0, 2**63 - 1))
def test_any_id_has_a_text(token: int) -> None:
    assert isinstance(tokenizer.decode_one(token), str)


@pytest.mark.slow
@given(st.text(max_size=50), st.integers(0, 3), st.integers(1, 300))
def test_an_answer_is_as_long_as_asked_and_always_the_same(
    prompt: str, choice: int, limit: int
) -> None:
    first = answers.answer(prompt, choice, limit)
    assert len(first.tokens) == len(first.pieces) == limit
    assert first.finish_reason == "length"
    assert first.text == "".join(first.pieces)
    assert tokenizer.decode(first.tokens) == first.text
    assert answers.make(prompt, choice, limit, ()) == first


def test_a_longer_answer_begins_like_a_shorter_one() -> None:
    short, long = answers.answer("x", 0, 20), answers.answer("x", 0, 200)
    assert long.tokens[:20] == short.tokens


def test_the_guide_learns_about_phoenix() -> None:
    assert "Phoenix, Arizona" in answers.answer(GUIDE_PROMPT, 0, 100).text


def test_without_a_limit_the_model_stops_itself() -> None:
    plan = answers.answer("Tell me more.", 0, None)
    assert plan.finish_reason == "stop"
    assert plan.stop_reason is None
    assert 24 <= len(plan.tokens) < 200


@given(st.integers(0, 60), st.integers(1, 12))
def test_a_stop_text_ends_the_answer_before_it(begin: int, length: int) -> None:
    whole = answers.answer("stop here", 0, 80)
    stop = whole.text[begin : begin + length]
    plan = answers.answer("stop here", 0, 80, (stop,))
    assert plan.finish_reason == "stop"
    assert plan.stop_reason == stop
    assert plan.text == whole.text[: whole.text.index(stop)]
    assert "".join(plan.pieces) == plan.text
    assert plan.tokens == whole.tokens[: len(plan.tokens)]


def test_the_earliest_of_several_stop_texts_counts() -> None:
    whole = answers.answer("several", 0, 80)
    plan = answers.answer("several", 0, 80, (whole.text[20:24], whole.text[5:9], "not there"))
    assert plan.stop_reason == whole.text[5:9]
