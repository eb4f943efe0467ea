"""Servers from a file: its format, what is refused, and a file that changes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from inferway.base.errors import UsageError
from inferway.picker import endpoint_file
from inferway.picker.endpoint_file import FileWatcher, load, parse
from inferway.scheduling.snapshot import Endpoint

DEADLINE_SECONDS = 5.0
GOOD = b"""
endpoints:
- {name: b, address: "10.0.0.2", port: "8000", labels: {llm-d.ai/role: decode}}
- {name: a, namespace: other, address: "2001:db8::1", port: 8001}
"""


def test_the_documented_format() -> None:
    endpoints, problems = parse(GOOD)
    assert problems == []
    assert [(e.address, e.name) for e in endpoints] == [
        ("10.0.0.2:8000", "b"),
        ("[2001:db8::1]:8001", "a"),
    ]
    assert endpoints[0].labels == {"llm-d.ai/role": "decode"}
    assert parse(json.dumps({"endpoints": []}).encode()) == ([], [])


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('{name: a, address: host, port: "1"}', "address 'host' is not an IP address"),
        ('{name: a, address: 10.0.0.1, port: "0"}', "port '0'"),
        ('{name: a, address: 10.0.0.1, port: "70000"}', "port '70000'"),
        ("{name: a, address: 10.0.0.1}", "`port`"),
        ('{address: 10.0.0.1, port: "1"}', "`name`"),
        ('{name: a, address: 10.0.0.1, port: "1", weight: 2}', "`weight`"),
        ('{name: a, address: 10.0.0.1, port: "1", labels: {a: 1}}', "labels"),
        ('{name: b, address: 10.0.0.1, port: "1"}', "'b' is used twice"),
        ('{name: a, address: 10.0.0.2, port: "8000"}', "10.0.0.2:8000 is listed twice"),
    ],
)
def test_a_wrong_entry_costs_itself(entry: str, words: str) -> None:
    endpoints, problems = parse(GOOD + f"- {entry}\n".encode())
    assert len(endpoints) == 2
    assert len(problems) == 1
    assert problems[0].startswith("endpoints[2]: ")
    assert words in problems[0]


@pytest.mark.parametrize(
    "data",
    [b"[", b"a: 1", b"endpoints: 1", b"endpoints: [1]", b"\xff\xfe\xfd", b"", b"#" * (2 << 20)],
)
def test_what_is_no_list_of_servers(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load(str(file))
    assert caught.value.code == "INFERWAY0408"
    assert str(file) in str(caught.value)


def test_mistakes_at_the_start_are_all_told(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yaml"
    file.write_text("endpoints: [{name: a}, {name: b, address: x, port: 1}]")
    with pytest.raises(UsageError) as caught:
        load(str(file))
    assert "endpoints[0]" in str(caught.value)
    assert "endpoints[1]" in str(caught.value)
    with pytest.raises(UsageError):
        load(str(tmp_path / "nothing"))


async def test_a_file_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_file, "LOOK_SECONDS", 0.005)
    file = tmp_path / "endpoints.yaml"
    file.write_bytes(GOOD)
    told: asyncio.Queue[list[str]] = asyncio.Queue()

    def apply(endpoints: list[Endpoint]) -> None:
        told.put_nowait([endpoint.name for endpoint in endpoints])

    def replace(text: str) -> None:
        other = tmp_path / "new"
        other.write_text(text)
        other.rename(file)

    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        work = tasks.create_task(FileWatcher(str(file), True, apply).run())
        assert await told.get() == ["b", "a"]
        replace('endpoints: [{name: c, address: 10.0.0.3, port: "1"}, {name: d}]')
        assert await told.get() == ["c"]
        # What can not be read changes nothing.
        file.unlink()
        replace("[")
        replace("endpoints: []")
        assert await told.get() == []
        work.cancel()
    assert told.empty()
