"""The placement plan: tables of single situations, and what holds of every plan.

Method: views are values, so situations are written down; the properties let Hypothesis draw views
and carry plans out as a model server would, without time passing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.scheduling.placement.plan import plan
from inferway.scheduling.placement.values import (
    LEAVING,
    Command,
    Copy,
    CopyState,
    Evict,
    Limits,
    Load,
    Server,
    Shortage,
    Usage,
    View,
    Wish,
)
from inferway.scheduling.placement.wanted import wanted_copies

NOW = 1000.0
LIMITS = Limits()
LONG_AGO = NOW - 500.0


def wish(adapter: str, **more: object) -> Wish:
    return msgspec.convert({"adapter": adapter, "source": f"/{adapter}"} | more, Wish)


def server(name: str, slots: int = 2, **more: object) -> Server:
    return Server(address=name, slots=slots, **more)  # type: ignore[arg-type]


def loaded(adapter: str, address: str, since: float = LONG_AGO, **more: object) -> Copy:
    values = {"state": CopyState.LOADED, "source": f"/{adapter}"} | more
    return Copy(adapter=adapter, address=address, since=since, **values)  # type: ignore[arg-type]


def used(seconds_ago: float = 1.0, demand: float = 0.0) -> Usage:
    return Usage(demand, NOW - seconds_ago)


def waited(seconds: float = 0.5) -> Usage:
    return Usage(1.0, NOW, NOW - seconds)


def view(
    wishes: list[Wish],
    servers: list[Server],
    copies: list[Copy] | None = None,
    usage: Mapping[str, Usage] | None = None,
    **more: object,
) -> View:
    return View(
        wishes={w.adapter: w for w in wishes},
        servers={s.address: s for s in servers},
        copies=tuple(copies or ()),
        usage=usage or {},
        **more,  # type: ignore[arg-type]
    )


def done(seen: View) -> list[tuple[str, ...]]:
    """The plan's commands in short."""
    return [short(command) for command in plan(seen, LIMITS, NOW).commands]


def short(command: Command) -> tuple[str, ...]:
    verb = "load" if isinstance(command, Load) else "evict"
    return verb, command.adapter, command.address


def test_nothing_is_done_without_a_wish_or_a_reason() -> None:
    assert done(view([], [server("a", foreign=frozenset({"x"}))])) == []
    assert done(view([wish("x")], [server("a")])) == []
    # A slot that nobody needs keeps what it has, however cold.
    assert done(view([wish("x")], [server("a")], [loaded("x", "a")])) == []


def test_the_minimum_is_spread_over_servers() -> None:
    seen = view([wish("x", replicas_min=2)], [server("a"), server("b"), server("c", load=9.0)])
    assert sorted(done(seen)) == [("load", "x", "a"), ("load", "x", "b")]


def test_every_first_copy_comes_before_a_second() -> None:
    wishes = [wish(name, replicas_min=2) for name in ("x", "y")]
    commands = done(view(wishes, [server("a", 1), server("b", 1)]))
    assert sorted(command[1] for command in commands) == ["x", "y"]


def test_a_server_loads_one_at_a_time() -> None:
    wishes = [wish("x", replicas_min=1), wish("y", replicas_min=1)]
    first = plan(view(wishes, [server("a")]), LIMITS, NOW)
    assert [short(c) for c in first.commands] == [("load", "x", "a")]
    assert first.short == {"x": Shortage.WAITING, "y": Shortage.WAITING}
    loading = loaded("x", "a", state=CopyState.LOADING)
    assert done(view(wishes, [server("a")], [loading])) == []


def test_other_peoples_adapters_count_and_stay() -> None:
    foreign = server("a", 2, foreign=frozenset({"x", "f"}))
    assert done(view([wish("x", replicas_min=1)], [foreign])) == []
    full = plan(view([wish("y", replicas_min=1)], [foreign]), LIMITS, NOW)
    assert full.commands == ()
    assert full.short == {"y": Shortage.NO_SLOT}


def test_a_request_brings_an_adapter_to_the_least_loaded_server() -> None:
    servers = [server("a", load=3.0), server("b", load=1.0)]
    assert done(view([wish("x")], servers, usage={"x": waited()})) == [("load", "x", "b")]
    forbidden = [wish("x", on_demand=False)]
    assert done(view(forbidden, servers, usage={"x": waited()})) == []


def test_the_least_recently_used_one_makes_room() -> None:
    wishes = [wish("x"), wish("old"), wish("new")]
    copies = [loaded("old", "a"), loaded("new", "a")]
    usage = {"x": waited(), "old": used(40), "new": used(20)}
    assert done(view(wishes, [server("a")], copies, usage)) == [("evict", "old", "a")]
    # While it leaves nothing more has to go, and nothing is loaded too early.
    leaving = [msgspec.structs.replace(copies[0], state=CopyState.DRAINING), copies[1]]
    assert done(view(wishes, [server("a")], leaving, usage)) == []
    assert done(view(wishes, [server("a")], copies[1:], usage)) == [("load", "x", "a")]


@pytest.mark.parametrize(
    ("kept", "usage", "since"),
    [
        (wish("old", pinned=True), used(900), LONG_AGO),
        (wish("old", replicas_min=1), used(900), LONG_AGO),
        (wish("old"), waited(), LONG_AGO),
        (wish("old"), used(5), NOW - 2),
    ],
    ids=["pinned", "its minimum", "waited for", "just loaded"],
)
def test_what_never_makes_room(kept: Wish, usage: Usage, since: float) -> None:
    seen = view(
        [wish("x"), kept], [server("a", 1)], [loaded("old", "a", since)],
        {"x": waited(), "old": usage},
    )  # fmt: skip
    result = plan(seen, LIMITS, NOW)
    assert result.commands == ()
    assert result.short["x"] is Shortage.NO_SLOT


def test_a_minimum_takes_the_slot_of_an_extra() -> None:
    wishes = [wish("x", replicas_min=1), wish("hot")]
    servers = [server("a", 1), server("b", 1)]
    copies = [loaded("hot", "a"), loaded("hot", "b")]
    seen = view(wishes, servers, copies, {"hot": used(0, 50.0)}, load=50.0)
    assert done(seen) == [("evict", "hot", "a")]


def test_a_hot_adapter_gets_copies_of_its_share_of_the_load() -> None:
    servers = [server(name) for name in "abcd"]
    usage = {"hot": used(0, 20.0), "warm": used(0, 5.0)}
    copies = [loaded("hot", "a"), loaded("warm", "b")]
    seen = view([wish("hot"), wish("warm")], servers, copies, usage, load=40.0)
    result = plan(seen, LIMITS, NOW)
    # Half of the load on four servers, with headroom: three copies; an eighth: one.
    assert result.wanted == {"hot": 3, "warm": 1}
    assert sorted(short(c) for c in result.commands) == [("load", "hot", "c"), ("load", "hot", "d")]
    capped = view([wish("hot", replicas_max=1), wish("warm")], servers, copies, usage, load=40.0)
    assert done(capped) == []


def test_an_idle_pool_replicates_nothing() -> None:
    seen = view([wish("x")], [server("a"), server("b")], [loaded("x", "a")],
                {"x": used(0, 1.0)}, load=1.0)  # fmt: skip
    assert done(seen) == []


def test_hot_copies_push_out_only_cold_and_surplus_ones() -> None:
    servers = [server("a", 1), server("b", 1)]
    copies = [loaded("hot", "a"), loaded("other", "b")]
    for seconds, commands in ((5.0, []), (100.0, [("evict", "other", "b")])):
        usage = {"hot": used(0, 30.0), "other": used(seconds, 0.1)}
        seen = view([wish("hot"), wish("other")], servers, copies, usage, load=30.0)
        assert done(seen) == commands


def test_demand_at_a_threshold_moves_nothing() -> None:
    few, many = used(0, 5.3), used(0, 5.4)
    for present in (2, 3):
        for usage in (few, many):
            wanted = wanted_copies(wish("x"), usage, present, 1.0, LIMITS, NOW)
            assert wanted == max(present, 2 if usage is few else 3)


def test_what_is_gone_from_the_wishes_is_unloaded_and_only_ours() -> None:
    servers = [server("a", foreign=frozenset({"x"})), server("b")]
    assert done(view([], servers, [loaded("x", "b")])) == [("evict", "x", "b")]
    assert done(view([], [servers[0]], [loaded("x", "b")])) == []


def test_a_changed_source_reloads_one_copy_at_a_time() -> None:
    servers = [server("a"), server("b")]
    copies = [loaded("x", "a", source="/old"), loaded("x", "b", source="/old")]
    wishes = [wish("x", replicas_min=2)]
    assert done(view(wishes, servers, copies)) == [("evict", "x", "a")]
    half = [msgspec.structs.replace(copies[0], state=CopyState.UNLOADING), copies[1]]
    assert done(view(wishes, servers, half)) == []
    assert done(view(wishes, servers, copies[1:])) == [("evict", "x", "b"), ("load", "x", "a")]


def test_a_lowered_maximum_is_kept() -> None:
    copies = [loaded("x", "a", in_flight=2), loaded("x", "b")]
    seen = view([wish("x", replicas_max=1)], [server("a"), server("b")], copies)
    assert done(seen) == [("evict", "x", "b")]


def test_base_model_and_failures_close_servers() -> None:
    servers = [server("a", base_models=frozenset({"m"})), server("b", base_models=frozenset({"n"}))]
    wishes = [wish("x", base_model="n", replicas_min=1)]
    assert done(view(wishes, servers)) == [("load", "x", "b")]
    blocked = plan(view(wishes, servers, blocked={("x", "b"): NOW + 1}), LIMITS, NOW)
    assert (blocked.commands, blocked.short) == ((), {"x": Shortage.BACKING_OFF})
    assert done(view(wishes, servers, blocked={("x", "b"): NOW})) == [("load", "x", "b")]
    other = plan(view([wish("x", base_model="z", replicas_min=1)], servers), LIMITS, NOW)
    assert other.short == {"x": Shortage.NO_SERVER}
    many = plan(view([wish("x", replicas_min=3)], servers), LIMITS, NOW)
    assert len(many.commands) == 2
    assert many.short == {"x": Shortage.TOO_FEW_SERVERS} or "x" in many.short


# -- properties ----------------------------------------------------------------------------

ADAPTERS = ["p", "q", "r", "s", "t", "u"]
ADDRESSES = ["a", "b", "c", "d"]


@st.composite
def views(draw: st.DrawFn) -> View:
    names = draw(st.lists(st.sampled_from(ADAPTERS), unique=True))
    wishes = {}
    for name in names:
        least = draw(st.integers(0, 3))
        most = draw(st.one_of(st.just(0), st.integers(max(least, 1), 4)))
        wishes[name] = wish(
            name, replicas_min=least, replicas_max=most, pinned=draw(st.booleans()),
            on_demand=draw(st.booleans()), residency_seconds=draw(st.sampled_from([0.0, 10.0])),
        )  # fmt: skip
    servers, copies = {}, []
    for address in draw(st.lists(st.sampled_from(ADDRESSES), unique=True)):
        there = draw(st.lists(st.sampled_from(ADAPTERS), unique=True, max_size=4))
        ours = [name for name in there if draw(st.booleans())]
        servers[address] = server(
            address, draw(st.integers(0, 4)), foreign=frozenset(there) - set(ours),
            load=draw(st.sampled_from([0.0, 3.0, 20.0])),
        )  # fmt: skip
        copies += [
            loaded(
                name, address, NOW - draw(st.sampled_from([1.0, 500.0])),
                state=draw(st.sampled_from(CopyState)),
                source=draw(st.sampled_from([f"/{name}", "/old"])),
            )
            for name in ours
        ]  # fmt: skip
    usage = {
        name: Usage(
            draw(st.sampled_from([0.0, 0.5, 8.0, 60.0])),
            NOW - draw(st.sampled_from([0.0, 30.0, 300.0])),
            draw(st.sampled_from([math.inf, math.inf, NOW - 1])),
        )
        for name in ADAPTERS
    }
    return view(list(wishes.values()), list(servers.values()), copies, usage,
                load=draw(st.sampled_from([0.0, 10.0, 200.0])))  # fmt: skip


def carried_out(seen: View) -> tuple[View, tuple[Command, ...]]:
    """The view after the plan, when every load and unload has succeeded."""
    commands = plan(seen, LIMITS, NOW).commands
    copies = {(c.adapter, c.address): c for c in seen.copies}
    for key, copy in list(copies.items()):
        if copy.state in LEAVING:
            del copies[key]
        elif copy.state is CopyState.LOADING:
            copies[key] = msgspec.structs.replace(copy, state=CopyState.LOADED)
    for command in commands:
        key = (command.adapter, command.address)
        if isinstance(command, Load):
            copies[key] = loaded(*key, NOW, source=command.source)
        else:
            del copies[key]
    # What is loaded was used just now by those who waited for it.
    usage = {
        name: Usage(u.demand, NOW) if any(k[0] == name for k in copies) else u
        for name, u in seen.usage.items()
    }
    return msgspec.structs.replace(seen, copies=tuple(copies.values()), usage=usage), commands


def at_rest(seen: View) -> View:
    for _ in range(60):
        before = seen
        seen, commands = carried_out(seen)
        if not commands and seen == before:
            return seen
    raise AssertionError(f"does not come to rest: {commands}")


@given(views())
def test_slots_are_never_exceeded_and_only_our_copies_go(seen: View) -> None:
    occupied: Counter[str] = Counter()
    for one in seen.servers.values():
        occupied[one.address] += len(one.foreign)
    ours = {(c.adapter, c.address): c for c in seen.copies}
    for copy in seen.copies:
        occupied[copy.address] += 1
    loads: Counter[str] = Counter(c.address for c in seen.copies if c.state is CopyState.LOADING)
    for command in plan(seen, LIMITS, NOW).commands:
        key = (command.adapter, command.address)
        if isinstance(command, Evict):
            assert ours[key].state is CopyState.LOADED
            continue
        assert key not in ours
        assert command.adapter not in seen.servers[command.address].foreign
        occupied[command.address] += 1
        loads[command.address] += 1
        # Not even for a moment: a slot that comes free is used by a later plan.
        assert occupied[command.address] <= seen.servers[command.address].slots
        assert loads[command.address] <= LIMITS.loads_per_server_max


@given(views())
def test_equal_views_give_equal_plans(seen: View) -> None:
    turned = msgspec.structs.replace(
        seen,
        copies=tuple(reversed(seen.copies)),
        servers=dict(reversed(seen.servers.items())),
        wishes=dict(reversed(seen.wishes.items())),
    )
    assert plan(seen, LIMITS, NOW) == plan(turned, LIMITS, NOW)


@pytest.mark.slow
@settings(max_examples=300)
@given(views())
def test_carried_out_plans_come_to_rest(seen: View) -> None:
    seen = at_rest(seen)
    assert carried_out(seen) == (seen, ())
    assert plan(seen, LIMITS, NOW + 1).commands == ()


@pytest.mark.slow
@settings(max_examples=300)
@given(views())
def test_the_minimum_is_there_when_capacity_allows(seen: View) -> None:
    # Nobody else's copies in the way: what can be had is what the slots can hold.
    wishes = {
        name: msgspec.structs.replace(w, pinned=False, residency_seconds=0.0)
        for name, w in seen.wishes.items()
    }
    seen = msgspec.structs.replace(
        seen, wishes=wishes, usage={n: Usage(u.demand, u.last_used) for n, u in seen.usage.items()}
    )
    seen = at_rest(seen)
    free = {
        s.address: s.slots - len(s.foreign) - sum(c.address == s.address for c in seen.copies)
        for s in seen.servers.values()
    }
    for name, w in wishes.items():
        holders = {c.address for c in seen.copies if c.adapter == name}
        holders |= {s.address for s in seen.servers.values() if name in s.foreign}
        if len(holders) < w.least:
            # Then no server that lacks it has room, nor anything on it that could go.
            for address in seen.servers.keys() - holders:
                assert free[address] <= 0
                if free[address] == 0:
                    others = [c.adapter for c in seen.copies if c.address == address]
                    assert all(count(seen, other) <= wishes[other].least for other in others)


def count(seen: View, adapter: str) -> int:
    return sum(c.adapter == adapter for c in seen.copies) + sum(
        adapter in s.foreign for s in seen.servers.values()
    )
