"""Blocking work beside the event loop, which ends with it.

The loop's own pool is waited for at the end of a program; a download that hangs would hold it. A
daemon thread is left behind instead, after it was told to stop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def beside(work: Callable[[Callable[[], bool]], T], name: str) -> T:
    """Runs ``work(stopped)`` in a thread; ``stopped()`` is true once the caller was cancelled."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    stop = threading.Event()

    def finish(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work(stop.is_set)
        except BaseException as error:  # It is raised again where it is awaited.
            failed = error
        # A loop that has ended takes no more calls, and nobody waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, result, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await done
    finally:
        stop.set()
