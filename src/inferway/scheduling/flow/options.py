"""What a pool's flow control does, as values; the defaults are Inferway's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from inferway.scheduling.flow.capacity import Detector, StartSoonDetector
from inferway.scheduling.flow.fairness import Fairness, TokenFairness
from inferway.scheduling.flow.ordering import Ordering, first_come
from inferway.scheduling.flow.usage import Static, UsageLimit

# Of one band, as in the published pickers.
BAND_BYTES_MAX = 1_000_000_000
BAND_REQUESTS_MAX = 5000
# Of all bands together, where a configuration names no limit: each request holds its body here and
# in its proxy.
BYTES_MAX = 2_000_000_000
REQUESTS_MAX = 20_000
# While the pool has no endpoint.
EMPTY_REQUESTS_MAX = 1000
TTL_SECONDS = 60.0


class BandOptions(msgspec.Struct, frozen=True):
    """One band. ``ttl_seconds`` None: as for all; ``max_requests`` 0: nobody waits."""

    fairness: Callable[[], Fairness] = TokenFairness
    ordering: Ordering = first_come
    max_bytes: int = BAND_BYTES_MAX
    max_requests: int = BAND_REQUESTS_MAX
    ttl_seconds: float | None = None


class FlowOptions(msgspec.Struct, frozen=True):
    """All of it. A time of 0 is no limit, but for an empty pool it means that nobody waits.

    ``patience_seconds`` is how long proxies wait for the picker: nobody waits longer.
    """

    bands: Mapping[int, BandOptions] = {}
    default_band: BandOptions = BandOptions()
    # Requests below priority 0 may be shed: they do not wait, unless a configuration lets them.
    negative_band: BandOptions = BandOptions(max_requests=0)
    max_bytes: int = BYTES_MAX
    max_requests: int = REQUESTS_MAX
    ttl_seconds: float = TTL_SECONDS
    empty_ttl_seconds: float = 0.0
    empty_max_requests: int = EMPTY_REQUESTS_MAX
    patience_seconds: float = TTL_SECONDS
    usage_limit: UsageLimit = Static()
    detector: Callable[[], Detector] = StartSoonDetector

    def band(self, priority: int) -> BandOptions:
        """What holds for a priority."""
        found = self.bands.get(priority)
        if found is not None:
            return found
        return self.negative_band if priority < 0 else self.default_band
