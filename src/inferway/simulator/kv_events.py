"""``--kv-events-config``: what the engine's cache holds, published as vLLM does over ZeroMQ.

A message is topic, sequence number (8 bytes, big-endian) and a msgpack batch ``[time, events,
rank]``, its events maps with their type under ``type``. The replay socket is a ROUTER: it answers a
number with all kept messages from there on, and an empty payload under number -1 as the end.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from inferway.base.errors import InferwayError
from inferway.simulator.engine.values import BlockLog, StoredBlocks
from inferway.simulator.kv_events_config import KvEventsConfig

_END = (-1).to_bytes(8, "big", signed=True)


def encode(log: Iterable[BlockLog], block_size: int, now: float) -> bytes:
    """A batch of one step."""
    events: list[Mapping[str, Any]] = []
    for one in log:
        if isinstance(one, StoredBlocks):
            events.append(
                {
                    "type": "BlockStored",
                    "block_hashes": one.hashes,
                    "parent_block_hash": one.parent,
                    "token_ids": one.tokens,
                    "block_size": block_size,
                    "lora_id": None,
                    "medium": "GPU",
                    "lora_name": one.adapter or None,
                    "extra_keys": [[one.salt]] if one.salt else None,
                }
            )
        else:
            events.append({"type": "BlockRemoved", "block_hashes": one.hashes, "medium": "GPU"})
    return msgspec.msgpack.encode([now, events, 0])


class KvPublisher:
    """The two sockets. ``host`` stands for all addresses where a Pod has one of its own."""

    def __init__(self, config: KvEventsConfig, block_size: int, host: str) -> None:
        self._topic = config.topic.encode()
        self._block_size = block_size
        self._number = 0
        self._kept: deque[tuple[bytes, bytes]] = deque(maxlen=config.buffer_steps)
        self._context = zmq.asyncio.Context()
        # Sending never waits, so it needs no event loop.
        self._live: zmq.Socket[bytes] = zmq.Context.shadow(self._context).socket(zmq.PUB)
        self._live.setsockopt(zmq.SNDHWM, config.hwm)
        self._replay: zmq.asyncio.Socket | None = None
        try:
            self._live.bind(_address(config.endpoint, host))
            if config.replay_endpoint:
                self._replay = self._context.socket(zmq.ROUTER)
                self._replay.bind(_address(config.replay_endpoint, host))
        except zmq.ZMQError as error:
            self.close()
            raise InferwayError(
                "INFERWAY0506",
                f"cannot publish KV events: {error}",
                about=config.endpoint,
                fix="choose another endpoint in --kv-events-config",
            ) from None

    def publish(self, log: Sequence[BlockLog]) -> None:
        """One message."""
        number = self._number.to_bytes(8, "big")
        self._number += 1
        payload = encode(log, self._block_size, time.time())
        self._kept.append((number, payload))
        self._live.send_multipart([self._topic, number, payload], zmq.DONTWAIT)

    async def run(self) -> None:
        """Answers replays until cancelled."""
        while self._replay is not None:
            frames = await self._replay.recv_multipart()
            if len(frames) < 2 or len(frames[-1]) != 8:
                continue
            for number, payload in list(self._kept):
                if number >= frames[-1]:
                    await self._replay.send_multipart([frames[0], b"", number, payload])
            await self._replay.send_multipart([frames[0], b"", _END, b""])

    def close(self) -> None:
        """Gives the ports back."""
        self._live.close(linger=0)
        if self._replay is not None:
            self._replay.close(linger=0)
        self._context.term()


def _address(endpoint: str, host: str) -> str:
    """On the host's network a Pod has one address and must not take all."""
    if "*" not in endpoint or host in ("", "0.0.0.0", "::"):
        return endpoint
    return endpoint.replace("*", f"[{host}]" if ":" in host else host)
