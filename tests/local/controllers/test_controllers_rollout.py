"""Rolling updates as scripts and as properties."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.local.controllers.rollout import (
    Limits,
    SetSize,
    new_set_size,
    old_set_sizes,
    proportional_sizes,
    resized,
    resolve,
)

LIMITS = [
    # surge, unavailable, replicas -> surge, unavailable in Pods
    ("25%", "25%", 4, (1, 1)),
    ("25%", "25%", 3, (1, 0)),
    ("25%", "25%", 1, (1, 0)),
    (1, 0, 3, (1, 0)),
    (0, 0, 3, (0, 1)),
    ("0%", "10%", 3, (0, 1)),
    ("100%", "100%", 3, (3, 3)),
    ("nonsense", 9, 3, (0, 3)),
]


@pytest.mark.parametrize(("surge", "unavailable", "replicas", "expected"), LIMITS)
def test_limits(surge: object, unavailable: object, replicas: int, expected: object) -> None:
    limits = Limits.of(surge, unavailable, replicas)
    assert (limits.surge, limits.unavailable) == expected


def test_percentages_round_up_and_down() -> None:
    assert resolve("30%", 10, up=True) == 3
    assert resolve("25%", 10, up=True) == 3
    assert resolve("25%", 10, up=False) == 2
    assert resolve(None, 10, up=True) == 0


def play(replicas: int, limits: Limits, old: int) -> list[tuple[int, int]]:
    """(old, new) sizes of a rollout in which every wanted Pod becomes available at once."""
    new_size, old_size = 0, old
    steps = [(old_size, new_size)]
    for _ in range(4 * (replicas + old) + 4):
        new = SetSize("new", new_size, new_size, created_at=2)
        olds = [SetSize("old", old_size, old_size, created_at=1)]
        next_new = new_set_size(new, olds, replicas, limits)
        if next_new == new_size:
            sizes = old_set_sizes(new, olds, replicas, limits)
            if not sizes:
                break
            old_size = sizes["old"]
        new_size = next_new
        steps.append((old_size, new_size))
    return steps


SCRIPTS = [
    (3, Limits(1, 0), [(3, 0), (3, 1), (2, 1), (2, 2), (1, 2), (1, 3), (0, 3)]),
    (3, Limits(0, 1), [(3, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2), (0, 3)]),
    (4, Limits(1, 1), [(4, 0), (4, 1), (2, 1), (2, 3), (0, 3), (0, 4)]),
    (2, Limits(2, 0), [(2, 0), (2, 2), (0, 2)]),
    (1, Limits(1, 0), [(1, 0), (1, 1), (0, 1)]),
]


@pytest.mark.parametrize(("replicas", "limits", "expected"), SCRIPTS)
def test_a_rollout_step_by_step(
    replicas: int, limits: Limits, expected: list[tuple[int, int]]
) -> None:
    assert play(replicas, limits, replicas) == expected


def test_pods_that_are_not_available_go_first() -> None:
    new = SetSize("new", 1, 0, created_at=9)
    olds = [SetSize("a", 2, 0, created_at=1), SetSize("b", 2, 2, created_at=2)]
    # Three of four must stay; only what serves nobody may go: two of a.
    assert old_set_sizes(new, olds, 3, Limits(2, 0)) == {"a": 1}
    assert old_set_sizes(new, olds, 3, Limits(2, 1)) == {"a": 0}


def test_scaling_in_a_rollout_is_proportional() -> None:
    sets = [
        SetSize("old", 8, 8, created_at=1, noted_max=13),
        SetSize("new", 5, 5, created_at=2, noted_max=13),
    ]
    grown = proportional_sizes(sets, 15, Limits(3, 2))
    assert grown == {"old": 11, "new": 7}
    assert proportional_sizes(sets, 10, Limits(3, 2)) == {}
    assert proportional_sizes(sets, 0, Limits(3, 2)) == {"old": 0, "new": 0}


_set = st.builds(
    lambda wanted, missing, at: (wanted, max(wanted - missing, 0), at),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(0, 3),
)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), _set, st.lists(_set, max_size=3))
def test_one_step_keeps_the_bounds(
    replicas: int,
    surge: int,
    unavailable: int,
    new_values: tuple[int, int, int],
    old_values: list[tuple[int, int, int]],
) -> None:
    limits = Limits.of(surge, unavailable, replicas)
    new = SetSize("new", *new_values[:2], created_at=9)
    olds = [SetSize(f"o{i}", w, a, created_at=at) for i, (w, a, at) in enumerate(old_values)]
    before = new.wanted + sum(s.wanted for s in olds)
    grown = new_set_size(new, olds, replicas, limits)
    if grown > new.wanted:
        assert grown + sum(s.wanted for s in olds) <= replicas + limits.surge
        assert grown <= replicas
    sizes = old_set_sizes(new, olds, replicas, limits)
    assert all(size >= 0 for size in sizes.values())
    after = resized(olds, sizes)
    available_before = new.available + sum(s.available for s in olds)
    # The worst: a set that shrinks loses available Pods only after its broken ones.
    available_after = new.available + sum(min(s.available, s.wanted) for s in after)
    minimum = replicas - limits.unavailable
    assert available_after >= min(minimum, available_before)
    assert new.wanted + sum(s.wanted for s in after) <= before


@given(st.integers(0, 8), st.integers(0, 4), st.integers(0, 4), st.integers(0, 8))
def test_a_rollout_ends_and_never_leaves_the_bounds(
    replicas: int, surge: int, unavailable: int, old: int
) -> None:
    limits = Limits.of(surge, unavailable, replicas)
    steps = play(replicas, limits, old)
    assert steps[-1] == (0, replicas)
    for before, after in pairwise(steps):
        assert sum(after) <= max(replicas + limits.surge, sum(before))
        assert sum(after) >= min(replicas - limits.unavailable, sum(before))


@given(st.lists(_set, min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 4))
def test_scaling_meets_the_new_total(
    values: list[tuple[int, int, int]], replicas: int, surge: int
) -> None:
    sets = [SetSize(f"s{i}", w, a, created_at=at) for i, (w, a, at) in enumerate(values)]
    limits = Limits(surge, 1)
    sizes = proportional_sizes(sets, replicas, limits)
    assert all(size >= 0 for size in sizes.values())
    if any(s.wanted for s in sets):
        total = sum(s.wanted for s in resized(sets, sizes))
        assert total == (replicas + surge if replicas else 0)
