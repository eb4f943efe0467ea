"""What an EndpointPickerConfig asks of the parts around the profiles, as frozen values.

Filters, scorers, pickers and handlers become a policy. Flow control, metrics sources, parsers and
discovery belong to other parts of the picker: here is what a configuration says of them, checked
and with every default filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The published pickers' limits of a band and of waiting, which hold where a file says nothing.
BAND_BYTES_MAX = 1_000_000_000
BAND_REQUESTS_MAX = 5000
REQUEST_TTL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One plugin that another part carries out: its parameters checked, defaults filled in.

    Durations among the parameters are seconds.
    """

    type: str
    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BandSettings:
    """One priority band. ``request_ttl_seconds`` None: as for all; 0: no limit."""

    priority: int
    fairness: Setting
    ordering: Setting
    max_bytes: int = BAND_BYTES_MAX
    max_requests: int = BAND_REQUESTS_MAX
    request_ttl_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """Flow control. ``gate`` is what ``featureGates`` say of it; None: nothing. ``given`` says
    whether anything else does.

    ``max_bytes`` and ``max_requests`` 0 and a time of 0 mean no limit. ``default_band`` is the
    template of bands that are not listed, ``negative_band`` of those below 0; their own priority
    has no meaning.
    """

    gate: bool | None
    bands: Sequence[BandSettings]
    default_band: BandSettings
    negative_band: BandSettings
    usage_limit: Setting
    detector: Setting
    max_bytes: int = 0
    max_requests: int = 0
    request_ttl_seconds: float = REQUEST_TTL_SECONDS
    no_endpoint_ttl_seconds: float = REQUEST_TTL_SECONDS
    given: bool = False
    eviction: bool = False
    eviction_filter: Setting | None = None
    eviction_order: Setting | None = None


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Where metrics and endpoints come from; None: as the flags say.

    ``parsers`` are the types of an explicit list, which read no paths but their own; none: any.
    """

    metrics: Setting | None = None
    extractor: Setting | None = None
    discovery: Setting | None = None
    parsers: tuple[str, ...] = ()
