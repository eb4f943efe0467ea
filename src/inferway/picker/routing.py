"""Several pools in one process: whose pool a callout names, and whose pick an event is about.

With one pool its own service is asked directly, so that this costs nothing then.
"""

from __future__ import annotations

from collections.abc import Sequence

from inferway.picker.answers import FinalAnswer
from inferway.picker.machine import Callout, Malformed
from inferway.picker.pools import PickedPool
from inferway.picker.replies import Later, Refused, Reply
from inferway.scheduling.events import Doubted, Event, Finished

# The answer to a callout names the pool in its path: /pick/{namespace}/{name}/...
_NAMESPACE, _NAME = 2, 3


class ManyPools:
    """The services of several pools as one."""

    def __init__(self, pools: Sequence[PickedPool]) -> None:
        self._services = {f"{p.key.namespace}/{p.key.name}".encode(): p.service for p in pools}
        self._first = pools[0].service
        names = ", ".join(sorted(f"{p.key.namespace}/{p.key.name}" for p in pools))
        self._unknown = FinalAnswer(
            503, f"This picker does not serve that pool; it serves {names}.", code="unknown_pool"
        )

    @property
    def declared(self) -> frozenset[bytes]:
        """Lower-case names of all headers that policies of the pools read."""
        return frozenset[bytes]().union(*(s.declared for s in self._services.values()))

    def answer(self, call: Callout, proxy: str) -> Reply | Later:
        """The answer of the pool that the callout names."""
        pieces = call.target.split(b"/", 4)
        pool = b"/".join(pieces[_NAMESPACE : _NAME + 1]).partition(b"?")[0]
        service = self._services.get(pool)
        if service is None:
            return Refused(self._unknown, call.request_id)
        return service.answer(call, proxy)

    def malformed(self, problem: Malformed) -> Refused:
        """The last answer on a connection that can not go on."""
        return self._first.malformed(problem)


def settle(pools: Sequence[PickedPool], event: Event) -> None:
    """Tells the pool that the event is about, or each of them."""
    if isinstance(event, Finished | Doubted) and len(pools) > 1:
        prefix = event.pick.partition("-")[0]
        # What is nobody's here is another picker's, which any pool knows how to reach.
        pools = [pool for pool in pools if pool.prefix == prefix] or pools[:1]
    for pool in pools:
        pool.settle(event)
