"""The parts without I/O: selectors, JSONPath, SPDY frames, protobuf, ages, the store."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.local.apiserver.http import protobuf, spdy
from inferway.local.apiserver.registry.errors import StatusError
from inferway.local.apiserver.registry.jsonpath import compile_path
from inferway.local.apiserver.registry.selectors import parse_labels
from inferway.local.apiserver.registry.table import duration
from inferway.local.apiserver.storage.database import Database
from inferway.local.apiserver.storage.store import Store, StoreLimits
from inferway.local.apiserver.storage.values import CompactedError, Index, Key, Render


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a in (b, c)", {"a": "c"}, True),
        ("a notin (b),x", {"x": ""}, True),
        ("!a", {"a": ""}, False),
        ("n>3", {"n": "4"}, True),
        ("n<3", {"n": "x"}, False),
        ("app.kubernetes.io/name=x", {"app.kubernetes.io/name": "x"}, True),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], matches: bool) -> None:
    assert all(term.matches(labels) for term in parse_labels(text)) is matches


@pytest.mark.parametrize("text", ["a b", "=x", "a in b", "a=b c", "(", "a=-"])
def test_label_selectors_that_are_none(text: str) -> None:
    with pytest.raises(StatusError) as caught:
        parse_labels(text)
    assert caught.value.code == 400


OBJECT = {
    "metadata": {"labels": {"a.b/c": "x"}},
    "status": {"conditions": [{"type": "A", "ok": True}, {"type": "B"}], "n": [1, 2]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".status.n", [[1, 2]]),
        (".status.n[0]", [1]),
        (".status.n[-1]", [2]),
        (".status.n[*]", [1, 2]),
        (".status.n[9]", []),
        ('.status.conditions[?(@.type=="A")].ok', [True]),
        (".status.conditions[?(@.ok==true)].type", ["A"]),
        (r".metadata.labels.a\.b/c", []),
        (r".metadata.labels['a.b/c']", ["x"]),
        (".nothing.there", []),
    ],
)
def test_json_paths(path: str, found: list[Any]) -> None:
    try:
        assert compile_path(path)(OBJECT) == found
    except ValueError:
        assert "/" in path


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (7 * 3600 + 60, "7h1m"),
        (47 * 3600, "47h"),
        (3 * 86400 + 3600, "3d1h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
        (-5, "<invalid>"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def _opening(stream: int, headers: dict[str, str]) -> bytes:
    block = struct.pack(">I", len(headers))
    for name, value in headers.items():
        for word in (name.encode(), value.encode()):
            block += struct.pack(">I", len(word)) + word
    deflate = zlib.compressobj(zdict=spdy.dictionary())
    packed = deflate.compress(block) + deflate.flush(zlib.Z_SYNC_FLUSH)
    payload = struct.pack(">IIH", stream, 0, 0) + packed
    return struct.pack(">HHI", 0x8003, 1, len(payload)) + payload


@given(st.lists(st.integers(1, 40), max_size=30))
def test_spdy_frames_may_be_cut_anywhere(cuts: list[int]) -> None:
    headers = {"streamtype": "data", "port": "80", "requestid": "0"}
    wire = _opening(1, headers) + spdy.Session().data(1, b"hello", finished=True)
    session, events, position = spdy.Session(), [], 0
    for size in [*cuts, len(wire)]:
        events += session.receive(wire[position : position + size])
        position += size
    assert events == [spdy.Opened(1, headers, False), spdy.Received(1, b"hello", True)]


def test_spdy_refuses_what_it_is_not() -> None:
    with pytest.raises(spdy.SpdyError):
        spdy.Session().receive(b"\x80\x02\x00\x01\x00\x00\x00\x00")
    with pytest.raises(spdy.SpdyError):
        spdy.Session().receive(b"\x80\x03\x00\x01\x00\x00\x00\x0c" + b"x" * 12)


# ConfigMap "foo" with the data a=b, as client-go writes it.
CONFIG_MAP = bytes.fromhex(
    "6b3873000a0f0a02763112 09436f6e6669674d6170 121d0a130a03666f6f12001a0022002a003200 38004200"
    "12060a0161120162 1a002200"
)


def test_protobuf_becomes_the_json_that_it_stands_for() -> None:
    decoded = protobuf.decode(protobuf.load_table(), CONFIG_MAP)
    assert decoded == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "foo"},
        "data": {"a": "b"},
    }


@pytest.fixture(scope="module")
def wire_table() -> protobuf.WireTable:
    return protobuf.load_table()


@given(st.binary(max_size=200), st.integers(4, len(CONFIG_MAP)))
def test_broken_protobuf_is_an_error_of_its_own(
    wire_table: protobuf.WireTable, noise: bytes, cut: int
) -> None:
    for body in (noise, b"k8s\x00" + noise, CONFIG_MAP[:cut] + noise):
        with contextlib.suppress(protobuf.WireError):
            assert isinstance(protobuf.decode(wire_table, body), dict)


def _render(text: str) -> Render:
    return lambda revision: b'{"metadata":{"name":"%s","rv":"%d"}}' % (text.encode(), revision)


def _index(resource: str, obj: dict[str, Any]) -> Index:
    return Index({}, {})


operations = st.lists(
    st.tuples(st.sampled_from(["write", "delete"]), st.sampled_from("abcd")), max_size=40
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(operations, st.integers(3, 60))
def test_the_log_leads_back_to_every_state(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]], kept: int
) -> None:
    """Listing at a revision gives what was there, or says that it has left the log."""
    database = Database(tmp_path_factory.mktemp("store") / "objects.db")
    store = Store(database, _index, StoreLimits(log_revisions_max=kept))
    states = {0: {}}
    try:
        for action, name in steps:
            key = Key("things.", "", name)
            current = store.get(key)
            if action == "write" and current is None:
                store.create(key, _render(name))
            elif action == "write":
                store.update(key, _render(name))
            elif current is not None:
                store.delete(key, _render(name))
            objects = store.objects("things.")
            states[store.revision] = {s.key.name: s.revision for s in objects}
        for revision, state in states.items():
            try:
                found = store.objects_at("things.", "", revision)
            except CompactedError:
                assert revision < store.compacted
            else:
                assert {s.key.name: s.revision for s in found} == state
        before = {s.key: s.body for s in store.objects("things.")}
    finally:
        store.close()
    database = Database(database.file)
    store = Store(database, _index)
    assert {s.key: s.body for s in store.objects("things.")} == before
    assert store.revision == max(states)
    store.close()


def test_a_store_refuses_large_objects(tmp_path: Path) -> None:
    limits = StoreLimits(object_bytes_max=50)
    store = Store(Database(tmp_path / "objects.db"), _index, limits)
    with pytest.raises(Exception, match="100") as caught:
        store.create(Key("things.", "", "a"), lambda revision: b" " * 100)
    assert type(caught.value).__name__ == "TooLargeError"
    assert store.revision == 0
    store.close()
