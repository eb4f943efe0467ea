"""The native filter's putting back of names, called from Python, against the picker's own."""

from __future__ import annotations

import ctypes
import itertools
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.restore import ModelRestorer

KEY_BYTES_MAX = 8
NATIVE = Path(__file__).parent.parent.parent / "native"
NAME = b'"the \\u00e9\\"alias"'
Restored = Callable[[Sequence[bytes], bool], list[tuple[bytes, bool]]]


class _Restore(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_size_t),
        ("depth", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("key_length", ctypes.c_ubyte),
        ("key", ctypes.c_char * KEY_BYTES_MAX),
        ("events", ctypes.c_bool),
        ("escaped", ctypes.c_bool),
        ("held", ctypes.c_bool),
    )


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("memory", ctypes.c_void_p),
        ("start", ctypes.c_size_t),
        ("length", ctypes.c_size_t),
        ("size", ctypes.c_size_t),
    )


@pytest.fixture(scope="session")
def restored(c_compiler: str, tmp_path_factory: pytest.TempPathFactory) -> Restored:
    """Feeds pieces; what is to be sent in the place of each, and whether that is something else."""
    made = tmp_path_factory.mktemp("restore") / "restore.so"
    sources = (NATIVE / "restore.c", NATIVE / "buffer.c")
    subprocess.run([c_compiler, "-O2", "-shared", "-fPIC", "-o", made, *sources], check=True)
    library = ctypes.CDLL(str(made))
    start, feed, take = library.restore_start, library.restore_feed, library.buffer_take
    restore, buffer = ctypes.POINTER(_Restore), ctypes.POINTER(_Buffer)
    flag = ctypes.POINTER(ctypes.c_bool)
    start.argtypes = [restore, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_bool]
    feed.argtypes = [restore, ctypes.c_char_p, ctypes.c_size_t, buffer, flag]
    take.argtypes = [buffer, ctypes.c_size_t]
    start.restype = take.restype = None
    feed.restype = ctypes.c_bool
    to = _Buffer()

    def run(pieces: Sequence[bytes], events: bool) -> list[tuple[bytes, bool]]:
        machine = _Restore()
        start(machine, NAME, len(NAME), events)
        found = []
        for piece in pieces:
            changed = ctypes.c_bool()
            assert feed(machine, piece, len(piece), to, changed)
            said = ctypes.string_at(to.memory + to.start, to.length) if to.length else b""
            found.append((said, changed.value))
            take(to, to.length)
        return found

    return run


def as_by_the_picker(restored: Restored, pieces: Sequence[bytes], events: bool) -> bytes:
    machine = ModelRestorer(NAME, events=events)
    found = restored(pieces, events)
    assert [said for said, _ in found] == [machine.feed(piece) for piece in pieces]
    for (said, changed), piece in zip(found, pieces, strict=True):
        assert changed or said == piece
    return b"".join(said for said, _ in found)


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(body), *(one % (len(body) + 1) for one in cuts)})
    return [body[start:end] for start, end in itertools.pairwise(places)]


@pytest.mark.parametrize(
    ("body", "events", "wanted"),
    [
        (b'{"model": "m", "x": "m"}', False, b'{"model": N, "x": "m"}'),
        (b'{"message": {"model" :"a\\"b"}}', False, b'{"message": {"model" :N}}'),
        (b'{"choices": [{"model": "m"}]}', False, b'{"choices": [{"model": "m"}]}'),
        (b'data: {"model": "m"}\n\n' * 2, True, b'data: {"model": N}\n\n' * 2),
        (b'data: {"model": "m\ndata: {}\n', True, b'data: {"model": N\ndata: {}\n'),
        (b'event: {"model": "m"}\n', True, b'event: {"model": "m"}\n'),
    ],
)
def test_answers(restored: Restored, body: bytes, events: bool, wanted: bytes) -> None:
    wanted = wanted.replace(b"N", NAME)
    assert as_by_the_picker(restored, [body], events) == wanted
    single = [body[at : at + 1] for at in range(len(body))]
    assert as_by_the_picker(restored, single, events) == wanted


_PARTS = st.sampled_from(
    [
        *('"model"', '"message"', '"response"', '"models"', '"m\\"', '"model\\u0020"', '"m"'),
        *(":", " ", ",", "{", "}", "[", "]", '"', "\\", "\n", "\r", "data:", "data: {", "1"),
    ]
)


@given(st.lists(_PARTS, max_size=40), st.booleans(), st.lists(st.integers(0), max_size=20))
def test_the_picker_does_the_same(
    restored: Restored, parts: list[str], events: bool, cuts: list[int]
) -> None:
    """Also where the text is no JSON."""
    as_by_the_picker(restored, cut("".join(parts).encode(), cuts), events)


@given(
    st.dictionaries(
        st.sampled_from(["model", "message", "response", "x"]),
        st.text() | st.dictionaries(st.sampled_from(["model", "x"]), st.text()),
    ),
    st.booleans(),
    st.lists(st.integers(0)),
)
def test_json_stays_json(
    restored: Restored, document: dict[str, object], events: bool, cuts: list[int]
) -> None:
    text = json.dumps(document).encode()
    body = b"data: %b\n\n" % text if events else text
    found = as_by_the_picker(restored, cut(body, cuts), events)
    made = json.loads(found.removeprefix(b"data: "))
    if isinstance(document.get("model"), str):
        assert made["model"] == json.loads(NAME)
    assert set(made) == set(document)


@given(st.binary(), st.booleans(), st.lists(st.integers(0)))
def test_any_bytes_are_survived(
    restored: Restored, body: bytes, events: bool, cuts: list[int]
) -> None:
    as_by_the_picker(restored, cut(body, cuts), events)
