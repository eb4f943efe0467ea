"""``--kv-events-config`` as vLLM reads it."""

from __future__ import annotations

import msgspec

from inferway.base.errors import UsageError


class KvEventsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The flag's JSON, with vLLM's names and defaults."""

    enable_kv_cache_events: bool = False
    publisher: str = "zmq"
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    buffer_steps: int = 10_000
    hwm: int = 100_000
    max_queue_size: int = 100_000
    topic: str = ""

    @property
    def publishes(self) -> bool:
        """Whether there is anything to open."""
        return self.enable_kv_cache_events and self.publisher == "zmq"


def parse(text: str) -> KvEventsConfig:
    """Raises UsageError."""
    try:
        return msgspec.json.decode(text, type=KvEventsConfig)
    except msgspec.DecodeError as error:
        raise UsageError(
            "INFERWAY0501",
            f"--kv-events-config {text!r}: {error}",
            fix='write \'{"enable_kv_cache_events": true, "endpoint": "tcp://*:5557"}\'',
        ) from None
