"""What is counted of requests, seen as a scrape shows it."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping

import pytest
from prometheus_client import parser
from test_picker_process import picker_for

from inferway.base.clock import SystemClock
from inferway.cluster.store import Key
from inferway.observe.catalogue import catalogue, families
from inferway.observe.exposition import Exposition
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout
from inferway.picker.picker_metrics import PickerSource, RequestSource, ScrapeView
from inferway.picker.replies import Chosen
from inferway.picker.series import DEFAULT_FLOW, OTHER, SeriesTable
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import NOTES_MAX, Telemetry
from inferway.scheduling.events import Doubted, Event, Finished, ModelCard, ProxyGone, Tick
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.rewrite import Rewrite, Rule, Target, compile_table
from inferway.scheduling.snapshot import Endpoint

ADDRESS = "10.0.0.1:8000"


def body(model: str, *, stream: bool) -> bytes:
    return json.dumps({"model": model, "prompt": "hello", "stream": stream}).encode()


class World:
    """A pool with one server, and what a scrape of its metrics would read."""

    def __init__(self) -> None:
        self.scheduler = PoolScheduler(CostPolicy())
        self.scheduler.set_endpoints([Endpoint(ADDRESS, "pod-1")], 0.0)
        self.scheduler.observe_models(ADDRESS, [ModelCard("m"), ModelCard("b", "m")])
        clock = SystemClock()
        self.telemetry = Telemetry("ns/p", self.scheduler, DecisionRing(clock))
        self.pool = PoolRuntime(self.scheduler, synced=True)
        self.service = PickService(
            {("ns", "p"): self.pool}, clock, random.Random(1), self.telemetry, "t"
        )
        self.exposition = Exposition(
            catalogue(),
            families("gie,llm-d"),
            [
                PickerSource(self.telemetry, Key("ns", "p"), ScrapeView(list)),
                RequestSource(self.telemetry),
            ],
        )

    def ask(self, model: str = "m", *, stream: bool = False, flow: str = "") -> str:
        headers = {b"x-gateway-inference-fairness-id": flow.encode()} if flow else {}
        asked = body(model, stream=stream)
        call = Callout(b"POST", b"/pick/ns/p/v1/completions", asked, b"r-1", headers)
        reply = self.service.answer(call, "proxy")
        return reply.pick if isinstance(reply, Chosen) else ""

    def settle(self, event: Event, now: float = 1.0) -> None:
        self.telemetry.settled(event, self.scheduler.settle(event, now))

    def scrape(self) -> Mapping[str, float]:
        """Samples by what stands before their value, buckets left out."""
        text = self.exposition.text()[0].decode()
        found = {}
        for family in parser.text_string_to_metric_families(text):
            for sample in family.samples:
                if not sample.name.endswith("_bucket"):
                    name = sample.name.removesuffix("_sum").removesuffix("_count")
                    labels = ",".join(sample.labels[one] for one in catalogue()[name].labels)
                    found[f"{sample.name}{{{labels}}}"] = sample.value
        return found


def answered(pick: str, *, code: int = 200, failed: bool = False, tokens: int = 11) -> Finished:
    return Finished(
        pick,
        code,
        ADDRESS,
        1,
        failed,
        first_byte_seconds=0.25,
        last_byte_seconds=2.25,
        duration_seconds=2.5,
        prompt_tokens=40,
        completion_tokens=tokens,
        cached_tokens=16,
        answer_bytes=900,
    )


def test_an_answer_is_counted_under_both_published_names() -> None:
    world = World()
    pick = world.ask(stream=True)
    seen = world.scrape()
    llm_d, gie = f"{{m,m,{DEFAULT_FLOW},0}}", "{m,m}"
    assert seen[f"llm_d_epp_request_running{llm_d}"] == 1
    assert seen["inference_objective_running_requests{m}"] == 1
    world.settle(answered(pick))
    seen = world.scrape()
    assert seen[f"llm_d_epp_request_running{llm_d}"] == 0
    for name, value in {
        f"llm_d_epp_request_total{llm_d}": 1,
        f"inference_objective_request_total{gie}": 1,
        f"llm_d_epp_request_ttft_seconds_sum{{m,m,{DEFAULT_FLOW},0,true}}": 0.25,
        f"llm_d_epp_request_duration_seconds_sum{llm_d}": 2.5,
        f"inference_objective_request_duration_seconds_sum{gie}": 2.5,
        f"llm_d_epp_request_input_tokens_sum{llm_d}": 40,
        f"inference_objective_input_tokens_sum{gie}": 40,
        f"llm_d_epp_request_output_tokens_sum{llm_d}": 11,
        f"llm_d_epp_request_cached_tokens_sum{llm_d}": 16,
        f"llm_d_epp_response_size_bytes_sum{llm_d}": 900,
        f"inference_objective_response_sizes_sum{gie}": 900,
        f"llm_d_epp_request_streaming_tpot_seconds_sum{llm_d}": 0.2,
        f"inference_objective_normalized_time_per_output_token_seconds_sum{gie}": 2.5 / 11,
        f"inference_objective_request_sizes_sum{gie}": len(body("m", stream=True)),
        "llm_d_epp_scheduler_attempts_total{success,m,pod-1,ns,8000}": 1,
        "inferway_picker_requests_finished_total{ns/p,200}": 1,
        "inferway_picker_tokens_total{ns/p,cached}": 16,
        "inferway_picker_decisions_total{ns/p,chosen}": 1,
        "inferway_picker_decision_seconds_count{ns/p}": 1,
        "inference_extension_scheduler_e2e_duration_seconds_count{}": 1,
    }.items():
        assert seen[name] == pytest.approx(value), name
    assert f"llm_d_epp_request_error_total{llm_d}" not in seen


@pytest.mark.parametrize(
    ("code", "failed", "error"),
    [(500, False, True), (503, True, True), (0, True, True), (404, False, True),
     (200, True, True), (0, False, False), (200, False, False)],
)  # fmt: skip
def test_servers_errors_move_the_error_counters(code: int, failed: bool, error: bool) -> None:
    world = World()
    world.settle(answered(world.ask(), code=code, failed=failed))
    seen = world.scrape()
    name = f"llm_d_epp_request_error_total{{m,m,{DEFAULT_FLOW},0,ModelServerError}}"
    assert seen.get(name, 0) == error
    assert seen.get("inference_objective_request_error_total{m,m,ModelServerError}", 0) == error
    counted = seen[f"llm_d_epp_request_duration_seconds_count{{m,m,{DEFAULT_FLOW},0}}"]
    assert counted == (code == 200 and not failed)


def test_refusals_count_as_errors_and_strangers_take_no_series() -> None:
    world = World()
    assert world.ask("made-up") == ""
    assert world.ask("made-up-too") == ""
    call = Callout(b"POST", b"/pick/ns/p/v1/completions", b"{no", b"", {})
    world.service.answer(call, "proxy")
    seen = world.scrape()
    stranger = f"{OTHER},{OTHER},{DEFAULT_FLOW},0"
    assert seen[f"llm_d_epp_request_error_total{{{stranger},BadConfiguration}}"] == 2
    assert seen[f"llm_d_epp_request_error_total{{{stranger},BadRequest}}"] == 1
    assert seen["inferway_picker_decisions_total{ns/p,unknown_model}"] == 2
    assert not [name for name in seen if "made-up" in name]
    world.scheduler.set_endpoints([], 1.0)
    world.ask("m")
    seen = world.scrape()
    assert seen["inference_objective_request_error_total{m,m,ServiceUnavailable}"] == 1
    assert seen["llm_d_epp_scheduler_attempts_total{failure,m,,,}"] == 1


def test_a_rewritten_request_keeps_the_clients_name() -> None:
    world = World()
    rule = Rule(("alias",), (Target("m"),))
    world.pool.rewrites = compile_table([Rewrite("rw", "", (rule,))])
    world.settle(answered(world.ask("alias")))
    seen = world.scrape()
    assert seen[f"llm_d_epp_request_total{{alias,m,{DEFAULT_FLOW},0}}"] == 1
    assert seen["inference_objective_running_requests{alias}"] == 0


@pytest.mark.parametrize("event", [ProxyGone("proxy"), Tick()])
def test_what_is_let_go_runs_no_more(event: Event) -> None:
    world = World()
    world.settle(Doubted(world.ask()), 1.0)
    world.settle(event, 1e9)
    seen = world.scrape()
    assert seen[f"llm_d_epp_request_running{{m,m,{DEFAULT_FLOW},0}}"] == 0
    assert seen["inferway_picker_reservations{ns/p}"] == 0


def test_notes_become_counts_without_anybody_looking() -> None:
    world = World()
    for _ in range(NOTES_MAX):
        world.ask()
    assert world.telemetry.decisions["chosen"] == NOTES_MAX


def test_names_that_clients_choose_are_bounded() -> None:
    table = SeriesTable(names_max=3, series_max=5)
    for n in range(10):
        table.series(f"a{n}", "m", "", 0)
    for n in range(10):
        table.series("a0", "m", f"flow-{n}", n)
    found = [series.names for series in table]
    assert len({(n.model, n.target) for n in found}) <= 4
    assert len({n.fairness_id for n in found}) <= 4
    assert len(found) <= 6
    assert table.series("a0", "m", "", 0) is table.series("a0", "m", DEFAULT_FLOW, 0)
    assert table.series("new", "m", "new", 77).names.labels == (OTHER, OTHER, OTHER, "0")


async def test_the_picker_reads_every_metric_of_the_catalogue_and_no_other() -> None:
    async with picker_for("127.0.0.1:1") as picker:
        read = [name for source in picker.sources() for name, _ in source.read()]
    by_flag = {name for name in catalogue() if "_extproc_" in name}
    assert by_flag
    assert set(read) == set(catalogue()) - by_flag
    assert len(read) == len(set(read))


def test_what_is_in_flight_and_what_was_predicted() -> None:
    world = World()
    # The first decision of a picker is one of those that are explained.
    pick = world.ask()
    endpoint = "{pod-1,ns,inferway,,}"
    seen = world.scrape()
    (taken,) = world.scheduler.ledger
    assert seen[f"llm_d_epp_inflight_requests{endpoint}"] == 1
    assert seen[f"llm_d_epp_inflight_tokens{endpoint}"] == taken.tokens > 0
    assert seen["llm_d_epp_request_predicted_ttft_seconds_count{m,m}"] == 1
    (explained,) = json.loads(world.telemetry.ring.as_json())["decisions"]
    (candidate,) = explained["candidates"]
    predicted = seen["llm_d_epp_request_predicted_ttft_seconds_sum{m,m}"]
    assert predicted == pytest.approx(candidate["predicted_ttft_seconds"])
    world.ask()
    world.settle(answered(pick))
    seen = world.scrape()
    assert seen[f"llm_d_epp_inflight_requests{endpoint}"] == 1
    assert seen["llm_d_epp_request_predicted_ttft_seconds_count{m,m}"] == 1
