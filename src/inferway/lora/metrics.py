"""The syncer's metrics and the small server that shows them."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

from inferway.base.clock import Clock
from inferway.lora.messages import Report

# A scrape's request head is a few hundred bytes.
_HEAD_BYTES_MAX = 16 * 1024
_READ_SECONDS_MAX = 5.0


class Status:
    """What is known of one server and its adapters, for a scrape."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._report = Report(healthy=False, slots=0, adapters={})
        self._changed: dict[str, float] = {}
        self._notes: Counter[str] = Counter()
        self._valid = True
        self._configured_at = 0.0

    def update(self, report: Report) -> None:
        """Takes a Report; notes when adapters came and went."""
        before = self._report.adapters
        for name, state in report.adapters.items():
            known = before.get(name)
            if (known.root if known else "") != state.root:
                self._changed[name] = self._clock.wall()
        self._changed = {n: at for n, at in self._changed.items() if n in report.adapters}
        self._report = report

    def noted(self, reason: str) -> None:
        """Counts what an Event tells."""
        self._notes[reason] += 1

    def configured(self, valid: bool) -> None:
        """The file was read; where it is not valid, the last good one stays in force."""
        self._valid = valid
        if valid:
            self._configured_at = self._clock.wall()

    def render(self) -> str:
        """The exposition text."""
        adapters = self._report.adapters
        text = _Text()
        text.family(
            "lora_syncer_adapter_status", "Status of LoRA adapters (1=loaded, 0=not_loaded)"
        )
        for name, state in adapters.items():
            text.sample({"adapter_name": name}, float(state.loaded))
        text.family("inferway_lora_adapter_problem", "Adapters with a problem, and its reason")
        for name, state in adapters.items():
            if state.reason:
                text.sample({"adapter_name": name, "reason": state.reason}, 1.0)
        text.family(
            "inferway_lora_adapter_last_change_timestamp_seconds",
            "When an adapter was last loaded, replaced or unloaded",
        )
        for name, at in sorted(self._changed.items()):
            text.sample({"adapter_name": name}, at)
        text.family("inferway_lora_events_total", "What has happened, by reason", "counter")
        for reason, count in sorted(self._notes.items()):
            text.sample({"reason": reason}, float(count))
        text.family(
            "inferway_lora_configuration_valid", "1 if the file as it is can be used, else 0"
        )
        text.sample({}, float(self._valid))
        text.family(
            "inferway_lora_configuration_timestamp_seconds",
            "When the configuration in force was read",
        )
        text.sample({}, self._configured_at)
        text.family("inferway_lora_server_healthy", "1 if the model server is healthy, else 0")
        text.sample({}, float(self._report.healthy))
        if self._report.slots:
            text.family("inferway_lora_server_slots", "Adapters that fit in a batch (max_loras)")
            text.sample({}, float(self._report.slots))
        return text.whole()


class _Text:
    """Prometheus' text format."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._name = ""

    def family(self, name: str, help_text: str, kind: str = "gauge") -> None:
        self._name = name
        self._lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]

    def sample(self, labels: dict[str, str], value: float) -> None:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        self._lines.append(f"{self._name}{{{pairs}}} {value!r}" if pairs else
                           f"{self._name} {value!r}")  # fmt: skip

    def whole(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


async def serve(status: Status, host: str, port: int) -> asyncio.Server:
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
