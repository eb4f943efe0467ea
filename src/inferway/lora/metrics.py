"""The syncer's one metric and the small server that shows it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

# A scrape's request head is a few hundred bytes.
_HEAD_BYTES_MAX = 16 * 1024
_READ_SECONDS_MAX = 5.0


class AdapterStatus:
    """``lora_syncer_adapter_status``: 1 loaded, 0 not."""

    def __init__(self) -> None:
        self._values: dict[str, bool] = {}

    def update(self, loaded: dict[str, bool]) -> None:
        self._values.update(loaded)

    def keep(self, names: set[str]) -> None:
        """Drops adapters that the configuration does not name."""
        self._values = {name: value for name, value in self._values.items() if name in names}

    def render(self) -> str:
        """The exposition text."""
        name = "lora_syncer_adapter_status"
        lines = [
            f"# HELP {name} Status of LoRA adapters (1=loaded, 0=not_loaded)",
            f"# TYPE {name} gauge",
        ]
        for adapter, value in sorted(self._values.items()):
            escaped = adapter.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
            lines.append(f'{name}{{adapter_name="{escaped}"}} {float(value)}')
        return "\n".join(lines) + "\n"


async def serve(status: AdapterStatus, host: str, port: int) -> asyncio.Server:
    """Answers every GET with the metrics. Raises OSError where the address cannot be had."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_READ_SECONDS_MAX):
                await reader.readuntil(b"\r\n\r\n")
                body = status.render().encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"
                    b"\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
                )
                await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, host, port, limit=_HEAD_BYTES_MAX)
