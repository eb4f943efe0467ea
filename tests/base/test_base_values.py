"""Tables of the base room's conversions."""

from __future__ import annotations

from decimal import Decimal

import pytest

from inferway.base import durations, quantities
from inferway.base.clock import ManualClock, parse_rfc3339, rfc3339, rfc3339_micro
from inferway.base.errors import InferwayError, UsageError
from inferway.base.ids import CountingIds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300s", 300), ("0", 0), ("0s", 0), ("1h2m3.5s", 3723.5), ("100ms", 0.1), ("-2m", -120),
     (".5s", 0.5)],
)  # fmt: skip
def test_go_durations(text: str, seconds: float) -> None:
    assert durations.parse_go(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1h 2m", "1hx", "--1s"])
def test_bad_go_durations(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        durations.parse_go(text)


@pytest.mark.parametrize("text", ["1.5s", "-1s", "123456s", "1us", "1h1m1s1ms1h"])
def test_gateway_durations_are_a_subset(text: str) -> None:
    with pytest.raises(ValueError, match="invalid duration"):
        durations.parse_gateway(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("10Gi", str(10 * 2**30)), ("11", "11"), ("1e3", "1000"), ("2k", "2000"),
     (4, "4"), (".5", "0.5"), ("1E", str(10**18))],
)  # fmt: skip
def test_quantities(text: str | int, number: str) -> None:
    assert quantities.parse(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GB", "abc"])
def test_bad_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantities.parse(text)


def test_times_round_trip() -> None:
    clock = ManualClock(wall=1_700_000_000.25)
    clock.advance(1.5)
    assert clock.monotonic() == 1.5
    assert rfc3339(clock.wall()) == "2023-11-14T22:13:21Z"
    assert rfc3339_micro(clock.wall()) == "2023-11-14T22:13:21.750000Z"
    assert parse_rfc3339("2023-11-14T22:13:21Z") == 1_700_000_001


def test_counting_ids_differ() -> None:
    ids = CountingIds()
    made = {ids.uid() for _ in range(50)} | {ids.suffix() for _ in range(50)}
    assert len(made) == 100


def test_an_error_says_what_which_and_what_to_do() -> None:
    error = UsageError("INFERWAY0199", "port 80 is in use", about="gateway/x", fix="Free it.")
    assert str(error) == "gateway/x: port 80 is in use [INFERWAY0199]\n  Free it."
    assert isinstance(error, InferwayError)
    assert error.exit_code == 2
