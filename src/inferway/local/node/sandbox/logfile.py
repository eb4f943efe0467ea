"""Writes a container's output in the kubelet's format: ``TIME STREAM TAG TEXT`` for each line.

Knows files. A line longer than a limit is written in parts with tag ``P``, the last one ``F``.
"""

from __future__ import annotations

# pathlib would cost the launcher 10 ms of its start.
# ruff: noqa: PTH105, PTH110
import os
import time

# The kubelet's defaults: containerLogMaxSize 10Mi, containerLogMaxFiles 5.
FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_MAX = 5
# containerd cuts lines here too.
LINE_BYTES_MAX = 16 * 1024


class LogFile:
    """One file with its rotated predecessors ``PATH.1`` (youngest) to ``PATH.4``."""

    def __init__(self, path: str, *, bytes_max: int = FILE_BYTES_MAX) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._rest: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self._file = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        self._file = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640
        )
        self._size = os.fstat(self._file).st_size

    def write(self, stream: str, data: bytes) -> None:
        """Takes output as it comes; complete lines go to the file."""
        lines = (self._rest[stream] + data).split(b"\n")
        self._rest[stream] = lines.pop()
        stamp = f"{_now()} {stream} ".encode()
        out = []
        for line in lines:
            out += _parts(stamp, line)
        while len(self._rest[stream]) >= LINE_BYTES_MAX:
            out.append(stamp + b"P " + self._rest[stream][:LINE_BYTES_MAX] + b"\n")
            self._rest[stream] = self._rest[stream][LINE_BYTES_MAX:]
        if out:
            self._append(b"".join(out))

    def close(self) -> None:
        """Writes unfinished lines and closes."""
        for stream, rest in self._rest.items():
            if rest:
                self._append(f"{_now()} {stream} F ".encode() + rest + b"\n")
        self._rest = {"stdout": b"", "stderr": b""}
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._bytes_max:
            self._rotate()
        try:
            os.write(self._file, data)
        except OSError:
            # A full disk must not end the program whose output this is.
            return
        self._size += len(data)

    def _rotate(self) -> None:
        os.close(self._file)
        for number in range(FILES_MAX - 1, 0, -1):
            older = self._path if number == 1 else f"{self._path}.{number - 1}"
            if os.path.exists(older):
                os.replace(older, f"{self._path}.{number}")
        self._open()


def _parts(stamp: bytes, line: bytes) -> list[bytes]:
    parts = []
    while len(line) > LINE_BYTES_MAX:
        parts.append(stamp + b"P " + line[:LINE_BYTES_MAX] + b"\n")
        line = line[LINE_BYTES_MAX:]
    parts.append(stamp + b"F " + line + b"\n")
    return parts


def _now() -> str:
    nanoseconds = time.time_ns()
    moment = time.gmtime(nanoseconds // 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + f".{nanoseconds % 1_000_000_000:09d}Z"
