"""Rewrites: which rule holds, how shares come out, and that a key keeps its target."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.scheduling.rewrite import (
    Chosen,
    Rewrite,
    Rule,
    StickyBy,
    Target,
    compile_table,
    draw,
    shadowed,
)


def rewrite(name: str, created: str, *rules: Rule) -> Rewrite:
    return Rewrite(name, created, rules)


def exact(model: str, *targets: str) -> Rule:
    return Rule((model,), tuple(Target(one) for one in targets))


def generic(*targets: str) -> Rule:
    return Rule((), tuple(Target(one) for one in targets))


OLD, NEW = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("rewrites", "model", "target"),
    [
        ([rewrite("a", OLD, exact("m", "x"))], "m", "x"),
        ([rewrite("a", OLD, exact("m", "x"))], "other", None),
        # Exact before generic, even where the generic one is older.
        ([rewrite("a", OLD, generic("g")), rewrite("b", NEW, exact("m", "x"))], "m", "x"),
        ([rewrite("a", OLD, generic("g")), rewrite("b", NEW, exact("m", "x"))], "", "g"),
        # Then the older object, whatever order they come in.
        ([rewrite("a", NEW, exact("m", "new")), rewrite("b", OLD, exact("m", "old"))], "m", "old"),
        # Of the same second, by name.
        ([rewrite("b", OLD, exact("m", "b")), rewrite("a", OLD, exact("m", "a"))], "m", "a"),
        # Then the order of rules.
        ([rewrite("a", OLD, exact("m", "first"), exact("m", "second"))], "m", "first"),
        ([rewrite("a", OLD, generic("first"), generic("second"))], "m", "first"),
        ([rewrite("a", OLD, Rule(("m", "n"), (Target("x"),)))], "n", "x"),
        # A target is no model to be rewritten again.
        ([rewrite("a", OLD, exact("m", "n"), exact("n", "o"))], "m", "n"),
    ],
)
def test_the_rule_that_holds(rewrites: list[Rewrite], model: str, target: str | None) -> None:
    table = compile_table(rewrites)
    assert table is not None
    rule = table.rule_for(model)
    assert (draw(rule, b"k") if rule is not None else None) == target


def test_no_rules_are_no_table() -> None:
    assert compile_table([]) is None
    assert compile_table([rewrite("a", OLD)]) is None


def test_what_an_older_rule_has_already_is_named() -> None:
    found = shadowed(
        [rewrite("new", NEW, exact("m", "y"), generic("z")), rewrite("old", OLD, exact("m", "x"))]
    )
    assert found == {"new": ["m"]}


def shares(*weights: int) -> Chosen:
    targets = tuple(Target(f"t{number}", weight) for number, weight in enumerate(weights))
    return Chosen("r", targets, sum(weights), StickyBy.REQUEST)


def keys(count: int) -> list[bytes]:
    return [f"request-{number}".encode() for number in range(count)]


def test_shares_come_out_as_their_weights() -> None:
    drawn = Counter(draw(shares(90, 10), key) for key in keys(5000))
    # Six standard deviations of a draw of 5000 at one tenth.
    assert abs(drawn["t1"] - 500) < 130


def test_rewrites_draw_independently() -> None:
    other = Chosen("other", shares(50, 50).targets, 100, StickyBy.REQUEST)
    same = sum(draw(shares(50, 50), key) == draw(other, key) for key in keys(2000))
    assert abs(same - 1000) < 140


@given(st.binary(max_size=300), st.integers(1, 1_000_000), st.integers(1, 1_000_000))
def test_a_key_keeps_its_target_and_a_growing_share_only_takes(key: bytes, a: int, b: int) -> None:
    before = draw(shares(a, b), key)
    assert draw(shares(a, b), key) == before
    if before == "t1":
        assert draw(shares(a, b * 2), key) == "t1"
    else:
        assert draw(shares(a * 2, b), key) == "t0"


def test_a_long_name_is_a_salt_too() -> None:
    assert draw(Chosen("n" * 253, shares(1, 1).targets, 2, StickyBy.REQUEST), b"k") in {"t0", "t1"}
