"""Callouts as requests: models that stand for others, bodies nobody reads, errors by API."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from fake_server import FakeServer
from hypothesis import given
from hypothesis import strategies as st
from test_picker_process import ask as ask_picker
from test_picker_process import picker_for

from inferway.base.clock import ManualClock
from inferway.picker import answers
from inferway.picker.apis import APIS, Style, call_of
from inferway.picker.debug import DecisionRing
from inferway.picker.machine import Callout
from inferway.picker.reading import Understood, understand
from inferway.picker.replies import Chosen, Refused, Reply
from inferway.picker.restore import NAME_BYTES_MAX
from inferway.picker.service import PickService, PoolRuntime
from inferway.picker.telemetry import Telemetry
from inferway.picker.wishes import READ
from inferway.scheduling.events import ModelCard
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.request import Request
from inferway.scheduling.rewrite import Rewrite, RewriteTable, Rule, Target, compile_table
from inferway.scheduling.snapshot import Endpoint

COMPLETIONS = b"/v1/completions"


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def rewritten(self, rewrite: str, model: str, target: str) -> None:
        self.seen.append((rewrite, model, target))


def table(*rules: Rule) -> RewriteTable | None:
    return compile_table([Rewrite("r", "", rules)])


def read(
    body: bytes,
    path: bytes = COMPLETIONS,
    *rules: Rule,
    parsers: tuple[str, ...] = (),
    **headers: str,
) -> Understood | answers.FinalAnswer:
    pool = PoolRuntime(PoolScheduler(CostPolicy()), rewrites=table(*rules))
    pool.priorities = {"gold": 10}
    named = {name.replace("_", "-").encode(): v.encode() for name, v in headers.items()}
    call = Callout(b"POST", path, body, b"r", named)
    return understand(call, call_of(path, parsers), pool, b"r", Counted())


def understood(*arguments: object, **headers: str) -> Understood:
    found = read(*arguments, **headers)  # type: ignore[arg-type]
    assert isinstance(found, Understood)
    return found


def test_an_objective_is_a_priority_and_an_unknown_one_is_none() -> None:
    body = b'{"model":"m","prompt":"x"}'
    gold = understood(body, x_llm_d_inference_objective="gold", x_slo_ttft_ms="200").request
    assert (gold.priority, gold.objective, gold.slo_ttft_ms) == (10, "gold", 200.0)
    assert understood(body, x_gateway_inference_objective="tin").request.priority == 0


def test_a_header_names_the_model_of_the_server() -> None:
    found = understood(b'{"model":"m","prompt":"x"}', x_llm_d_model_name_rewrite="m2")
    assert (found.request.model, found.splice, found.alias) == ("m2", b'9,12,"m2"', "m")


def test_a_proxy_that_cuts_for_rewrites_only_leaves_the_header() -> None:
    header = {b"x-llm-d-model-name-rewrite": b"m2"}
    call = Callout(b"POST", COMPLETIONS, b'{"model":"m"}', b"r", header, cuts=False)
    pool = PoolRuntime(PoolScheduler(CostPolicy()))
    found = understand(call, call_of(COMPLETIONS), pool, b"r", Counted())
    assert isinstance(found, Understood)
    assert (found.request.model, found.splice) == ("m", b"")
    pool.rewrites = table(Rule(("other",), (Target("x"),)))
    found = understand(call, call_of(COMPLETIONS), pool, b"r", Counted())
    assert isinstance(found, Understood)
    assert found.request.model == "m2"


def test_a_rule_goes_before_the_header() -> None:
    rule = Rule(("m",), (Target("ruled"),))
    body = b'{"model":"m","prompt":"x"}'
    found = understood(body, COMPLETIONS, rule, x_gateway_model_name_rewrite="m2")
    assert found.request.model == "ruled"
    other = understood(
        b'{"model":"n","prompt":"x"}', COMPLETIONS, rule, x_gateway_model_name_rewrite="m2"
    )
    assert other.request.model == "m2"


def test_the_name_is_put_back_where_somebody_asks() -> None:
    body = b'{"model":"m","prompt":"x"}'
    rule = Rule(("m",), (Target("n"),))
    assert not understood(body, COMPLETIONS, rule).restore
    assert understood(body, COMPLETIONS, rule, prefer="restore-model").restore == '"m"'
    # Of a request that keeps its name there is none to put back.
    assert not understood(body, prefer="restore-model").restore
    # A header replaces names as well.
    words = {"prefer": "restore-model", "x_llm_d_model_name_rewrite": "n"}
    assert understood(body, **words).restore == '"m"'


def test_a_rewrite_asks_for_all_of_its_requests() -> None:
    rules = (Rule((), (Target("n"),)),)
    pool = PoolRuntime(PoolScheduler(CostPolicy()))
    pool.rewrites = compile_table([Rewrite("r", "", rules, restore=True)])

    def restored(body: bytes) -> str:
        call = Callout(b"POST", COMPLETIONS, body, b"r")
        found = understand(call, call_of(COMPLETIONS), pool, b"r", Counted())
        assert isinstance(found, Understood)
        assert found.request.model == "n"
        return found.restore

    assert restored(b'{"model":"caf\xc3\xa9","prompt":"x"}') == '"caf\\u00e9"'
    # Who names nothing is told what answered.
    assert not restored(b'{"prompt":"x"}')
    assert not restored(b'{"model":"%b","prompt":"x"}' % (b"m" * NAME_BYTES_MAX))


def test_a_form_is_rewritten_in_its_field() -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n'
    found = understood(form, b"/v1/audio/transcriptions", Rule(("m",), (Target("whisper"),)))
    begin, end, value = found.splice.split(b",")
    assert (form[int(begin) : int(end)], value) == (b"m", b"whisper")
    assert found.request.model == "whisper"


def test_an_encoded_body_is_not_read() -> None:
    for encoding in ("gzip", "zstd", "br, gzip"):
        found = understood(b"\x1f\x8b\x08 no JSON", content_encoding=encoding)
        assert found.request == Request("", body_bytes=11)
    rule = Rule((), (Target("base"),))
    assert not understood(b"\x1f\x8b", COMPLETIONS, rule, content_encoding="gzip").splice


def test_a_byte_order_mark_moves_the_splice() -> None:
    body = b'\xef\xbb\xbf{"model":"m","prompt":"x"}'
    found = understood(body, COMPLETIONS, Rule(("m",), (Target("n"),)))
    assert found.splice == b'12,15,"n"'


def test_pictures_are_counted() -> None:
    part = '{"type":"image_url","image_url":{"url":"https://a/b"}}'
    body = '{"model":"m","messages":[{"role":"user","content":[' + part + "]}]}"
    request = understood(body.encode(), b"/v1/chat/completions").request
    assert (request.counted_bytes, request.counted_tokens) == (0, 225.0)


def test_what_no_parser_claims_is_refused() -> None:
    found = read(b'{"model":"m"}', b"/v1/rerank", parsers=("openai-parser",))
    assert isinstance(found, answers.FinalAnswer)
    assert (found.status, found.code) == (400, "unsupported_path")
    claimed = read(b"anything", b"/v1/rerank", parsers=("openai-parser", "passthrough-parser"))
    assert isinstance(claimed, Understood)
    assert isinstance(read(b"", b"/v1/rerank", parsers=("openai-parser",)), Understood)


LISTED = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: queue-scorer}]
requestHandler: {parsers: [{pluginRef: openai-parser}]}
"""


async def test_parsers_of_a_configuration_hold_for_the_pool() -> None:
    base: dict[str, object] = {"id": "m", "object": "model"}
    extra = ("--config-text", LISTED)
    async with FakeServer([base]).serving() as server, picker_for(server.address, extra=extra) as p:
        body = {"model": "m", "prompt": "x", "query": "q", "documents": ["d"]}
        assert (await ask_picker(p, body))[0] == 200
        status, _, text = await ask_picker(p, body, "/v1/rerank")
        assert (status, json.loads(text)["error"]["code"]) == (400, "unsupported_path")


# -- answers --------------------------------------------------------------------------------


def service(*models: str) -> PickService:
    scheduler = PoolScheduler(CostPolicy())
    scheduler.set_endpoints([Endpoint("10.0.0.1:80", "a")], 0.0)
    scheduler.observe_models("10.0.0.1:80", [ModelCard(name) for name in models])
    pools = {("ns", "p"): PoolRuntime(scheduler, synced=True)}
    clock = ManualClock()
    telemetry = Telemetry("ns/p", scheduler, DecisionRing(clock))
    return PickService(pools, clock, random.Random(1), telemetry, "t")


def ask(path: bytes, body: bytes, **headers: str) -> Reply:
    named = {name.replace("_", "-").encode(): v.encode() for name, v in headers.items()}
    call = Callout(b"POST", b"/pick/ns/p" + path, body, b"req-1", named)
    reply = service("m", "other").answer(call, "proxy")
    assert isinstance(reply, Chosen | Refused)
    return reply


@pytest.mark.parametrize(
    ("body", "status", "kind", "said"),
    [
        (
            b'{"model":"nope","messages":[]}',
            404,
            "not_found_error",
            "Models of this pool: m, other",
        ),
        (b'{"messages":[]}', 400, "invalid_request_error", "You must provide a model"),
    ],
)
def test_clients_of_anthropic_get_its_errors(
    body: bytes, status: int, kind: str, said: str
) -> None:
    reply = ask(b"/v1/messages", body)
    assert isinstance(reply, Refused)
    found, _, text = answers.words(reply.answer, reply.request_id)
    told = json.loads(text)
    assert (found, told["type"], told["request_id"]) == (status, "error", "req-1")
    assert told["error"]["type"] == kind
    assert said in told["error"]["message"]


def test_other_clients_get_the_errors_of_openai() -> None:
    reply = ask(b"/v1/rerank", b'{"model":"nope","query":"q","documents":["d"]}')
    assert isinstance(reply, Refused)
    _, _, text = answers.words(reply.answer, reply.request_id)
    error = json.loads(text)["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )


async def test_an_answer_that_comes_later_has_the_style_too() -> None:
    asked = service("m")
    pool = asked.pools["ns", "p"]
    loop = asyncio.get_running_loop()

    def refresh(done: object) -> bool:
        assert callable(done)
        loop.call_soon(done)
        return True

    pool.refresh = refresh
    call = Callout(b"POST", b"/pick/ns/p/v1/messages", b'{"model":"x","messages":[]}', b"r")
    later = asked.answer(call, "proxy")
    assert not isinstance(later, Chosen | Refused)
    told: asyncio.Future[Reply] = loop.create_future()
    assert later.start(told.set_result)  # type: ignore[union-attr]
    reply = await told
    assert isinstance(reply, Refused)
    assert reply.answer.style is Style.ANTHROPIC


NAMES = st.text(max_size=4) | st.sampled_from(
    ["model", "prompt", "messages", "content", "type", "data", "input", "stream",
     "sampling_params", "max_tokens", "query", "documents", "image_url", "url"]
)  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES: st.SearchStrategy[Any] = st.deferred(
    lambda: SCALARS | st.lists(VALUES, max_size=3) | st.dictionaries(NAMES, VALUES, max_size=4)
)


@pytest.mark.fuzz
@given(
    st.sampled_from(APIS),
    st.binary(max_size=400) | VALUES.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(sorted(READ)), st.binary(max_size=40), max_size=3),
    st.booleans(),
)
def test_any_body_and_headers_end_in_an_answer(
    api: object, body: bytes, headers: dict[bytes, bytes], ruled: bool
) -> None:
    asked = service("m")
    if ruled:
        asked.pools["ns", "p"].rewrites = table(Rule((), (Target("m"),)))
    path = f"/pick/ns/p/{api.ending}".encode()  # type: ignore[attr-defined]
    reply = asked.answer(Callout(b"POST", path, body, b"r", headers), "proxy")
    assert isinstance(reply, Chosen | Refused)
    if isinstance(reply, Refused):
        status, _, text = answers.words(reply.answer, reply.request_id)
        assert status in (400, 404, 412)
        assert json.loads(text)
    elif reply.splice:
        begin, end, value = reply.splice.split(b",", 2)
        spliced = body[: int(begin)] + value + body[int(end) :]
        if api.kind.value != "audio":  # type: ignore[attr-defined]
            assert json.loads(spliced.decode("utf-8-sig", "surrogatepass"))["model"] == "m"
