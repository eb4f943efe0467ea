"""Calibration: what is asked, how it is fitted, and a server whose profile is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp.web
import pytest
import yaml
from click.testing import CliRunner

from inferway.base.errors import InferwayError
from inferway.bench.calibrate import CalibrateOptions, Calibration, check_noise, document, measure
from inferway.bench.calibrate_fit import ApiCost, Fit, fit, solve, spread
from inferway.bench.calibrate_plan import PROMPTS_MAX, PROMPTS_MIN, Probe, Seen, plan
from inferway.bench.calibrate_probe import Server
from inferway.cli.commands import cli
from inferway.simulator import flags
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.main import serve
from inferway.simulator.profile_file import load

KNOWN = Profile(
    base_seconds=0.004,
    prefill_token_seconds=0.000_05,
    prefill_pair_seconds=1e-8,
    decode_sequence_seconds=0.0005,
    cache_token_seconds=4e-7,
    adapter_step_seconds=0.001,
)


@pytest.mark.parametrize("prompts", [PROMPTS_MIN, 17, PROMPTS_MAX])
@pytest.mark.parametrize("room", [64, 2048, 100_000])
def test_a_plan_keeps_to_its_limits_and_asks_every_kind(prompts: int, room: int) -> None:
    probes = plan(prompts, room, ["a", "b"])
    assert sum(probe.sequences for probe in probes) <= prompts
    assert all(p.prompt_tokens + p.output_tokens <= room for p in probes)
    assert {p.output_tokens > 2 for p in probes} == {True, False}
    assert {p.sequences > 1 for p in probes} == {True, False}
    assert {p.adapter for p in probes} <= {"", "a"}


def test_thirty_prompts_use_an_adapter_twice() -> None:
    assert [p.adapter for p in plan(30, 2048, ["a"])].count("a") == 2
    assert all(not p.adapter for p in plan(30, 2048))


@pytest.mark.parametrize("wanted", [(1.0, 2.0, 3e-6), (0.5, 0.0, 1e-3), (0.0, 4.0, 0.0)])
def test_solve_finds_what_made_the_numbers(wanted: tuple[float, ...]) -> None:
    rows = [(1.0, float(b), c) for b in (1, 2, 5) for c in (10.0, 800.0, 2000.0)]
    seconds = [sum(a * b for a, b in zip(row, wanted, strict=True)) for row in rows]
    assert solve(rows, seconds) == pytest.approx(list(wanted), abs=1e-9)


def test_solve_never_says_less_than_nothing() -> None:
    assert min(solve([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], [3.0, 2.0, 1.0])) >= 0.0
    assert solve([], []) == []


def _seen(probe: Probe, profile: Profile) -> Seen:
    """What a noiseless server with this profile would show."""
    tokens, count = probe.prompt_tokens, probe.sequences
    more = profile.adapter_step_seconds if probe.adapter else 0.0
    prefill = (
        profile.base_seconds
        + profile.prefill_token_seconds * tokens
        + profile.prefill_pair_seconds * tokens * (tokens + 1) / 2
    )
    context = count * (tokens + probe.output_tokens / 2)
    step = (
        profile.base_seconds
        + profile.decode_sequence_seconds * count
        + profile.cache_token_seconds * context
    )
    return Seen(probe, prefill + more, step + more, overhead=0.010, running=float(count))


def test_a_fit_finds_the_profile_that_made_the_numbers() -> None:
    seen = [_seen(probe, KNOWN) for probe in plan(30, 4096, ["a"])]
    found = fit(seen, ApiCost(request=0.004, token=0.001), Profile(name="n", kv_token_bytes=7))
    profile = found.profile
    assert (profile.name, profile.kv_token_bytes) == ("n", 7)
    assert profile.base_seconds == pytest.approx(KNOWN.base_seconds, rel=0.02)
    assert profile.prefill_token_seconds == pytest.approx(KNOWN.prefill_token_seconds, rel=0.05)
    assert profile.prefill_pair_seconds == pytest.approx(KNOWN.prefill_pair_seconds, rel=0.2)
    assert profile.decode_sequence_seconds == pytest.approx(5e-4, rel=0.02)
    assert profile.cache_token_seconds == pytest.approx(4e-7, rel=0.02)
    assert profile.adapter_step_seconds == pytest.approx(0.001, rel=0.05)
    front = (profile.request_seconds, profile.token_seconds, profile.handover_seconds)
    assert front == pytest.approx((0.004, 0.001, 0.005))
    assert found.error < 0.03
    assert found.spread == 0.0


def test_jitter_is_told_from_the_gaps_between_tokens() -> None:
    probe = Probe(1, 16, 32)
    even = Seen(probe, 0.01, 0.01, 0.0, 1.0, (0.010,) * 31)
    assert fit([even, even], ApiCost(), Profile()).profile.jitter_share == 0.0
    gaps = tuple(0.010 * 1.2 ** (n % 5 - 2) for n in range(31))
    uneven = Seen(probe, 0.01, 0.01, 0.0, 1.0, gaps)
    assert 0.1 < fit([uneven], ApiCost(), Profile()).profile.jitter_share < 0.4


def test_spread_is_how_far_equal_probes_are_apart() -> None:
    probe = Probe(1, 16, 32)
    steps = [Seen(probe, 0.0, step, 0.0, 1.0) for step in (0.010, 0.016, 0.012)]
    assert spread(steps) == pytest.approx(0.6)
    server = Server("m", 2048, (), "1", 16, 1)
    noisy = Calibration(server, Fit(KNOWN, (), spread(steps)), 10)
    with pytest.raises(InferwayError) as caught:
        check_noise(noisy, force=False)
    assert caught.value.code == "INFERWAY0509"
    check_noise(noisy, force=True)


def test_the_file_is_a_profile_of_the_simulated_server(tmp_path: Path) -> None:
    found = Calibration(Server("m", 2048, (), "1", 16, 1), Fit(KNOWN, (), 0.0), 10)
    path = tmp_path / "mine.yaml"
    path.write_text(document(found))
    assert load(str(path), ()) == KNOWN
    assert yaml.safe_load(document(found))["base_seconds"] == 0.004


@asynccontextmanager
async def simulated(profile: Path) -> AsyncIterator[str]:
    options = flags.parse(
        ["m", "--host", "127.0.0.1", "--port", "0", "--profile", str(profile), "--enable-lora",
         "--lora-modules", "a=b", "--disable-uvicorn-access-log", "--max-model-len", "2048"],
        {},
    )  # fmt: skip
    stop = asyncio.Event()
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(options, stop, lambda *at: address.set_result(at)), name="server")
        host, port = await address
        try:
            yield f"http://{host}:{port}"
        finally:
            stop.set()


@pytest.mark.slow
async def test_a_simulated_server_gives_its_own_profile_back(tmp_path: Path) -> None:
    path = tmp_path / "known.yaml"
    path.write_text(json.dumps({"base_seconds": 0.004, "prefill_token_seconds": 0.00005,
                                "decode_sequence_seconds": 0.0005}))  # fmt: skip
    async with simulated(path) as url:
        found = await measure(CalibrateOptions(url, prompts=30))
    assert (found.server.model, found.server.adapters) == ("m", ("a",))
    assert found.prompts >= PROMPTS_MIN
    # The engine's clock is its own, so that a busy machine hardly shows.
    assert found.fit.profile.base_seconds == pytest.approx(0.004, rel=0.3)
    assert found.fit.profile.prefill_token_seconds == pytest.approx(0.00005, rel=0.3)


async def test_a_model_that_is_not_served_is_named(tmp_path: Path) -> None:
    path = tmp_path / "known.yaml"
    path.write_text("base_seconds: 0.001")
    async with simulated(path) as url:
        with pytest.raises(InferwayError) as caught:
            await measure(CalibrateOptions(url, model="other"))
    assert caught.value.code == "INFERWAY0510"
    assert "it serves m" in str(caught.value)


@asynccontextmanager
async def stranger(text: str) -> AsyncIterator[str]:
    """A server that answers everything with a text."""

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text=text)

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("text", ["hello", "vllm:x{} 1\n", '{"vllm:": 1}'])
async def test_what_is_no_vllm_is_refused(text: str) -> None:
    async with stranger(text) as url:
        with pytest.raises(InferwayError) as caught:
            await measure(CalibrateOptions(url))
    assert caught.value.code in ("INFERWAY0508", "INFERWAY0510")


def test_nobody_there_is_one_message() -> None:
    result = CliRunner().invoke(cli, ["calibrate", "127.0.0.1:1"], standalone_mode=False)
    assert isinstance(result.exception, InferwayError)
    assert result.exception.code == "INFERWAY0507"
    assert "Traceback" not in result.output


@pytest.mark.parametrize("prompts", ["9", "31", "x"])
def test_prompts_have_bounds(prompts: str) -> None:
    result = CliRunner().invoke(cli, ["calibrate", "127.0.0.1:1", "--prompts", prompts])
    assert result.exit_code == 2
