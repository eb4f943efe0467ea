"""What tests of plugins share: a plugin by its type, a pool of servers, one decision."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from inferway.scheduling.config_reader import Reader
from inferway.scheduling.decision import Refusal
from inferway.scheduling.events import Scrape
from inferway.scheduling.plugins.base import (
    Admitter,
    Context,
    Filter,
    LatencyProducer,
    LoadProducer,
    MediaProducer,
    Picker,
    Placed,
    Plugin,
    PrefixProducer,
    Scorer,
)
from inferway.scheduling.plugins.registry import DEFAULT_PRODUCERS, plugin_types
from inferway.scheduling.plugins.topology import TopologyExtractor
from inferway.scheduling.plugins.types import Data, Making
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import ApiKind, Request
from inferway.scheduling.snapshot import Endpoint

MAKES: dict[Data, type[Plugin]] = {
    Data.PREFIX: PrefixProducer,
    Data.LOAD: LoadProducer,
    Data.LATENCY: LatencyProducer,
    Data.MEDIA: MediaProducer,
    Data.TOPOLOGY: TopologyExtractor,
}
PLAIN = Request("m", ApiKind.COMPLETIONS, b"hello")


def made(
    name: str,
    *,
    sources: Sequence[Plugin] = (),
    named: Mapping[str, Plugin] | None = None,
    **parameters: object,
) -> Plugin:
    """A plugin by its type; what it reads comes from the sources, else from default producers."""
    row = plugin_types()[name]
    reader = Reader({})
    values = reader.values("", row.parameters, parameters)
    assert reader.problems == []
    needs = {need.data for need in row.needs if need.when(values)}
    given = {data: one for data in needs for one in sources if isinstance(one, MAKES[data])}
    made_here = {data: made(DEFAULT_PRODUCERS[data]) for data in needs - given.keys()}
    assert row.build is not None
    return row.build(Making(name, values, {**made_here, **given}, named or {}))


class Dice:
    """Random numbers as told; the last one stays."""

    def __init__(self, *numbers: float) -> None:
        self._numbers = list(numbers)

    def random(self) -> float:
        return self._numbers.pop(0) if len(self._numbers) > 1 else self._numbers[0]


def context_of(
    pool: PoolScheduler, request: Request = PLAIN, *, now: float = 0.0, dice: float | None = None
) -> Context:
    """One decision, with chance as told or seeded."""
    rng = random.Random(1) if dice is None else Dice(dice)
    return Context(request, pool.snapshot(), now, rng)


def placed(
    plugin: Plugin, pool: PoolScheduler, request: Request, slot: int, *, now: float = 0.0
) -> None:
    """The request goes to a slot."""
    plugin.placed(Placed(context_of(pool, request, now=now), "default", {"default": [slot]}))


def pool_of(
    count: int,
    labels: Sequence[Mapping[str, str]] | None = None,
    scrapes: Sequence[Scrape] = (),
) -> PoolScheduler:
    """Servers 10.0.0.N:8000, Pods pod-N, with what their metrics say."""
    pool = PoolScheduler(CostPolicy())
    pool.set_endpoints(
        [
            Endpoint(f"10.0.0.{n}:8000", f"pod-{n}", labels[n] if labels else {})
            for n in range(count)
        ],
        0.0,
    )
    for n, scrape in enumerate(scrapes):
        pool.observe(f"10.0.0.{n}:8000", scrape, 0.0)
    return pool


def scores(
    plugin: Plugin, pool: PoolScheduler, request: Request = PLAIN, *, now: float = 0.0
) -> list[float]:
    """What a scorer says of all servers."""
    assert isinstance(plugin, Scorer)
    return plugin.score(context_of(pool, request, now=now), list(pool.columns.live))


def kept(
    plugin: Plugin,
    pool: PoolScheduler,
    request: Request = PLAIN,
    *,
    now: float = 0.0,
    dice: float | None = None,
) -> list[int]:
    """What a filter keeps of all servers."""
    assert isinstance(plugin, Filter)
    context = context_of(pool, request, now=now, dice=dice)
    return plugin.keep(context, list(pool.columns.live))


def refusal(
    plugin: Plugin, pool: PoolScheduler, request: Request, *, dice: float = 0.5
) -> Refusal | None:
    """What an admitter says."""
    assert isinstance(plugin, Admitter)
    return plugin.admit(context_of(pool, request, dice=dice), list(pool.columns.live))


def order(plugin: Plugin, values: list[float], seed: int = 1) -> list[int]:
    """What a picker makes of scores."""
    assert isinstance(plugin, Picker)
    pool = pool_of(len(values))
    context = Context(PLAIN, pool.snapshot(), 0.0, random.Random(seed))
    return plugin.order(context, list(range(len(values))), values)
