"""Counts of ext_proc streams, where ``--enable-grpc-stream-metrics`` asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from inferway.observe.catalogue_gie import LATENCY_BUCKETS
from inferway.observe.histogram import Histogram
from inferway.observe.metric import Rows


class StreamCounts:
    """A source of metrics. Streams end with one of three codes of gRPC."""

    def __init__(self) -> None:
        self.open = 0
        self._ended: Counter[str] = Counter()
        self._seconds: dict[str, Histogram] = {}

    def ended(self, code: str, seconds: float) -> None:
        """A stream is over."""
        self._ended[code] += 1
        self._seconds.setdefault(code, Histogram(LATENCY_BUCKETS)).add((seconds,))

    def read(self) -> Iterator[tuple[str, Rows]]:
        yield "llm_d_epp_extproc_streams_inflight", {(): self.open}
        yield "llm_d_epp_extproc_streams_total", {(c,): n for c, n in self._ended.items()}
        seconds = {(code,): found.read() for code, found in self._seconds.items()}
        yield "llm_d_epp_extproc_stream_duration_seconds", seconds
