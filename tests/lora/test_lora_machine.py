"""The syncer's machine, by conversations. What it does against a model of a server stands in
test_lora_converges.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from inferway.lora.config import Config, parse
from inferway.lora.fetches import PREPARING_MAX
from inferway.lora.machine import SLOTS_ROUNDS, Syncer
from inferway.lora.messages import (
    AdapterState,
    Answered,
    CheckHealth,
    Command,
    Configured,
    Listed,
    ListModels,
    Load,
    Model,
    Note,
    Place,
    Prepare,
    Prepared,
    ReadSlots,
    Report,
    Say,
    Schedule,
    Slots,
    Tidy,
    Unload,
    Wake,
    Woken,
)
from inferway.lora.reasons import Answer, Problem, Reason
from inferway.lora.retry import HARMFUL_SECONDS_FIRST, HARMFUL_SECONDS_MAX, RETRY_SECONDS_MAX
from inferway.lora.source import Adapter, served_path

URL = "http://localhost:8000"
FOOD = Adapter("food", "repo/food", "base")
FOOD2 = Adapter("food", "repo/food-v2", "base")
CAD = Adapter("cad", "repo/cad")
REMOTE = Adapter("remote", "https://example.com/remote.tar.gz")
BASE = {"base": Model("/models/base")}
STORE = "/adapters/inferway/pod"
OK = Answer(200, "Success")
SHAPES = "The size of tensor a (128) must match the size of tensor b (256)"


def acts(commands: Sequence[Command]) -> list[Command]:
    """What goes out, without the log, the metrics and the Events."""
    return [c for c in commands if not isinstance(c, Say | Report | Note | Tidy)]


def said(commands: Sequence[Command], level: str) -> list[str]:
    return [f"{c.message} {c.data}" for c in commands if isinstance(c, Say) and c.level == level]


def noted(commands: Sequence[Command]) -> list[str]:
    return [c.reason for c in commands if isinstance(c, Note)]


def reported(commands: Sequence[Command]) -> Mapping[str, AdapterState]:
    return [c for c in commands if isinstance(c, Report)][-1].adapters


def loaded(*adapters: Adapter) -> dict[str, Model]:
    return {**BASE, **{a.id: Model(served_path(a, STORE), "base") for a in adapters}}


def load(adapter: Adapter, *, in_place: bool = False, path: str = "") -> Load:
    return Load(
        url=URL,
        adapter=adapter,
        path=path or served_path(adapter, STORE),
        in_place=in_place,
        base_root="" if path else "/models/base",
    )


class Talk:
    """A conversation with the machine; ``last`` is what it said last."""

    def __init__(self, config: Config | None = None, schedule: Schedule | None = None) -> None:
        self.syncer = Syncer(schedule or Schedule(), Place(store=STORE))
        self.last: list[Command] = []
        if config is not None:
            self.configure(0, config)

    def say(self, event: object) -> list[Command]:
        self.last = self.syncer.handle(event)  # type: ignore[arg-type]
        return acts(self.last)

    def configure(self, now: float, config: Config) -> list[Command]:
        return self.say(Configured(now, config))

    def answer(self, now: float, answer: Answer, problem: Problem | None = None) -> list[Command]:
        return self.say(Answered(now, answer, problem))

    def listed(self, now: float, models: dict[str, Model] | None, text: str = "") -> list[Command]:
        """Answers the health check and the list, and knows no slots."""
        assert self.say(Answered(now, Answer(200)))[-1] == ListModels(URL)
        before = self.last
        out = self.say(Listed(now, models, text))
        first = [*before, *self.last]
        if out == [ReadSlots(URL)]:
            out = self.say(Slots(now, 0))
            first += self.last
        self.last = first
        return out

    def round(self, now: float, models: dict[str, Model]) -> list[Command]:
        assert self.say(Woken(now)) == [CheckHealth(URL)]
        return self.listed(now, models)


def test_missing_adapters_are_loaded_one_by_one_then_it_rests() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    assert acts(talk.last) == [CheckHealth(URL)]
    assert talk.listed(0, BASE) == [load(FOOD)]
    assert talk.answer(1, OK) == [load(CAD)]
    assert noted(talk.last) == ["AdapterLoaded"]
    assert talk.answer(2, OK) == [Wake(7)]
    assert talk.say(Woken(7)) == [CheckHealth(URL)]


def test_what_is_as_wanted_is_not_touched() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    assert talk.listed(0, loaded(FOOD, CAD)) == [Wake(5)]
    assert reported(talk.last) == {"food": AdapterState("repo/food")}


def test_unwanted_adapters_are_unloaded_and_make_room_first() -> None:
    talk = Talk(Config(wanted=(CAD,), unwanted=("food", "absent")))
    assert talk.listed(0, loaded(FOOD)) == [Unload(URL, "food")]
    assert talk.answer(1, OK) == [load(CAD)]
    assert not reported(talk.last)["food"].loaded
    assert noted(talk.last) == ["AdapterUnloaded"]


# Another source


def test_a_new_source_is_loaded_in_place() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    assert talk.listed(0, loaded(FOOD)) == [load(FOOD2, in_place=True)]
    assert talk.answer(1, OK) == [Wake(6)]
    assert noted(talk.last) == ["AdapterReplaced"]
    assert reported(talk.last)["food"] == AdapterState("repo/food-v2")


def test_a_server_that_cannot_load_in_place_gets_an_unload_and_a_load() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    old_server = Answer(400, "The lora adapter 'food' has already been loaded.")
    assert talk.answer(1, old_server) == [Unload(URL, "food")]
    assert talk.answer(2, OK) == [load(FOOD2)]
    assert talk.answer(3, OK) == [Wake(8)]


def test_without_in_place_a_new_source_that_fails_brings_the_old_one_back() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    talk.answer(0, Answer(400, "The lora adapter 'food' has already been loaded."))
    talk.answer(0, OK)
    back = load(FOOD2, path="repo/food")
    assert talk.answer(0, Answer(404, "No adapter found for repo/food-v2")) == [CheckHealth(URL)]
    assert talk.listed(0, BASE) == [back]
    assert talk.answer(0, OK) == [Wake(5)]
    assert "back at its old source" in said(talk.last, "warning")[0]
    # The old source serves; the new one is not tried again for a while, because that is a gap.
    assert talk.round(HARMFUL_SECONDS_FIRST - 1, loaded(FOOD)) == [Wake(HARMFUL_SECONDS_FIRST + 4)]
    assert talk.round(HARMFUL_SECONDS_FIRST, loaded(FOOD)) == [load(FOOD2, in_place=True)]


def test_a_new_source_that_may_have_hurt_the_old_one_is_followed_by_the_old_one() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    assert talk.answer(0, Answer(500, SHAPES)) == [CheckHealth(URL)]
    assert talk.listed(0, loaded(FOOD)) == [load(FOOD2, in_place=True, path="repo/food")]
    # Told before the list: at the health check, which showed that the server lives.
    assert talk.answer(0, OK) == [CheckHealth(URL)]
    assert talk.listed(0, loaded(FOOD)) == [Wake(5)]
    state = reported(talk.configure(1, Config(wanted=(FOOD2, CAD))) and talk.last)["food"]
    assert state == AdapterState("repo/food", "WrongBaseModel")


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, "Loading lora food failed: No adapter found for <path>"),
        Answer(500, "LoRA rank 64 is greater than max_lora_rank 16."),
        Answer(500, "<path> doesn't contain tensors"),
    ],
)
def test_a_new_source_that_is_refused_at_a_look_leaves_the_old_one_in_peace(
    answer: Answer,
) -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    out = talk.answer(0, answer)
    if out == [CheckHealth(URL)]:
        out = talk.listed(0, loaded(FOOD))
    assert out == [Wake(5)]


def test_an_old_source_that_does_not_come_back_is_told_and_the_new_one_gets_its_turn() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    talk.answer(0, Answer(500, SHAPES))
    talk.listed(0, loaded(FOOD))
    talk.answer(0, Answer(404, "No adapter found for repo/food"))
    assert "did not come back" in said(talk.last, "error")[0]
    talk.listed(0, BASE)
    assert talk.round(HARMFUL_SECONDS_FIRST, BASE) == [load(FOOD2)]


def test_a_server_that_reports_another_root_for_a_source_is_not_reloaded_for_ever() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    talk.listed(0, BASE)
    talk.answer(1, OK)
    for now in (6, 12):
        resolved = {**BASE, "food": Model("/cache/food", "base")}
        assert talk.round(now, resolved) == [Wake(now + 5)]


# Base models, contradictions, odd things


def test_base_models_are_never_touched() -> None:
    config = Config(wanted=(Adapter("base", "other"),), unwanted=("base2",))
    talk = Talk(config)
    models = {"base": Model("base"), "base2": Model("base2")}
    assert talk.listed(0, models) == [Wake(5)]
    warnings = said(talk.last, "warning")
    assert len(warnings) == 2
    assert all("INFERWAY0619" in warning for warning in warnings)
    assert noted(talk.last) == ["NameOfBaseModel", "NameOfBaseModel"]
    assert {state.reason for state in reported(talk.last).values()} == {"NameOfBaseModel"}
    talk.round(5, models)
    assert said(talk.last, "warning") == []


def test_a_contradicted_id_is_left_alone_and_told_once() -> None:
    problem = Problem(Reason.IN_BOTH_LISTS, "it is in ensureExist and in ensureNotExist")
    talk = Talk(Config(wanted=(CAD,), skipped=(("food", problem),)))
    assert noted(talk.last) == ["InBothLists"]
    assert talk.listed(0, loaded(FOOD, CAD)) == [Wake(5)]
    talk.configure(1, Config(skipped=(("food", problem),)))
    assert noted(talk.last) == []
    talk.answer(1, Answer(200))
    talk.say(Listed(1, loaded(FOOD, CAD)))


def test_an_adapter_for_another_base_model_is_told_once_and_loaded() -> None:
    talk = Talk(Config(wanted=(Adapter("food", "repo/food", "meta/other"),)))
    out = talk.listed(0, BASE)
    assert isinstance(out[0], Load)
    assert "INFERWAY0622" in said(talk.last, "warning")[0]
    assert noted(talk.last) == ["BaseModelDiffers"]
    talk.answer(0, OK)
    talk.round(5, loaded(Adapter("food", "repo/food")))
    assert noted(talk.last) == []


@pytest.mark.parametrize(
    ("named", "models"),
    [
        ("Qwen/Qwen2.5-1.5B", {"Qwen/Qwen2.5-1.5B-Instruct": Model("Qwen/Qwen2.5-1.5B-Instruct")}),
        ("org/model", {"served": Model("/models/model")}),
        ("base", {"base": Model("/models/x")}),
        ("anything", {}),
    ],
)
def test_a_base_model_that_may_be_the_same_is_no_news(named: str, models: dict[str, Model]) -> None:
    talk = Talk(Config(wanted=(Adapter("food", "repo/food", named),)))
    talk.listed(0, models)
    assert said(talk.last, "warning") == []


def test_more_adapters_than_slots_are_told_and_loaded_all_the_same() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.answer(0, Answer(200))
    assert talk.say(Listed(0, BASE)) == [ReadSlots(URL)]
    assert talk.say(Slots(0, 1)) == [load(FOOD)]
    assert "INFERWAY0623" in said(talk.last, "warning")[0]
    assert noted(talk.last) == ["MoreAdaptersThanSlots"]
    talk.answer(0, OK)
    assert talk.answer(0, OK) == [Wake(5)]
    talk.say(Woken(5))
    talk.answer(5, Answer(200))
    # Known slots are not asked for again.
    assert talk.say(Listed(5, loaded(FOOD, CAD))) == [Wake(10)]
    assert noted(talk.last) == []


def test_slots_that_are_not_told_are_asked_for_once_in_a_while() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    talk.listed(0, loaded(FOOD))
    asked = 0
    for number in range(2 * SLOTS_ROUNDS):
        talk.say(Woken(5 * number))
        talk.answer(5 * number, Answer(200))
        if talk.say(Listed(5 * number, loaded(FOOD))) == [ReadSlots(URL)]:
            asked += 1
            talk.say(Slots(5 * number, 0))
    assert asked == 2


# A server that is not as it should be


def test_a_server_that_is_not_up_is_waited_for_and_reported_once() -> None:
    schedule = Schedule(health_timeout_seconds=5, health_interval_seconds=2)
    talk = Talk(Config(wanted=(FOOD,)), schedule)
    errors, notes = [], []
    for now in range(0, 20, 2):
        assert talk.answer(now, Answer(0, "refused")) == [Wake(now + 2)]
        errors += said(talk.last, "error")
        notes += noted(talk.last)
        assert talk.say(Woken(now + 2)) == [CheckHealth(URL)]
    assert len(errors) == 1
    assert "INFERWAY0603" in errors[0]
    assert "refused" in errors[0]
    assert notes == ["ServerNotHealthy"]
    assert talk.answer(20, Answer(200)) == [ListModels(URL)]


def test_a_failed_list_changes_nothing_and_is_told_once() -> None:
    talk = Talk(Config(wanted=(FOOD,), unwanted=("cad",)))
    assert talk.listed(0, None, "status 500") == [Wake(5)]
    assert "INFERWAY0608" in said(talk.last, "error")[0]
    assert noted(talk.last) == ["ModelsNotListed"]
    talk.say(Woken(5))
    assert talk.listed(5, None, "status 500") == [Wake(10)]
    assert said(talk.last, "error") == []


def test_a_failing_adapter_is_retried_with_growing_pauses_and_holds_up_nothing() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, BASE)
    assert talk.answer(0, Answer(404, "No adapter found for repo/food")) == [load(CAD)]
    assert "INFERWAY0609" in said(talk.last, "error")[0]
    assert "No adapter found" in said(talk.last, "error")[0]
    assert noted(talk.last) == ["SourceNotFound"]
    assert reported(talk.last)["food"] == AdapterState("", "SourceNotFound")
    talk.answer(0, OK)
    attempts = []
    for now in range(5, 1000, 5):
        if talk.round(now, loaded(CAD)) == [load(FOOD)]:
            attempts.append(now)
            talk.answer(now, Answer(404, "No adapter found for repo/food"))
    pauses = [b - a for a, b in pairwise(attempts)]
    assert attempts[0] == 5
    assert pauses == [10, 20, 40, 80, 160, RETRY_SECONDS_MAX, RETRY_SECONDS_MAX]


def test_what_failed_before_comes_last() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, BASE)
    talk.answer(0, Answer(404, "No adapter found"))
    talk.answer(0, Answer(404, "No adapter found"))
    other = Adapter("other", "repo/other")
    talk.configure(100, Config(wanted=(FOOD, CAD, other)))
    assert talk.listed(100, BASE) == [load(other)]


def test_an_error_of_the_engine_is_followed_by_a_look_at_its_health() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, BASE)
    assert talk.answer(0, Answer(500, SHAPES)) == [CheckHealth(URL)]
    assert talk.listed(0, BASE) == [load(CAD)]
    assert noted(talk.last) == ["WrongBaseModel"]


def test_a_server_that_dies_of_an_adapter_gets_the_others_first_and_it_rarely() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, BASE)
    assert talk.answer(0, Answer(0, "connection reset", lost=True)) == [CheckHealth(URL)]
    assert talk.answer(1, Answer(0, "refused")) == [Wake(3)]
    assert "INFERWAY0617" in said(talk.last, "error")[0]
    assert noted(talk.last) == ["ServerDied"]
    assert talk.say(Woken(3)) == [CheckHealth(URL)]
    # It comes up again without its adapters.
    assert talk.listed(3, BASE) == [load(CAD)]
    assert talk.answer(4, OK) == [Wake(9)]
    deaths = []
    now = 5.0
    while len(deaths) < 5:
        now += 5
        if talk.round(now, loaded(CAD)) == [load(FOOD)]:
            deaths.append(now)
            talk.answer(now, Answer(0, "connection reset", lost=True))
            talk.answer(now, Answer(503))
    pauses = [b - a for a, b in pairwise([0.0, *deaths])]
    assert pauses[0] >= HARMFUL_SECONDS_FIRST
    assert pauses[1:4] == [120, 480, 1920]
    assert pauses[4] == HARMFUL_SECONDS_MAX


def test_a_server_that_was_restarted_gets_its_adapters_back() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, loaded(FOOD, CAD))
    assert talk.round(5, BASE) == [load(FOOD)]
    assert "INFERWAY0618" in said(talk.last, "warning")[0]
    assert noted(talk.last) == ["AdaptersLost"]
    assert talk.answer(5, OK) == [load(CAD)]


def test_a_server_that_forbids_changes_is_reported_once() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    talk.listed(0, BASE)
    talk.answer(0, Answer(404, "Not Found"))
    first = talk.last
    talk.answer(0, Answer(404, "Not Found"))
    errors = said([*first, *talk.last], "error")
    assert len(errors) == 1
    assert "INFERWAY0604" in errors[0]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in errors[0]
    assert reported(talk.last)["cad"].reason == "NotAllowed"


def test_an_adapter_that_is_already_there_or_already_gone_is_success() -> None:
    talk = Talk(Config(wanted=(FOOD,), unwanted=("cad",)))
    assert talk.listed(0, loaded(CAD)) == [Unload(URL, "cad")]
    gone = "The lora adapter 'cad' cannot be found."
    assert talk.answer(0, Answer(404, gone)) == [load(FOOD)]
    there = "The lora adapter 'food' has already been loaded."
    assert talk.answer(0, Answer(400, there)) == [Wake(5)]
    assert said(talk.last, "error") == []


def test_an_unload_that_fails_is_retried_and_holds_up_nothing() -> None:
    talk = Talk(Config(wanted=(FOOD,), unwanted=("cad",)))
    talk.listed(0, loaded(CAD))
    assert talk.answer(0, Answer(500, "no")) == [load(FOOD)]
    assert noted(talk.last) == ["UnloadFailed"]
    talk.answer(0, OK)
    assert talk.round(5, loaded(FOOD, CAD)) == [Unload(URL, "cad")]


# Changes


def test_a_changed_source_is_tried_at_once() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    talk.listed(0, BASE)
    talk.answer(0, Answer(404, "No adapter found"))
    new = Adapter("food", "repo/right")
    assert talk.configure(1, Config(wanted=(new,))) == [CheckHealth(URL)]
    assert talk.listed(1, BASE) == [load(new)]


def test_the_same_configuration_again_is_no_event() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    talk.configure(1, Config(wanted=(FOOD,)))
    assert talk.last == []


def test_a_change_during_a_request_is_followed_when_it_has_ended() -> None:
    talk = Talk(Config(wanted=(FOOD, CAD)))
    assert talk.listed(0, BASE) == [load(FOOD)]
    assert talk.configure(1, Config(wanted=(FOOD,))) == []
    assert talk.answer(2, OK) == [CheckHealth(URL)]
    assert talk.listed(2, loaded(FOOD)) == [Wake(7)]


def test_a_timer_during_a_request_starts_no_second_one() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    assert talk.say(Woken(3)) == []
    assert talk.listed(3, BASE) == [load(FOOD)]
    assert talk.say(Woken(4)) == []


def test_another_server_is_known_nothing_of() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    talk.listed(0, loaded(FOOD))
    assert talk.configure(1, Config(port=9, wanted=(FOOD,))) == [CheckHealth("http://localhost:9")]
    assert talk.answer(1, Answer(200)) == [ListModels("http://localhost:9")]
    talk.say(Listed(1, BASE))
    assert noted(talk.last) == []


def test_an_answer_of_the_server_before_says_nothing_of_the_new_one() -> None:
    talk = Talk(Config(wanted=(FOOD,)))
    assert talk.listed(0, BASE) == [load(FOOD)]
    assert talk.configure(1, Config(port=9, wanted=(FOOD,))) == []
    assert talk.answer(1, OK) == [CheckHealth("http://localhost:9")]
    assert not reported(talk.configure(1, Config(port=9)) or talk.last)
    talk.answer(1, Answer(200))
    talk.say(Listed(1, BASE))
    assert noted(talk.last) == []


def test_a_server_that_was_gone_before_a_load_did_not_die_of_it() -> None:
    talk = Talk(Config(wanted=(FOOD2,)))
    talk.listed(0, loaded(FOOD))
    assert talk.answer(0, Answer(0, "refused", refused=True)) == [CheckHealth(URL)]
    assert talk.answer(0, Answer(0, "refused", refused=True)) == [Wake(2)]
    assert "ServerDied" not in noted(talk.last)
    assert talk.say(Woken(2)) == [CheckHealth(URL)]
    assert talk.listed(2, BASE) == [load(FOOD2)]


def test_localhost_is_replaced_where_it_does_not_reach_the_pod() -> None:
    for host, expected in (("localhost", "127.77.1.5"), ("vllm.svc", "vllm.svc")):
        syncer = Syncer(Schedule(), Place(localhost="127.77.1.5"))
        commands = syncer.handle(Configured(0, Config(host=host)))
        assert acts(commands) == [CheckHealth(f"http://{expected}:8000")]
    syncer = Syncer(Schedule())
    commands = syncer.handle(Configured(0, Config(host="fd00::1", port=9)))
    assert acts(commands) == [CheckHealth("http://[fd00::1]:9")]


# Fetched sources


def test_fetches_begin_before_the_server_is_up_and_hold_up_nothing() -> None:
    talk = Talk(Config(wanted=(REMOTE, FOOD)))
    path = served_path(REMOTE, STORE)
    assert path.startswith(f"{STORE}/remote-")
    assert acts(talk.last) == [Prepare(REMOTE, path), CheckHealth(URL)]
    assert talk.listed(0, BASE) == [load(FOOD)]
    # It arrives during a request, and has a round of its own after it.
    assert talk.say(Prepared(1, REMOTE)) == []
    assert talk.answer(1, OK) == [CheckHealth(URL)]
    assert Tidy(frozenset({path})) in talk.last
    assert talk.listed(1, loaded(FOOD)) == [load(REMOTE)]
    assert talk.answer(2, OK) == [Wake(7)]


def test_a_fetch_that_ends_while_the_syncer_rests_is_loaded_at_once() -> None:
    talk = Talk(Config(wanted=(REMOTE,)))
    assert talk.listed(0, BASE) == [Wake(5)]
    assert talk.say(Prepared(1, REMOTE)) == [CheckHealth(URL)]
    assert talk.listed(1, BASE) == [load(REMOTE)]


def test_a_fetch_that_fails_is_retried_and_touches_no_server() -> None:
    talk = Talk(Config(wanted=(REMOTE,)))
    problem = Problem(Reason.CHECKSUM_MISMATCH, "its archive is sha256:0, not sha256:1")
    old = {**BASE, "remote": Model("/elsewhere", "base")}
    assert talk.listed(0, old) == [Wake(5)]
    assert talk.say(Prepared(1, REMOTE, problem)) == []
    assert "INFERWAY0611" in said(talk.last, "error")[0]
    assert reported(talk.last)["remote"] == AdapterState("/elsewhere", "ChecksumMismatch")
    assert talk.round(5, old) == [Wake(10)]
    assert talk.round(6, old) == [Prepare(REMOTE, served_path(REMOTE, STORE)), Wake(11)]


def test_few_fetches_are_under_way_at_once() -> None:
    many = tuple(Adapter(f"a{i}", f"https://example.com/{i}.tar.gz") for i in range(5))
    talk = Talk(Config(wanted=many))
    assert len([c for c in talk.last if isinstance(c, Prepare)]) == PREPARING_MAX
    out = talk.say(Prepared(0, many[0]))
    assert [c.adapter for c in out if isinstance(c, Prepare)] == [many[PREPARING_MAX]]


def test_what_was_fetched_for_an_older_configuration_is_cleared_away() -> None:
    talk = Talk(Config(wanted=(REMOTE,)))
    talk.configure(0, Config(wanted=(FOOD,)))
    assert talk.listed(0, loaded(FOOD)) == [CheckHealth(URL)]
    talk.listed(0, loaded(FOOD))
    assert Tidy(frozenset()) in talk.last
    talk.say(Prepared(1, REMOTE))
    talk.round(5, loaded(FOOD))
    assert Tidy(frozenset()) in talk.last


def test_a_folder_that_the_server_does_not_see_is_named() -> None:
    talk = Talk(Config(wanted=(REMOTE,)))
    talk.listed(0, BASE)
    talk.say(Prepared(0, REMOTE))
    talk.listed(0, BASE)
    talk.answer(0, Answer(404, "No adapter found for <path>"))
    error = said(talk.last, "error")[0]
    assert f"the server does not see {served_path(REMOTE, STORE)}" in error
    # The pauses grow although the fetch itself succeeds each time.
    talk.round(5, BASE)
    talk.say(Prepared(5, REMOTE))
    talk.listed(5, BASE)
    talk.answer(5, Answer(404, "No adapter found for <path>"))
    assert "in 10 s" in said(talk.last, "error")[0]


def test_a_folder_that_cannot_be_right_is_not_sent_to_the_server() -> None:
    talk = Talk(Config(wanted=(Adapter("food", "/models/food"), CAD)))
    talk.listed(0, BASE)
    problem = Problem(Reason.BROKEN_ADAPTER, "/models/food has no adapter_config.json")
    assert talk.answer(0, Answer(0), problem) == [load(CAD)]
    assert "INFERWAY0613" in said(talk.last, "error")[0]


def test_an_unusual_document_goes_through() -> None:
    text = """
    vLLMLoRAConfig:
      ensureExist: {models: [{id: a, source: s}, {id: b, source: s}, {id: b, source: t}]}
      ensureNotExist: {models: [{id: a}, {id: c}]}
    """
    talk = Talk(parse(text).config)
    assert sorted(noted(talk.last)) == ["DuplicateName", "InBothLists"]
    models = loaded(*(Adapter(name, "s") for name in "abc"))
    assert talk.listed(0, models) == [Unload(URL, "c")]
