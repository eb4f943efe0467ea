"""The block pool and the adapter slots against simple models of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.simulator.engine.adapters import AdapterSlots
from inferway.simulator.engine.blocks import BlockPool, chain_hashes, root_hash


def test_a_hash_chain_can_be_extended() -> None:
    tokens = list(range(20))
    whole = chain_hashes(1, tokens, 4)
    begun = chain_hashes(1, tokens[:8], 4)
    assert begun == whole[:2]
    assert chain_hashes(begun[-1], tokens, 4, done=2) == whole[2:]


def test_hashes_tell_parents_and_roots_apart() -> None:
    assert chain_hashes(1, [1, 2, 3, 4], 2)[1] != chain_hashes(1, [5, 6, 3, 4], 2)[1]
    assert len({root_hash("", ""), root_hash("a", ""), root_hash("", "a"), root_hash("b", "")}) == 4


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["take", "share", "release", "publish"]),
            st.integers(0, 3),
            st.integers(1, 4),
        ),
        max_size=60,
    )
)
def test_references_add_up(operations: list[tuple[str, int, int]]) -> None:
    pool = BlockPool(8)
    held: list[list[int]] = []
    for operation, which, count in operations:
        if operation == "take" and count <= pool.available:
            taken = pool.take(count)
            assert not set(taken) & {block for blocks in held for block in blocks}
            held.append(taken)
        elif operation == "publish" and held:
            pool.publish(held[which % len(held)][0], count)
        elif operation == "share":
            found = pool.match([count])
            if found:
                pool.share(found)
                held.append(found)
        elif operation == "release" and held:
            pool.release(held.pop(which % len(held)))
        assert pool.used == len({block for blocks in held for block in blocks})
    for blocks in held:
        pool.release(blocks)
    assert pool.available == 8


def test_more_blocks_than_there_are_is_a_programmers_mistake() -> None:
    with pytest.raises(AssertionError):
        BlockPool(2).take(3)


def test_adapters_leave_host_memory_last_used_first() -> None:
    slots = AdapterSlots(1, 2, host_load_seconds=1.0, disk_load_seconds=10.0)
    assert slots.preload("a") == 10.0
    assert slots.preload("b") == 10.0
    assert slots.preload("a") == 0.0
    assert slots.preload("c") == 10.0
    assert slots.on_host == ("a", "c")
    assert slots.use("a", ()) == 1.0
    assert slots.use("a", ()) == 0.0
    assert slots.use("c", ()) == 1.0
    assert slots.on_device == ("c",)
    slots.drop("c")
    assert slots.on_device == ()
