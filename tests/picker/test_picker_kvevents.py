"""KV events: what comes over the wire, in which order, and what hostile bytes do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferway.picker.kvevents import codec
from inferway.picker.kvevents.session import (
    REPLAY_AGAIN_SECONDS,
    REPLAY_SECONDS_MAX,
    Apply,
    Command,
    Live,
    Replay,
    Replayed,
    Session,
    Skip,
    Time,
)
from inferway.scheduling.events import BlocksCleared, BlocksRemoved, BlocksStored


def batch(*events: Any, rank: bool = True) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0] if rank else [1.5, list(events)])


STORED = BlocksStored([11, 12], 10, [1, 2, 3, 4], 2)


@pytest.mark.parametrize(
    "raw",
    [
        ["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, None],
        ["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, None, "GPU"],
        ["BlockStored", [11, 12], 10, [1, 2, 3, 4], 2, None, "GPU", None, None, 0, "full", None],
        {
            "type": "BlockStored",
            "block_hashes": [(11).to_bytes(32, "big"), (12).to_bytes(32, "big")],
            "parent_block_hash": (10).to_bytes(32, "big"),
            "token_ids": [1, 2, 3, 4],
            "block_size": 2,
            "medium": "GPU",
            "group_idx": 0,
            "something_new": {"a": [1]},
        },
    ],
)
@pytest.mark.parametrize("rank", [True, False])
def test_a_stored_block_in_all_encodings(raw: Any, rank: bool) -> None:
    assert codec.decode(batch(raw, rank=rank)) == codec.Batch([STORED])


def test_adapters_salts_media_and_groups() -> None:
    base = [[1], None, [5, 6], 2]
    found = codec.decode(
        batch(
            ["BlockStored", *base, 3, "GPU", "food"],
            ["BlockStored", *base, 3, "GPU", "food", [["food"]]],
            ["BlockStored", *base, 3],
            ["BlockStored", *base, None, "GPU", None, [["salt"]]],
            ["BlockStored", *base, None, "CPU"],
            ["BlockStored", *base, None, "GPU", None, None, 1],
            ["BlockRemoved", [1], "CPU"],
            ["BlockRemoved", [1, 2]],
            {"type": "BlockRemoved", "block_hashes": [3], "medium": None},
            ["AllBlocksCleared"],
            {"type": "AllBlocksCleared"},
            ["BlockMoved", [1]],
            ["BlockStored", [True], None, [1], 1],
            ["BlockStored", [1], None, ["x"], 1],
            7,
        )
    )
    assert found is not None
    adapters = [e.adapter for e in found.events if isinstance(e, BlocksStored)]
    assert adapters == ["food", "food", "\0", "\0"]
    assert found.events[4:] == [
        BlocksRemoved([1, 2]),
        BlocksRemoved([3]),
        BlocksCleared(),
        BlocksCleared(),
    ]
    assert found.skipped == 4


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"x", msgspec.msgpack.encode([1, 2]), b"\x91" * 9999]
)
def test_what_is_no_batch(payload: bytes) -> None:
    assert codec.decode(payload) is None


nested = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=9)
    | st.floats() | st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "GPU", ""]),
    lambda inner: st.lists(inner, max_size=9)
    | st.dictionaries(st.sampled_from([*codec._STORED, "type", "x"]), inner, max_size=9),
    max_leaves=40,
)  # fmt: skip


@pytest.mark.fuzz
@given(nested | st.builds(lambda events: [0.0, events], st.lists(nested)), st.binary(max_size=40))
def test_any_bytes_are_a_batch_or_none(value: Any, noise: bytes) -> None:
    assert isinstance(codec.decode(msgspec.msgpack.encode(value)), codec.Batch | None)
    assert isinstance(codec.decode(noise), codec.Batch | None)


# -- sequence ------------------------------------------------------------------------------


def message(number: int, *hashes: int) -> list[bytes]:
    removed = [["BlockRemoved", list(hashes)]] if hashes else []
    return [b"topic", number.to_bytes(8, "big"), batch(*removed)]


def removed(*hashes: int) -> Command:
    return Apply([BlocksRemoved(list(hashes))])


CLEARED = Apply([BlocksCleared()])
END = [b"", b"\xff" * 8, b""]


def test_from_the_beginning_in_order() -> None:
    session = Session(replays=True)
    assert session.handle(Live(message(0, 7)), 0.0) == [removed(7)]
    assert session.handle(Live(message(1, 8)), 0.0) == [removed(8)]
    assert session.handle(Live(message(2)), 0.0) == []
    assert not session.replaying
    assert session.messages == 3


def test_who_comes_late_asks_for_the_beginning() -> None:
    session = Session(replays=True)
    assert session.handle(Live(message(5, 5)), 0.0) == [Replay(0)]
    assert session.handle(Live(message(6, 6)), 0.1) == []
    # What was kept begins at 3.
    assert session.handle(Replayed(message(3, 3)), 0.2) == [removed(3)]
    assert session.handle(Replayed([b"", *message(4, 4)[1:]]), 0.2) == [removed(4)]
    assert session.handle(Replayed(message(5, 5)), 0.2) == [removed(5)]
    assert session.handle(Replayed(END), 0.3) == [removed(6)]
    assert session.handle(Live(message(7, 7)), 0.4) == [removed(7)]
    assert session.gaps == 0


def test_a_gap_is_filled_before_what_came_behind_it() -> None:
    session = Session(replays=True)
    session.handle(Live(message(0)), 0.0)
    assert session.handle(Live(message(3, 3)), 1.0) == [Replay(1)]
    found = [session.handle(Replayed(message(n, n)), 1.1) for n in (1, 2, 3)]
    assert found == [[removed(1)], [removed(2)], [removed(3)]]
    assert session.handle(Replayed(END), 1.2) == []
    assert session.gaps == 1
    assert session.skipped[Skip.LOST] == 0


def test_what_nobody_has_any_more_is_cleared() -> None:
    session = Session(replays=True)
    session.handle(Live(message(0)), 0.0)
    session.handle(Live(message(9, 9)), 1.0)
    assert session.handle(Replayed(message(8, 8)), 1.1) == [CLEARED, removed(8)]
    assert session.handle(Replayed(END), 1.2) == [removed(9)]
    assert session.skipped[Skip.LOST] == 7


def test_a_replay_that_does_not_come_is_given_up() -> None:
    session = Session(replays=True)
    session.handle(Live(message(0)), 0.0)
    assert session.handle(Live(message(2, 2)), 1.0) == [Replay(1)]
    assert session.handle(Time(), 1.0 + REPLAY_SECONDS_MAX / 2) == []
    assert session.handle(Time(), 1.0 + REPLAY_SECONDS_MAX) == [CLEARED, removed(2)]
    # Not again at once.
    assert session.handle(Live(message(4, 4)), 7.0) == [CLEARED, removed(4)]
    late = 1.0 + REPLAY_AGAIN_SECONDS
    assert session.handle(Live(message(6, 6)), late) == [Replay(5)]
    # Late answers of the first one do no harm.
    assert session.handle(Replayed(message(1, 1)), late) == []


def test_without_a_replay_socket_a_gap_clears() -> None:
    session = Session(replays=False)
    assert session.handle(Live(message(4, 4)), 0.0) == [removed(4)]
    assert session.handle(Live(message(6, 6)), 0.0) == [CLEARED, removed(6)]


def test_an_engine_that_starts_again() -> None:
    session = Session(replays=True)
    session.handle(Live(message(0)), 0.0)
    session.handle(Live(message(1)), 0.0)
    assert session.handle(Live(message(0, 3)), 1.0) == [CLEARED, removed(3)]
    assert session.handle(Live(message(1, 4)), 1.0) == [removed(4)]


def test_hostile_messages_are_counted() -> None:
    session = Session(replays=True)
    for frames in ([], [b"x"], [b"", b"short", b""], [b"", b"\xff" * 8, b""]):
        assert session.handle(Live(frames), 0.0) == []
    assert session.skipped[Skip.MALFORMED] == 4
    assert session.handle(Live([b"", bytes(8), b"\xc1"]), 0.0) == []
    assert session.skipped[Skip.MALFORMED] == 5
    assert session.handle(Live(message(1, 1)), 0.0) == [removed(1)]
    session.handle(Live([b"", (2).to_bytes(8, "big"), batch(["What"])]), 0.0)
    assert session.skipped[Skip.UNKNOWN_EVENT] == 1


@pytest.mark.fuzz
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["live", "replayed", "time"]), st.integers(0, 12) | st.just(2**64 - 1)
        )
    ),
    st.booleans(),
)
def test_any_order_ends_at_the_newest_number(steps: list[tuple[str, int]], replays: bool) -> None:
    session = Session(replays=replays)
    now = 0.0
    for kind, number in steps:
        now += 1.0
        frames = [b"", number.to_bytes(8, "big"), batch(["BlockRemoved", [number % 99]])]
        event = {"live": Live(frames), "replayed": Replayed(frames), "time": Time()}[kind]
        session.handle(event, now)
    session.handle(Time(), now + REPLAY_SECONDS_MAX)
    assert not session.replaying
    commands = session.handle(Live(message(20, 20)), now + REPLAY_AGAIN_SECONDS * 2)
    commands += session.handle(Time(), now + REPLAY_AGAIN_SECONDS * 3)
    assert commands[-1] == removed(20)
