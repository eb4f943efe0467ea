"""Several pickers in simulated time: what they tell each other matters."""

from __future__ import annotations

import pytest

from inferway.bench import pickers
from inferway.bench.policy_traces import traces


@pytest.mark.slow
def test_pickers_that_talk_place_as_one_does() -> None:
    trace = next(one for one in traces(None) if one.name == "same-prefix-bursts")
    rows = pickers.compared(trace, 3, 120)
    assert [(row["pickers"], row["told"]) for row in rows] == [
        (1, "yes"),
        (2, "yes"),
        (4, "yes"),
        (2, "no"),
        (4, "no"),
    ]
    cached = [float(str(row["cached"])) for row in rows]
    # A burst of one prompt stays together only where the others hear of its first request.
    assert min(cached[1:3]) > max(cached[3:])
