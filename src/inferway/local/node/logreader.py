"""Reads containers' log files as ``kubectl logs`` asks for them. Knows the kubelet's format.

``select`` is pure. ``LogTail`` follows a file that grows and rotates.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from inferway.local.node.sandbox.logfile import FILES_MAX

READ_BYTES = 256 * 1024
# A kubelet's limits of a message that is taken from a log.
MESSAGE_LINES_MAX = 80
MESSAGE_BYTES_MAX = 2048


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What is asked for; ``since_wall`` in seconds since the epoch, ``stream`` empty for both."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_wall: float | None = None
    stream: str = ""


def render(line: bytes, query: LogQuery) -> bytes | None:
    """The text of one line of the file, None if it is not wanted or not complete."""
    stamp, _, rest = line.partition(b" ")
    stream, _, rest = rest.partition(b" ")
    tag, _, text = rest.partition(b" ")
    if tag not in (b"F", b"P"):
        return None
    if query.stream and stream.decode(errors="replace") != query.stream:
        return None
    if query.since_wall is not None and _seconds(stamp) < query.since_wall:
        return None
    end = b"\n" if tag == b"F" else b""
    return (stamp + b" " if query.timestamps else b"") + text + end


def _seconds(stamp: bytes) -> float:
    try:
        text = stamp.decode("ascii")
        moment = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        return moment.timestamp() + float(f"0.{text[20:-1] or 0}")
    except ValueError:
        return 0.0


def select(lines: Iterable[bytes], query: LogQuery) -> Iterator[bytes]:
    """The wanted texts of all lines so far."""
    texts = [text for line in lines if (text := render(line, query)) is not None]
    if query.tail_lines is not None:
        texts = texts[len(texts) - query.tail_lines :] if query.tail_lines else []
    return limited(texts, query.limit_bytes)


def limited(texts: Iterable[bytes], limit: int | None) -> Iterator[bytes]:
    """Cuts after so many bytes."""
    left = limit
    for text in texts:
        if left is None:
            yield text
            continue
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)


def stored_lines(path: Path) -> list[bytes]:
    """All complete lines of a file and its rotated predecessors, the oldest first."""
    lines: list[bytes] = []
    for number in range(FILES_MAX - 1, -1, -1):
        file = path if number == 0 else path.with_name(f"{path.name}.{number}")
        if file.exists():
            data = file.read_bytes()
            lines += data[: data.rfind(b"\n") + 1].splitlines()
    return lines


def last_words(path: Path) -> str:
    """The end of a log as a termination message: at most 80 lines and 2048 bytes."""
    try:
        lines = stored_lines(path)
    except OSError:
        return ""
    texts = list(select(lines, LogQuery(tail_lines=MESSAGE_LINES_MAX)))
    return b"".join(texts)[-MESSAGE_BYTES_MAX:].decode(errors="replace")


class LogTail:
    """New lines of a file since the last look. ``close`` it afterwards."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(self._file, 0, os.SEEK_END)

    def read(self) -> list[bytes]:
        """Lines that were completed; a rotated file is read to its end first."""
        data = self._rest + os.read(self._file, READ_BYTES)
        if data == self._rest and self._is_rotated():
            os.close(self._file)
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            data = self._rest + os.read(self._file, READ_BYTES)
        lines = data.split(b"\n")
        self._rest = lines.pop()
        return lines

    def _is_rotated(self) -> bool:
        try:
            return self._path.stat().st_ino != os.fstat(self._file).st_ino
        except OSError:
            return False

    def close(self) -> None:
        os.close(self._file)
