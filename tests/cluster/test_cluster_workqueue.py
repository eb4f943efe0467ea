"""The queue and its workers."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from inferway.cluster.backoff import Backoff
from inferway.cluster.errors import ConflictError
from inferway.cluster.workqueue import WorkQueue, run_reconciler


async def test_keys_coalesce_and_keep_their_order() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in "abacab":
        assert queue.add(key)
    assert [await queue.get() for _ in range(len(queue))] == ["a", "b", "c"]


async def test_a_key_in_work_comes_back_once_it_is_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "b"
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    queue.done("b")
    assert queue.idle


async def test_a_full_queue_refuses_new_keys_only() -> None:
    queue: WorkQueue[str] = WorkQueue(keys_max=2)
    assert [queue.add(key) for key in "abca"] == [True, True, False, True]
    assert queue.refused == 1


async def test_of_several_timers_the_earliest_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.001)
    queue.add_after("a", 90)
    assert await asyncio.wait_for(queue.get(), 3) == "a"
    queue.close()


async def test_failures_are_repeated_with_a_growing_pause() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    seen: list[str] = []
    finished = asyncio.Event()

    async def reconcile(key: str) -> float | None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 3:
            raise ConflictError(409, "Conflict", "newer")
        if seen.count("bad") == 3:
            finished.set()
        return None

    async with asyncio.TaskGroup() as group:
        backoff = Backoff(base_seconds=0.001)
        work = group.create_task(run_reconciler(queue, reconcile, backoff=backoff))
        queue.add("bad")
        queue.add("good")
        await asyncio.wait_for(finished.wait(), 3)
        work.cancel()
    assert seen.count("good") == 1


async def test_a_reconciler_may_ask_for_another_look() -> None:
    queue: WorkQueue[str] = WorkQueue("test")
    count = 0
    finished = asyncio.Event()

    async def reconcile(_: str) -> float | None:
        nonlocal count
        count += 1
        if count == 3:
            finished.set()
            return None
        return 0.001

    async with asyncio.TaskGroup() as group:
        work = group.create_task(run_reconciler(queue, reconcile))
        queue.add("a")
        await asyncio.wait_for(finished.wait(), 3)
        work.cancel()


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.integers(0, 4))))
def test_no_key_is_lost_or_in_two_hands(steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        queue: WorkQueue[int] = WorkQueue()
        owed: set[int] = set()
        hands: list[int] = []
        for step, key in steps:
            if step == "add":
                queue.add(key)
                owed.add(key)
            elif step == "get" and owed - set(hands):
                got = await asyncio.wait_for(queue.get(), 1)
                assert got not in hands
                hands.append(got)
                owed.discard(got)
            elif step == "done" and key in hands:
                hands.remove(key)
                queue.done(key)
        assert len(queue) == len(owed)

    asyncio.run(play())
