"""How log records look: one JSON object a line in Pods, one readable line on a terminal.

Knows the standard library only. Rooms log constant messages with ``extra={"data": {...}}``.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TextIO

from inferway.base.clock import rfc3339_micro


def _data_of(record: logging.LogRecord) -> dict[str, object]:
    data = getattr(record, "data", None)
    return data if isinstance(data, dict) else {}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": rfc3339_micro(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_data_of(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class LineFormatter(logging.Formatter):
    """A record as one line for people."""

    def format(self, record: logging.LogRecord) -> str:
        data = " ".join(f"{key}={value}" for key, value in _data_of(record).items())
        text = f"{record.levelname.lower():7} {record.getMessage()}"
        if record.exc_info:
            data = f"{data} {self.formatException(record.exc_info)}"
        return f"{text}  {data}".rstrip()


def install(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Sends all records to ``stream`` (stderr), as JSON unless it is a terminal."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    handler.setFormatter(LineFormatter() if target.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def install_file(path: str, level: str = "info") -> None:
    """Sends all records to a file, so that a terminal is left to what people read."""
    handler = logging.FileHandler(path)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
