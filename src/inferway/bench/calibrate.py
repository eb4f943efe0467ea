"""Measures a real vLLM with ten to thirty prompts and writes a profile for the simulated server.

The work of ``inferway calibrate``: asks, fits, tells how well the profile explains what was seen.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import yaml
from rich.console import Console
from rich.table import Table

from inferway.base.errors import InferwayError
from inferway.bench import calibrate_probe
from inferway.bench.calibrate_fit import ApiCost, Fit, fit
from inferway.bench.calibrate_plan import PROMPTS_MAX, PROMPTS_MIN, Probe, Seen, plan
from inferway.bench.calibrate_probe import Client, Server
from inferway.simulator.engine.profiles import Profile

SECONDS_MAX = 120.0
# Where equal probes are further apart than this, the machine was busy with something else.
SPREAD_MAX = 0.5
# Scrapes whose cost in CPU is measured alone; the clock of processes ticks every 10 ms.
SCRAPES = 6
DIGITS = 9


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What to measure and where to write; ``force`` writes a noisy profile too."""

    url: str
    model: str | None = None
    prompts: int = PROMPTS_MAX
    output: Path | None = None
    name: str = ""
    seconds_max: float = SECONDS_MAX
    force: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was found out about a server."""

    server: Server
    fit: Fit
    prompts: int


async def measure(
    options: CalibrateOptions, say: Callable[[str], None] = lambda text: None
) -> Calibration:
    """Asks the server and fits a profile. Raises InferwayError."""
    limits = aiohttp.ClientTimeout(
        total=calibrate_probe.ANSWER_SECONDS_MAX,
        sock_connect=calibrate_probe.CONNECT_SECONDS_MAX,
    )
    async with aiohttp.ClientSession(timeout=limits) as session:
        client = Client(session, options.url, os.urandom(8).hex())
        server = await client.describe(options.model)
        say(f"vLLM {server.version} with {server.model}")
        await client.prepare(server.model)
        # The first answers of a server warm up its kernels and our connections.
        await client.probe(Probe(1, 16, 4), server.model)
        probes = plan(options.prompts, server.max_model_len, server.adapters)
        seen, cost = await _ask(client, server, probes, options.seconds_max, say)
    like = Profile(
        name=options.name or server.model,
        kv_token_bytes=server.kv_token_bytes,
        block_size_tokens=server.block_size_tokens,
    )
    return Calibration(server, fit(seen, cost, like), sum(one.probe.sequences for one in seen))


async def _ask(
    client: Client,
    server: Server,
    probes: Sequence[Probe],
    seconds_max: float,
    say: Callable[[str], None],
) -> tuple[list[Seen], ApiCost]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds_max
    first = await client.counts()
    for _ in range(SCRAPES):
        second = await client.counts()
    scrape = (second.cpu_seconds - first.cpu_seconds) / SCRAPES
    seen: list[Seen] = []
    rows: list[tuple[float, float, float]] = []
    for number, probe in enumerate(probes, 1):
        if loop.time() > deadline and sum(p.probe.sequences for p in seen) >= PROMPTS_MIN:
            say(f"stopped after {seconds_max:.0f} s with {number - 1} of {len(probes)} probes")
            break
        before = await client.counts()
        one = await client.probe(probe, server.model)
        after = await client.counts()
        seen.append(one)
        # Three scrapes lie between the two readings: the probe's own two and the last.
        spent = after.cpu_seconds - before.cpu_seconds - 3 * scrape
        rows.append((probe.sequences, probe.sequences * probe.output_tokens, spent))
        say(
            f"{number}/{len(probes)}: {probe.sequences} x {probe.prompt_tokens} + "
            f"{probe.output_tokens} tokens{' with an adapter' if probe.adapter else ''}: "
            f"first token {one.prefill * 1e3:.1f} ms, then {one.step * 1e3:.2f} ms a token"
        )
    return seen, _cost(rows)


def _cost(rows: Sequence[tuple[float, float, float]]) -> ApiCost:
    """CPU of a request and of a token: many tokens against few, because the clock is coarse."""
    few = [row for row in rows if row[1] <= 2 * row[0]]
    many = [row for row in rows if row[1] > 2 * row[0]]
    if not few or not many:
        return ApiCost()
    requests_few, tokens_few, cpu_few = map(sum, zip(*few, strict=True))
    requests, tokens, cpu = map(sum, zip(*many, strict=True))
    # Two equations: cpu = request * requests + token * tokens.
    determinant = requests_few * tokens - requests * tokens_few
    request = (cpu_few * tokens - cpu * tokens_few) / determinant
    token = (requests_few * cpu - requests * cpu_few) / determinant
    return ApiCost(max(request, 0.0), max(token, 0.0))


def document(found: Calibration) -> str:
    """The profile as a file, with what it was made from as comments."""
    server, quality = found.server, found.fit
    fields = {
        name: round(value, DIGITS) if isinstance(value, float) else value
        for name, value in msgspec.structs.asdict(quality.profile).items()
    }
    head = (
        f"# A profile of the simulated server, made by `inferway calibrate` from vLLM "
        f"{server.version}.\n"
        f"# {found.prompts} prompts; mean error of the fit {quality.error:.0%}, equal prompts "
        f"{quality.spread:.0%} apart.\n"
        "# Use it with `inferway simulator --profile FILE` or INFERWAY_SIMULATOR_PROFILE=FILE.\n"
    )
    return head + yaml.safe_dump(fields, sort_keys=False)


def write(path: Path, text: str) -> None:
    """Writes the file, whole or not at all. Raises InferwayError."""
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    except OSError as error:
        raise InferwayError(
            "INFERWAY0511",
            f"the profile cannot be written to {path}: {error.strerror or error}",
            fix="Name a file in a folder that exists and may be written with -o.",
        ) from None


def show(found: Calibration, console: Console) -> None:
    """Prints how well the profile explains what was seen."""
    table = Table(title=f"Fit of {found.server.model}", title_justify="left")
    for column in ("what", "measured ms", "fitted ms", "error"):
        table.add_column(column, justify="left" if column == "what" else "right", no_wrap=True)
    for check in found.fit.checks:
        table.add_row(
            check.what,
            f"{check.measured * 1e3:.2f}",
            f"{check.fitted * 1e3:.2f}",
            f"{check.error:.0%}",
        )
    console.print(table)
    console.print(
        f"mean error {found.fit.error:.0%}; equal prompts were {found.fit.spread:.0%} apart"
    )


def check_noise(found: Calibration, *, force: bool) -> None:
    """Refuses a profile of a machine that was busy. Raises InferwayError."""
    if found.fit.spread <= SPREAD_MAX or force:
        return
    raise InferwayError(
        "INFERWAY0509",
        f"too noisy: equal prompts took times that are {found.fit.spread:.0%} apart",
        fix="Run it again when nothing else uses the machine or the server, or take the profile "
        "as it is with --force.",
    )


def run(options: CalibrateOptions, console: Console) -> int:
    """Measures, prints, writes. Raises InferwayError."""
    found = asyncio.run(measure(options, lambda text: console.print(text, highlight=False)))
    show(found, console)
    check_noise(found, force=options.force)
    if options.output is None:
        sys.stdout.write(document(found))
    else:
        write(options.output, document(found))
        console.print(
            f"Wrote {options.output}; try: inferway simulator --profile {options.output}",
            highlight=False,
        )
    return 0
