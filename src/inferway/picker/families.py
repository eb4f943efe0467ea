"""Which published names of metrics a picker shows."""

from __future__ import annotations

from inferway.base.errors import UsageError
from inferway.observe.catalogue import families
from inferway.observe.metric import Family
from inferway.picker.flags import Options

FLAG = "metric-families"


def metric_families(options: Options) -> frozenset[Family]:
    """What the flag asks for. Raises UsageError."""
    text = options.values.get(FLAG, "own,gie,llm-d")
    try:
        return families(text)
    except ValueError:
        raise UsageError(
            "INFERWAY0403",
            f"--{FLAG}: {text!r} names a family that there is not",
            fix=f"Choose of {', '.join(Family)}.",
        ) from None
