"""Model servers from a file instead of from Kubernetes, as llm-d's ``file-discovery`` reads it.

YAML or JSON: ``endpoints: [{name, namespace, address, port, labels}]``. At the start every mistake
is an error; a file that changes while the picker runs costs only the entries that are wrong, and
one that can not be read at all changes nothing. Other than llm-d's it takes IPv6 addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from inferway.base.errors import UsageError
from inferway.scheduling.snapshot import Endpoint

_log = logging.getLogger(__name__)

# As llm-d has it: some ten thousand servers.
FILE_BYTES_MAX = 1024 * 1024
# How soon a changed file counts. Looking is one call of the kernel; it sees a file that took the
# place of another, and a ConfigMap's link that points elsewhere.
LOOK_SECONDS = 1.0
EXAMPLE = 'endpoints: [{name: vllm-0, address: "10.0.0.1", port: "8000"}]'


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    address: str
    port: str | int
    namespace: str = "default"
    labels: dict[str, str] = {}


class _File(msgspec.Struct, forbid_unknown_fields=True):
    endpoints: list[dict[str, Any]] = []


def parse(data: bytes) -> tuple[list[Endpoint], list[str]]:
    """Servers sorted by address, and what is wrong. Raises ValueError if nothing can be read."""
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"it has {len(data)} bytes; {FILE_BYTES_MAX} are the most")
    try:
        document = yaml.safe_load(data)
        entries = msgspec.convert(document, _File).endpoints
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    found: dict[str, Endpoint] = {}
    names: set[tuple[str, str]] = set()
    problems = []
    for index, raw in enumerate(entries):
        try:
            one = msgspec.convert(raw, _Entry)
            address = _address(one)
            if (one.namespace, one.name) in names:
                raise ValueError(f"the name {one.name!r} is used twice")
            if address in found:
                raise ValueError(f"{address} is listed twice")
        except ValueError as error:
            problems.append(f"endpoints[{index}]: {error}")
            continue
        names.add((one.namespace, one.name))
        found[address] = Endpoint(address, one.name, one.labels)
    return [found[address] for address in sorted(found)], problems


def _address(entry: _Entry) -> str:
    try:
        ip = ipaddress.ip_address(entry.address)
    except ValueError:
        raise ValueError(f"address {entry.address!r} is not an IP address") from None
    text = str(entry.port)
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError(f"port {text!r} is not a number from 1 to 65535")
    return f"[{ip}]:{text}" if ip.version == 6 else f"{ip}:{text}"


def load(path: str) -> list[Endpoint]:
    """All servers of a file. Raises UsageError."""
    try:
        endpoints, problems = parse(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(
            "INFERWAY0408", f"it can not be read: {error}", about=path, fix=EXAMPLE
        ) from None
    if problems:
        raise UsageError("INFERWAY0408", "; ".join(problems), about=path, fix=EXAMPLE)
    return endpoints


class FileWatcher:
    """Tells the servers of a file, and again after each change where that is wanted."""

    def __init__(self, path: str, watch: bool, apply: Callable[[list[Endpoint]], None]) -> None:
        self._path = Path(path)
        self._watch = watch
        self._apply = apply

    async def run(self) -> None:
        """Works until cancelled. Raises UsageError for a file that is wrong at the start."""
        seen = self._look()
        self._apply(load(str(self._path)))
        while self._watch:
            await asyncio.sleep(LOOK_SECONDS)
            now = self._look()
            if now != seen:
                seen = now
                self._read_again()

    def _look(self) -> tuple[int, int, int] | None:
        try:
            at = self._path.stat()
        except OSError:
            return None
        return at.st_ino, at.st_mtime_ns, at.st_size

    def _read_again(self) -> None:
        about = {"file": str(self._path)}
        try:
            endpoints, problems = parse(self._path.read_bytes())
        except (OSError, ValueError) as error:
            # Writing takes a moment; what was known serves until the file can be read.
            _log.warning("endpoints unchanged", extra={"data": {**about, "problem": str(error)}})
            return
        if problems:
            _log.warning("endpoints left out", extra={"data": {**about, "problems": problems}})
        self._apply(endpoints)
