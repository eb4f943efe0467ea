"""The syncer's machine, by scripts and against a model of a server."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.lora.config import Adapter, Config
from inferway.lora.machine import (
    RETRY_SECONDS_MAX,
    Answered,
    CheckHealth,
    Command,
    Configured,
    Listed,
    ListModels,
    Load,
    Report,
    Say,
    Schedule,
    Syncer,
    Unload,
    Wake,
    Woken,
)

URL = "http://localhost:8000"
FOOD = Adapter("food", "repo/food", "base")
CAD = Adapter("cad", "repo/cad")
BASE = {"base": ("base", "")}


def acts(commands: Sequence[Command]) -> list[Command]:
    """What goes out, without the log and the metric."""
    return [c for c in commands if not isinstance(c, Say | Report)]


def said(commands: Sequence[Command], level: str) -> list[str]:
    return [f"{c.message} {c.data}" for c in commands if isinstance(c, Say) and c.level == level]


def loaded(*adapters: Adapter) -> dict[str, tuple[str, str]]:
    return {**BASE, **{a.id: (a.source, "base") for a in adapters}}


def healthy(config: Config, schedule: Schedule | None = None) -> Syncer:
    """A machine that has just asked for the list of models, at time 0."""
    syncer = Syncer(schedule or Schedule())
    assert acts(syncer.handle(Configured(0, config))) == [CheckHealth(URL)]
    assert acts(syncer.handle(Answered(0, 200, ""))) == [ListModels(URL)]
    return syncer


def test_missing_adapters_are_loaded_one_by_one_then_it_rests() -> None:
    syncer = healthy(Config(wanted=(FOOD, CAD)))
    assert acts(syncer.handle(Listed(0, BASE))) == [Load(URL, FOOD)]
    assert acts(syncer.handle(Answered(1, 200, "Success"))) == [Load(URL, CAD)]
    assert acts(syncer.handle(Answered(2, 200, "Success"))) == [Wake(7)]
    assert acts(syncer.handle(Woken(7))) == [CheckHealth(URL)]


def test_what_is_as_wanted_is_not_touched() -> None:
    syncer = healthy(Config(wanted=(FOOD,)))
    commands = syncer.handle(Listed(0, loaded(FOOD, CAD)))
    assert acts(commands) == [Wake(5)]
    assert Report({"food": True}) in commands


def test_unwanted_adapters_are_unloaded() -> None:
    syncer = healthy(Config(unwanted=("food", "absent")))
    assert acts(syncer.handle(Listed(0, loaded(FOOD)))) == [Unload(URL, "food")]
    commands = syncer.handle(Answered(1, 200, "Success"))
    assert acts(commands) == [Wake(6)]
    assert Report({"food": False}) in commands


def test_a_new_source_is_a_reload() -> None:
    new = Adapter("food", "repo/food-v2")
    syncer = healthy(Config(wanted=(new,)))
    assert acts(syncer.handle(Listed(0, loaded(FOOD)))) == [Unload(URL, "food")]
    assert acts(syncer.handle(Answered(1, 200, ""))) == [Load(URL, new)]


def test_a_server_that_reports_another_root_for_a_source_is_not_reloaded_for_ever() -> None:
    syncer = healthy(Config(wanted=(FOOD,)))
    syncer.handle(Listed(0, BASE))
    syncer.handle(Answered(1, 200, "Success"))
    for now in (6, 12):
        syncer.handle(Woken(now))
        syncer.handle(Answered(now, 200, ""))
        resolved = {**BASE, "food": ("/cache/food", "base")}
        assert acts(syncer.handle(Listed(now, resolved))) == [Wake(now + 5)]


def test_base_models_are_never_touched() -> None:
    config = Config(wanted=(Adapter("base", "other"),), unwanted=("base2",))
    syncer = healthy(config)
    models = {"base": ("base", ""), "base2": ("base2", "")}
    commands = syncer.handle(Listed(0, models))
    assert acts(commands) == [Wake(5)]
    assert len(said(commands, "warning")) == 2
    syncer.handle(Woken(5))
    syncer.handle(Answered(5, 200, ""))
    assert said(syncer.handle(Listed(5, models)), "warning") == []


def test_a_server_that_is_not_up_is_waited_for_and_reported_once() -> None:
    schedule = Schedule(health_timeout_seconds=5, health_interval_seconds=2)
    syncer = Syncer(schedule)
    syncer.handle(Configured(0, Config(wanted=(FOOD,))))
    errors = []
    for now in range(0, 20, 2):
        commands = syncer.handle(Answered(now, 0, "refused"))
        assert acts(commands) == [Wake(now + 2)]
        errors += said(commands, "error")
        assert acts(syncer.handle(Woken(now + 2))) == [CheckHealth(URL)]
    assert len(errors) == 1
    assert "INFERWAY0603" in errors[0]
    assert "refused" in errors[0]
    assert acts(syncer.handle(Answered(20, 200, ""))) == [ListModels(URL)]


def test_a_failed_list_changes_nothing() -> None:
    syncer = healthy(Config(wanted=(FOOD,), unwanted=("cad",)))
    commands = syncer.handle(Listed(0, None, "status 500"))
    assert acts(commands) == [Wake(5)]
    assert "INFERWAY0608" in said(commands, "error")[0]


def test_a_failing_adapter_is_retried_with_growing_pauses_and_holds_up_nothing() -> None:
    syncer = healthy(Config(wanted=(FOOD, CAD)))
    syncer.handle(Listed(0, BASE))
    commands = syncer.handle(Answered(0, 404, "No adapter found for repo/food"))
    assert acts(commands) == [Load(URL, CAD)]
    assert "INFERWAY0605" in said(commands, "error")[0]
    assert "No adapter found" in said(commands, "error")[0]
    syncer.handle(Answered(0, 200, "Success"))
    attempts = []
    for now in range(5, 1000, 5):
        syncer.handle(Woken(now))
        syncer.handle(Answered(now, 200, ""))
        if Load(URL, FOOD) in syncer.handle(Listed(now, loaded(CAD))):
            attempts.append(now)
            syncer.handle(Answered(now, 500, "broken"))
    pauses = [b - a for a, b in pairwise(attempts)]
    assert attempts[0] == 5
    assert pauses == [10, 20, 40, 80, 160, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]


def test_a_changed_source_is_tried_at_once() -> None:
    syncer = healthy(Config(wanted=(FOOD,)))
    syncer.handle(Listed(0, BASE))
    syncer.handle(Answered(0, 500, "broken"))
    new = Adapter("food", "repo/right")
    assert acts(syncer.handle(Configured(1, Config(wanted=(new,))))) == [CheckHealth(URL)]
    syncer.handle(Answered(1, 200, ""))
    assert acts(syncer.handle(Listed(1, BASE))) == [Load(URL, new)]


def test_the_same_configuration_again_is_no_event() -> None:
    syncer = healthy(Config(wanted=(FOOD,)))
    assert syncer.handle(Configured(1, Config(wanted=(FOOD,)))) == []


def test_a_change_during_a_request_is_followed_when_it_has_ended() -> None:
    syncer = healthy(Config(wanted=(FOOD, CAD)))
    assert acts(syncer.handle(Listed(0, BASE))) == [Load(URL, FOOD)]
    assert acts(syncer.handle(Configured(1, Config(wanted=(FOOD,))))) == []
    assert acts(syncer.handle(Answered(2, 200, "Success"))) == [CheckHealth(URL)]
    syncer.handle(Answered(2, 200, ""))
    assert acts(syncer.handle(Listed(2, loaded(FOOD)))) == [Wake(7)]


def test_a_timer_during_a_request_starts_no_second_one() -> None:
    syncer = healthy(Config(wanted=(FOOD,)))
    assert syncer.handle(Woken(3)) == []
    assert acts(syncer.handle(Listed(3, BASE))) == [Load(URL, FOOD)]
    assert syncer.handle(Woken(4)) == []


def test_an_adapter_that_is_already_there_or_already_gone_is_success() -> None:
    syncer = healthy(Config(wanted=(FOOD,), unwanted=("cad",)))
    assert acts(syncer.handle(Listed(0, loaded(CAD)))) == [Unload(URL, "cad")]
    gone = "The lora adapter 'cad' cannot be found."
    assert acts(syncer.handle(Answered(0, 404, gone))) == [Load(URL, FOOD)]
    there = "The lora adapter 'food' has already been loaded."
    commands = syncer.handle(Answered(0, 400, there))
    assert acts(commands) == [Wake(5)]
    assert said(commands, "error") == []


def test_a_server_that_forbids_changes_is_reported_once() -> None:
    syncer = healthy(Config(wanted=(FOOD, CAD)))
    syncer.handle(Listed(0, BASE))
    first = syncer.handle(Answered(0, 404, "Not Found"))
    second = syncer.handle(Answered(0, 404, "Not Found"))
    errors = said([*first, *second], "error")
    assert len(errors) == 1
    assert "INFERWAY0604" in errors[0]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in errors[0]


def test_localhost_is_replaced_where_it_does_not_reach_the_pod() -> None:
    for host, expected in (("localhost", "127.77.1.5"), ("vllm.svc", "vllm.svc")):
        syncer = Syncer(Schedule(), "127.77.1.5")
        commands = syncer.handle(Configured(0, Config(host=host)))
        assert acts(commands) == [CheckHealth(f"http://{expected}:8000")]
    syncer = Syncer(Schedule())
    commands = syncer.handle(Configured(0, Config(host="fd00::1", port=9)))
    assert acts(commands) == [CheckHealth("http://[fd00::1]:9")]


IDS = st.sampled_from(["a", "b", "c", "base"])
CONFIGS = st.builds(
    lambda wanted, unwanted: Config(
        wanted=tuple(Adapter(i, s) for i, s in wanted.items()),
        unwanted=tuple(sorted(unwanted - wanted.keys())),
    ),
    st.dictionaries(IDS, st.sampled_from(["s1", "s2"])),
    st.sets(IDS),
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    configs=st.lists(CONFIGS, min_size=1, max_size=4),
    start=st.dictionaries(st.sampled_from(["a", "b", "x"]), st.sampled_from(["s1", "s2"])),
    failing=st.lists(st.booleans(), max_size=12),
)
def test_the_server_ends_up_as_the_last_configuration_says(
    configs: list[Config], start: dict[str, str], failing: list[bool]
) -> None:
    """Whatever changes and fails on the way: wanted is there, unwanted is not, others stay."""
    server = dict(start)
    syncer = Syncer(Schedule())
    faults = list(failing)
    pending = list(configs)
    now = 0.0
    commands = syncer.handle(Configured(now, pending.pop(0)))
    for _ in range(400):
        under_way = [c for c in acts(commands) if not isinstance(c, Wake)]
        assert len(under_way) <= 1
        if not under_way:
            (wake,) = acts(commands)
            assert isinstance(wake, Wake)
            if pending:
                commands = syncer.handle(Configured(now, pending.pop(0)))
                if acts(commands):
                    continue
            now = wake.at
            commands = syncer.handle(Woken(now))
            continue
        command = under_way[0]
        if pending and len(faults) % 2:
            # A change in the middle of a request.
            assert acts(syncer.handle(Configured(now, pending.pop(0)))) == []
        if faults and faults.pop():
            failed = isinstance(command, ListModels)
            commands = syncer.handle(Listed(now, None) if failed else Answered(now, 500, "no"))
        elif isinstance(command, ListModels):
            models = {**BASE, **{name: (source, "base") for name, source in server.items()}}
            commands = syncer.handle(Listed(now, models))
        else:
            if isinstance(command, Load):
                assert command.adapter.id != "base"
                assert command.adapter.id not in server
                server[command.adapter.id] = command.adapter.source
            elif isinstance(command, Unload):
                assert command.name != "base"
                del server[command.name]
            commands = syncer.handle(Answered(now, 200, "Success"))
    last = configs[-1]
    for adapter in last.wanted:
        if adapter.id != "base":
            assert server[adapter.id] == adapter.source
    assert not server.keys() & set(last.unwanted)
    named = {a.id for c in configs for a in c.wanted} | {n for c in configs for n in c.unwanted}
    for name in start.keys() - named:
        assert server[name] == start[name]
