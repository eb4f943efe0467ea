"""Whatever happens on the way, the server ends as the last configuration says.

The machine talks with a model of a server that refuses, forgets, dies, takes no loads in place and
is hurt by some, while configurations follow each other. Nothing here runs or waits.
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.lora.config import Config
from inferway.lora.machine import Syncer
from inferway.lora.messages import (
    Answered,
    CheckHealth,
    Command,
    Configured,
    Event,
    Listed,
    ListModels,
    Load,
    Model,
    Place,
    Prepare,
    Prepared,
    ReadSlots,
    Schedule,
    Slots,
    Tidy,
    Unload,
    Wake,
    Woken,
)
from inferway.lora.reasons import Answer, Problem, Reason
from inferway.lora.source import FETCHED, Adapter, served_path

STORE = "/adapters/inferway/pod"
BASES = {"base": Model("/models/base")}
# Sources by how the server takes them.
GOOD = ("good/1", "good/2", "https://good.example/a.tar.gz")
REFUSED = ("missing/1",)
HURTING = ("shapes/1",)
DEADLY = ("deadly/1",)
UNFETCHABLE = ("https://gone.example/b.tar.gz",)
FAULTS = ("error", "lost", "slow", "died", "none", "none", "none")
STEPS_MAX = 3000
# A slow trigger makes hours of the longest pauses few rounds.
SCHEDULE = Schedule(trigger_seconds=60)


class Server(msgspec.Struct):
    """A model server: what it has, and which of that answers rightly."""

    in_place: bool
    loaded: dict[str, str]
    hurt: set[str]
    down_until: float = 0.0

    def die(self, now: float) -> None:
        self.loaded.clear()
        self.hurt.clear()
        self.down_until = now + 30

    def load(self, command: Load, now: float) -> Answer:
        name, path = command.adapter.id, command.path
        if name in self.loaded and not (command.in_place and self.in_place):
            return Answer(400, f"The lora adapter '{name}' has already been loaded.")
        if path in REFUSED:
            return Answer(404, f"Loading lora {name} failed: No adapter found for {path}")
        if path in HURTING:
            if name in self.loaded:
                self.hurt.add(name)
            return Answer(500, "The size of tensor a (1) must match the size of tensor b (2)")
        if path in DEADLY:
            self.die(now)
            return Answer(0, "connection reset", lost=True)
        self.loaded[name] = path
        self.hurt.discard(name)
        return Answer(200, "Success")


class World:
    """Carries commands to the server and events back."""

    def __init__(self, server: Server, faults: list[str]) -> None:
        self.server = server
        self.faults = faults
        self.syncer = Syncer(SCHEDULE, Place(store=STORE))
        self.now = 0.0
        self.wake = 0.0
        self.requests: list[Command] = []
        self.fetches: list[Prepare] = []
        self.config = Config()

    def tell(self, event: Event) -> None:
        for command in self.syncer.handle(event):
            self.check(command)
            if isinstance(command, Wake):
                self.wake = command.at
            elif isinstance(command, Prepare):
                self.fetches.append(command)
            elif isinstance(command, CheckHealth | ListModels | ReadSlots | Load | Unload):
                self.requests.append(command)
        assert len(self.requests) <= 1

    def check(self, command: Command) -> None:
        wanted = {adapter.id: adapter for adapter in self.config.wanted}
        if isinstance(command, Load):
            assert command.adapter.id not in BASES
        elif isinstance(command, Unload):
            assert command.name not in BASES
            assert command.name not in {name for name, _ in self.config.skipped}
            if command.name in wanted:
                # Only to make way for another source on a server that knows no other way.
                assert not self.server.in_place
                path = served_path(wanted[command.name], STORE)
                assert self.server.loaded.get(command.name) != path
        elif isinstance(command, Tidy):
            in_use = {p for p in self.server.loaded.values() if p.startswith(STORE)}
            assert in_use <= command.keep

    def configure(self, config: Config) -> None:
        self.config = config
        self.tell(Configured(self.now, config))

    def step(self) -> None:
        """One event: the end of a request or a fetch, or the next timer."""
        if self.fetches and (not self.requests or len(self.faults) % 2):
            fetch = self.fetches.pop(0)
            bad = fetch.adapter.source in UNFETCHABLE
            problem = Problem(Reason.FETCH_FAILED, "no route") if bad else None
            self.tell(Prepared(self.now, fetch.adapter, problem))
        elif self.requests:
            self.tell(self.answer(self.requests.pop()))
        else:
            assert self.wake > self.now
            self.now = self.wake
            self.tell(Woken(self.now))

    def answer(self, command: Command) -> Event:
        server, now = self.server, self.now
        fault = self.faults.pop() if self.faults else "none"
        if fault == "died":
            server.die(now)
        up = now >= server.down_until
        if isinstance(command, CheckHealth):
            return Answered(now, Answer(200) if up else Answer(0, "refused"))
        if isinstance(command, ListModels):
            if not up or fault != "none":
                return Listed(now, None, "status 500")
            names = {name: Model(path, "base") for name, path in server.loaded.items()}
            return Listed(now, {**BASES, **names})
        if isinstance(command, ReadSlots):
            return Slots(now, 2 if fault == "none" else 0)
        if not up:
            died = fault == "died"
            return Answered(now, Answer(0, "refused", lost=died, refused=not died))
        if fault == "error":
            return Answered(now, Answer(500, "try again"))
        if isinstance(command, Load):
            answer = server.load(command, now)
        else:
            assert isinstance(command, Unload)
            gone = server.loaded.pop(command.name, None) is None
            server.hurt.discard(command.name)
            answer = Answer(404, "cannot be found") if gone else Answer(200)
        if fault in ("lost", "slow"):
            # Done, but nobody hears of it.
            return Answered(now, Answer(0, "no answer", lost=fault == "lost"))
        return Answered(now, answer)


ALL = GOOD + REFUSED + HURTING + DEADLY + UNFETCHABLE
IDS = st.sampled_from(["a", "b", "c", "base"])


def configs(sources: tuple[str, ...]) -> st.SearchStrategy[Config]:
    return st.builds(
        lambda wanted, unwanted, skipped: Config(
            wanted=tuple(Adapter(i, s) for i, s in wanted.items()),
            unwanted=tuple(sorted(unwanted - wanted.keys())),
            skipped=tuple(
                (name, Problem(Reason.IN_BOTH_LISTS, "both"))
                for name in sorted(skipped - unwanted - wanted.keys())
            ),
        ),
        st.dictionaries(IDS, st.sampled_from(sources)),
        st.sets(IDS),
        st.sets(IDS),
    )


SERVERS = st.builds(
    lambda in_place, loaded: Server(in_place, loaded, set()),
    st.booleans(),
    st.dictionaries(st.sampled_from(["a", "b", "x"]), st.sampled_from(GOOD[:2])),
)


def settle(world: World) -> None:
    """Goes on until every adapter has had its turn again after all faults."""
    quiet = world.now + 2 * 3600
    for _ in range(STEPS_MAX * 3):
        if world.now >= quiet and not world.requests and not world.fetches:
            return
        world.step()
    raise AssertionError("the machine does not come to rest")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    server=SERVERS,
    changes=st.lists(configs(ALL), max_size=4),
    last=configs(GOOD),
    faults=st.lists(st.sampled_from(FAULTS), max_size=25),
    pace=st.integers(1, 12),
)
def test_the_server_ends_as_the_last_configuration_says(
    server: Server, changes: list[Config], last: Config, faults: list[str], pace: int
) -> None:
    start = dict(server.loaded)
    died = "died" in faults or any(a.source in DEADLY for c in changes for a in c.wanted)
    world = World(server, faults)
    for config in [*changes, last]:
        world.configure(config)
        for _ in range(pace):
            world.step()
    settle(world)
    for adapter in last.wanted:
        if adapter.id != "base":
            assert server.loaded[adapter.id] == served_path(adapter, STORE)
            assert adapter.id not in server.hurt
    assert not server.loaded.keys() & set(last.unwanted)
    everything = [*changes, last]
    touched = {a.id for c in everything for a in c.wanted} | {
        name for c in everything for name in c.unwanted
    }
    if not died:
        for name in start.keys() - touched:
            assert server.loaded[name] == start[name]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(in_place=st.booleans(), bad=st.sampled_from(REFUSED + HURTING + UNFETCHABLE),
       others=st.dictionaries(st.sampled_from(["b", "c"]), st.sampled_from(GOOD)))  # fmt: skip
def test_a_bad_new_source_never_takes_away_what_worked(
    in_place: bool, bad: str, others: dict[str, str]
) -> None:
    """The old source serves for ever, and the others are not held up."""
    server = Server(in_place, {}, set())
    world = World(server, [])
    good = Adapter("a", GOOD[0])
    world.configure(Config(wanted=(good,)))
    for _ in range(20):
        world.step()
    assert server.loaded == {"a": GOOD[0]}
    rest = tuple(Adapter(name, source) for name, source in others.items())
    world.configure(Config(wanted=(Adapter("a", bad), *rest)))
    gaps = 0
    for _ in range(400):
        world.step()
        if not world.requests:
            # At rest all is well.
            assert server.loaded["a"] == GOOD[0]
            assert not server.hurt
            gaps += 1
    assert gaps
    for adapter in rest:
        assert server.loaded[adapter.id] == served_path(adapter, STORE)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(rest=st.dictionaries(st.sampled_from(["b", "c", "d"]), st.sampled_from(GOOD), min_size=1))
def test_an_adapter_that_kills_the_server_does_not_keep_it_down(rest: dict[str, str]) -> None:
    server = Server(True, {}, set())
    world = World(server, [])
    others = tuple(Adapter(name, source) for name, source in rest.items())
    world.configure(Config(wanted=(Adapter("a", DEADLY[0]), *others)))
    served = total = 0.0
    before = world.now
    while world.now < 4 * 3600:
        world.step()
        span, before = world.now - before, world.now
        total += span
        if all(server.loaded.get(a.id) == served_path(a, STORE) for a in others):
            served += span
    assert served / total > 0.85


def test_the_sources_of_these_tests_are_of_the_kinds_they_stand_for() -> None:
    kinds = {source: Adapter("a", source).kind in FETCHED for source in ALL}
    assert kinds[GOOD[2]]
    assert kinds[UNFETCHABLE[0]]
    assert not any(kinds[s] for s in (*GOOD[:2], *REFUSED, *HURTING, *DEADLY))
