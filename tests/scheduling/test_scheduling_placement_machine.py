"""The machine that carries plans out, against servers that do what a script or a seed says.

Method: ``World`` is a set of model servers as values: it lists adapters, takes actions, fails,
forgets and dies as it is told, and knows who has loaded what. The last test does all of it in an
order that a seed chooses.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from inferway.scheduling.placement.demand import PEER_SILENT_SECONDS, DemandMeter
from inferway.scheduling.placement.machine import (
    ADOPT_SECONDS,
    AWAY_SECONDS_MAX,
    CLAIM_SECONDS,
    DRAIN_SECONDS_MAX,
    STALE_LIST_SECONDS,
    Action,
    Outcome,
    Placement,
    Seen,
    Unload,
)
from inferway.scheduling.placement.values import CopyState, Load, Usage, Wish


@dataclass
class World:
    """Servers by address: their adapters, each with who loaded it."""

    slots: int = 2
    servers: dict[str, dict[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    in_flight: dict[str, dict[str, int]] = field(default_factory=dict)
    now: float = 100.0

    def seen(self) -> list[Seen]:
        return [
            Seen(
                address=address,
                name=self.names.get(address, f"pod-{address}"),
                slots=self.slots,
                base_models=frozenset({"m"}),
                adapters=frozenset(adapters),
                told_at=self.now,
                in_flight=self.in_flight.get(address, {}),
            )
            for address, adapters in sorted(self.servers.items())
        ]

    def tick(self, placement: Placement, **waiting: float) -> list[Action]:
        usage = {name: Usage(1.0, since, since) for name, since in waiting.items()}
        return placement.tick(self.seen(), usage, 1.0, self.now)

    def do(self, placement: Placement, action: Action) -> None:
        if isinstance(action, Load):
            self.servers[action.address][action.adapter] = "us"
        else:
            assert self.servers[action.address].pop(action.adapter) == "us"
        placement.done(action, Outcome.DONE, "", self.now)


def wish(adapter: str, **more: object) -> Wish:
    return Wish(adapter=adapter, source=f"/{adapter}", **more)  # type: ignore[arg-type]


def started(world: World, *wishes: Wish) -> Placement:
    placement = Placement()
    placement.set_wishes(wishes)
    for _ in range(4):
        for action in world.tick(placement):
            world.do(placement, action)
    placement.take_notes()
    return placement


def reasons(placement: Placement) -> list[str]:
    return [note.reason for note in placement.take_notes()]


def test_loads_the_minimum_and_says_so() -> None:
    world = World(servers={"a": {}, "b": {}})
    placement = Placement()
    placement.set_wishes([wish("x", replicas_min=1)])
    (action,) = world.tick(placement)
    assert isinstance(action, Load)
    assert (action.adapter, action.source) == ("x", "/x")
    # While it is under way nothing else is asked for.
    assert world.tick(placement) == []
    world.do(placement, action)
    assert reasons(placement) == ["Loaded"]
    assert placement.hidden == frozenset()


def test_an_eviction_is_hidden_then_unloaded_then_the_slot_is_used() -> None:
    world = World(slots=1, servers={"a": {}})
    placement = started(world, wish("old", replicas_min=1))
    placement.set_wishes([wish("old"), wish("new")])
    world.in_flight = {"a": {"old": 1}}
    world.now += 10
    assert world.tick(placement, new=world.now) == []
    assert placement.hidden == {("old", "a")}
    world.now += DRAIN_SECONDS_MAX
    (action,) = world.tick(placement, new=world.now)
    assert action == Unload("old", "a")
    world.do(placement, action)
    # An old list of models may still show it: it stays hidden, and takes no slot.
    assert placement.hidden == {("old", "a")}
    (load,) = world.tick(placement, new=world.now)
    assert load == Load("new", "a", "/new")
    world.do(placement, load)
    world.now += STALE_LIST_SECONDS + 1
    world.tick(placement)
    assert placement.hidden == frozenset()
    assert reasons(placement) == ["Evicted", "Unloaded", "Loaded"]


def test_other_pickers_get_time_to_hear_of_it() -> None:
    world = World(servers={"a": {}})
    placement = started(world, wish("x", replicas_min=1))
    placement.settle_seconds = 1.0
    placement.set_wishes([])
    assert world.tick(placement) == []
    world.now += 0.9
    assert world.tick(placement) == []
    world.now += 0.2
    assert world.tick(placement) == [Unload("x", "a")]


def test_a_failure_backs_off_doubling_and_tries_another_server_at_once() -> None:
    world = World(servers={"a": {}, "b": {}})
    placement = Placement()
    placement.set_wishes([wish("x", replicas_min=1)])
    tried = []
    for _ in range(2):
        (action,) = world.tick(placement)
        tried.append(action.address)
        placement.done(action, Outcome.FAILED, "no such adapter", world.now)
    assert sorted(tried) == ["a", "b"]
    assert world.tick(placement) == []
    assert placement.hopeless("x") == "no such adapter"
    pauses = []
    for _ in range(8):
        began = world.now
        while not (actions := world.tick(placement)):
            world.now += 0.5
        pauses.append(world.now - began)
        for action in actions:
            placement.done(action, Outcome.FAILED, "no such adapter", world.now)
    assert max(pauses) >= 8
    assert set(reasons(placement)) == {"LoadFailed"}
    # A mended object is tried at once.
    placement.set_wishes([wish("x", replicas_min=1, base_model="m")])
    assert len(world.tick(placement)) == 1


def test_a_load_without_an_answer_is_ours_when_it_appears() -> None:
    world = World(servers={"a": {}})
    placement = Placement()
    placement.set_wishes([wish("x", replicas_min=1)])
    (action,) = world.tick(placement)
    placement.done(action, Outcome.UNSURE, "no answer", world.now)
    world.servers["a"]["x"] = "us"
    world.tick(placement)
    assert placement.copies["x", "a"].state is CopyState.LOADED
    placement.set_wishes([])
    world.tick(placement)
    assert world.tick(placement) == [] or placement.copies["x", "a"].state is CopyState.UNLOADING


def test_what_somebody_else_was_quicker_with_is_theirs() -> None:
    world = World(servers={"a": {}})
    placement = Placement()
    placement.set_wishes([wish("x", replicas_min=1)])
    (action,) = world.tick(placement)
    world.servers["a"]["x"] = "human"
    placement.done(action, Outcome.ALREADY, "already loaded", world.now)
    assert world.tick(placement) == []
    assert placement.foreign == {"a": frozenset({"x"})}
    placement.set_wishes([])
    world.now += 100
    assert world.tick(placement) == []


def test_a_server_that_lost_it_gets_it_again() -> None:
    world = World(servers={"a": {}})
    placement = started(world, wish("x", replicas_min=1))
    world.servers["a"].clear()
    # A list that is older than the load proves nothing.
    assert world.tick(placement) == []
    world.now += STALE_LIST_SECONDS + 1
    (action,) = world.tick(placement)
    assert isinstance(action, Load)
    assert reasons(placement) == ["Lost"]


def test_a_server_that_is_away_for_a_while_keeps_its_copies() -> None:
    world = World(servers={"a": {}, "b": {}})
    placement = started(world, wish("x", replicas_min=2))
    gone = world.servers.pop("a")
    assert world.tick(placement) == []
    world.servers["a"] = gone
    world.now += 60
    world.tick(placement)
    assert placement.copies["x", "a"].state is CopyState.LOADED
    world.servers.pop("a")
    world.tick(placement)
    world.now += AWAY_SECONDS_MAX + 1
    world.tick(placement)
    assert ("x", "a") not in placement.copies


def test_another_pod_at_the_same_address_has_nothing_of_ours() -> None:
    world = World(servers={"a": {}})
    placement = started(world, wish("x", replicas_min=1))
    world.names["a"] = "another"
    world.servers["a"] = {"x": "its own command line"}
    world.tick(placement)
    assert placement.copies == {}
    assert placement.foreign == {"a": frozenset({"x"})}


@pytest.mark.parametrize("loaded", [True, False])
def test_a_new_leader_takes_over_what_is_there(loaded: bool) -> None:
    world = World(servers={"a": {"x": "us", "f": "human"}, "b": {}})
    placement = Placement()
    placement.adopt(("x", "a"), "pod-a", "/x", loaded, world.now)
    placement.adopt(("x", "b"), "pod-b", "/x", loaded, world.now)
    placement.set_wishes([wish("x")])
    assert world.tick(placement) == []
    assert placement.copies.keys() == {("x", "a")}
    assert placement.foreign == {"a": frozenset({"f"}), "b": frozenset()}
    # A claim ends: what appears later is somebody else's.
    world.now += ADOPT_SECONDS + 1 if loaded else CLAIM_SECONDS + 1
    world.servers["b"]["x"] = "human"
    world.tick(placement)
    assert placement.foreign["b"] == {"x"}


def test_an_unload_that_fails_is_tried_again_later() -> None:
    world = World(servers={"a": {}})
    placement = started(world, wish("x", replicas_min=1))
    placement.set_wishes([])
    (action,) = world.tick(placement)
    placement.done(action, Outcome.FAILED, "busy", world.now)
    assert world.tick(placement) == []
    assert placement.hidden == {("x", "a")}
    world.now += 1.5
    (action,) = world.tick(placement)
    placement.done(action, Outcome.ALREADY, "", world.now)
    assert placement.copies == {}


def test_demand_rises_at_once_and_falls_late() -> None:
    meter = DemandMeter()
    meter.sample({}, {}, 0.0, 0.0)
    for second in range(1, 31):
        meter.sample({"x": 10.0}, {"x": second}, 20.0, float(second))
    risen = meter.usage({})["x"]
    assert risen.demand > 9
    assert risen.last_used == 30.0
    for second in range(31, 61):
        meter.sample({}, {"x": 30}, 0.0, float(second))
    fallen = meter.usage({})["x"]
    assert 1 < fallen.demand < 5
    assert fallen.last_used == 30.0


def test_peers_count_while_they_speak() -> None:
    meter = DemandMeter()
    meter.sample({"x": 1.0}, {}, 1.0, 0.0)
    meter.hear("other", {"x": 4.0, "y": 1.0}, 9.0, 0.0)
    assert meter.usage({})["x"].demand == 4.0
    assert meter.load() == 9.0
    assert meter.peers == 1
    meter.sample({}, {}, 0.0, PEER_SILENT_SECONDS + 1)
    assert meter.load() < 1.0
    assert meter.peers == 0
    meter.forget({"y"})
    assert meter.usage({}).keys() == {"y"}


# -- any order of events -------------------------------------------------------------------

NAMES = ["p", "q", "r"]
ADDRESSES = ["a", "b"]


class Anything:
    """Servers, people and wishes do what they like; nothing of other people's is ever unloaded."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(servers={"a": {}, "b": {}})
        self.placement = Placement()
        self.pending: list[Action] = []
        self.trace: list[str] = []

    def step(self) -> None:
        doings = [self.wishes, self.passes, self.passes, self.ends, self.ends, self.restarts]
        self.rng.choice([*doings, self.somebody_loads])()
        for name, address in self.placement.copies:
            assert name not in self.placement.foreign.get(address, frozenset()), self.trace

    def wishes(self) -> None:
        chosen = self.rng.sample(NAMES, self.rng.randint(0, len(NAMES)))
        source, least = self.rng.random() < 0.2, self.rng.randint(0, 2)
        self.trace.append(f"wish {chosen} {least} {source}")
        self.placement.set_wishes(
            Wish(adapter=n, source=f"/{n}{source}", replicas_min=least) for n in chosen
        )

    def passes(self) -> None:
        self.world.now += self.rng.choice([0.1, 1.0, 5.0, 100.0])
        waiting = self.rng.sample(NAMES, self.rng.randint(0, len(NAMES)))
        actions = self.world.tick(self.placement, **dict.fromkeys(waiting, self.world.now))
        self.trace.append(f"tick {self.world.now:.1f} {actions}")
        for action in actions:
            there = self.world.servers[action.address]
            if isinstance(action, Load):
                coming = {
                    a.adapter
                    for a in self.pending
                    if a.address == action.address and isinstance(a, Load)
                }
                assert action.adapter not in there, self.trace
                assert len(there.keys() | coming) < self.world.slots, self.trace
            else:
                assert there.get(action.adapter, "us") == "us", self.trace
            self.pending.append(action)

    def ends(self) -> None:
        if not self.pending:
            return
        action = self.pending.pop(self.rng.randrange(len(self.pending)))
        there = self.world.servers[action.address]
        outcome = self.rng.choice([Outcome.DONE, Outcome.DONE, Outcome.FAILED, Outcome.UNSURE])
        if outcome is not Outcome.FAILED:
            if isinstance(action, Load):
                if action.adapter in there:
                    outcome = Outcome.ALREADY
                there.setdefault(action.adapter, "us")
            elif there.pop(action.adapter, None) is None:
                outcome = Outcome.ALREADY
        self.trace.append(f"end {action} {outcome}")
        self.placement.done(action, outcome, "words", self.world.now)

    def somebody_loads(self) -> None:
        """A human, who leaves alone what placement has, may have, or had a moment ago."""
        address, name = self.rng.choice(ADDRESSES), self.rng.choice(NAMES)
        place = (name, address)
        ours = place in {*self.placement.copies, *self.placement.claims, *self.placement.hidden}
        if name not in self.world.servers[address] and not ours:
            self.trace.append(f"human {place}")
            self.world.servers[address][name] = "human"

    def restarts(self) -> None:
        address = self.rng.choice(ADDRESSES)
        self.trace.append(f"restart {address}")
        self.world.servers[address] = {}
        self.world.names[address] = f"pod-{len(self.trace)}"
        for action in [a for a in self.pending if a.address == address]:
            self.pending.remove(action)
            self.placement.done(action, Outcome.FAILED, "gone", self.world.now)
        for action in self.world.tick(self.placement):
            self.trace.append(f"then {action}")
            self.pending.append(action)


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_events(seed: int) -> None:
    anything = Anything(seed)
    for _ in range(250):
        anything.step()
