"""Is the simulated server true? The same requests on real vLLM and on the simulated server.

    python -m inferway.bench.replay

Starts two real servers of one core each, calibrates a profile on the first, and replays the same
requests on a real and a simulated server in turns: times to the first token and to the end are to
agree within 15 % in the median and 25 % at the 95th percentile. Then each policy chooses between
two servers of either kind, and the simulated ones are to rank the policies as the real ones do.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from inferway.bench import calibrate, processes, replay_servers, report
from inferway.bench.calibrate_probe import Client
from inferway.bench.replay_load import gap_for
from inferway.bench.replay_policies import LeastRequests, Policy, RoundRobin, policies
from inferway.bench.replay_run import Run, Summary, Times, replay, summarize
from inferway.bench.replay_trace import POLICY_SHARED_TOKENS, REQUESTS, Call, generate, read
from inferway.simulator import profile_file
from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig

SERVERS = 2
LOAD = 0.5
# Where servers have little to do, it does not matter which one is chosen.
POLICY_LOAD = 0.8
PARTS = 3
SEED = 7
# What the figures may differ by, as a share of the real one.
MEDIAN_MAX = 0.15
TAIL_MAX = 0.25
# Policies that differ by less have no order.
RANK_TIE = 0.10
WARM_UP_CALLS = 12
FIGURES = (
    ("ttft_p50", MEDIAN_MAX),
    ("ttft_p95", TAIL_MAX),
    ("e2e_p50", MEDIAN_MAX),
    ("e2e_p95", TAIL_MAX),
)
FIDELITY = ("system", "figure", "real_ms", "simulated_ms", "difference_percent", "allowed_percent")
RANKING = ("system", "real_ttft_mean_ms", "simulated_ttft_mean_ms", "real_rank", "simulated_rank")
Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """What to replay and where to write."""

    real: tuple[str, ...] = ()
    python: str | None = None
    model_folder: str | None = None
    profile: Path | None = None
    trace: Path | None = None
    requests: int = REQUESTS
    seed: int = SEED
    load: float = LOAD
    policy_load: float = POLICY_LOAD
    output: Path = Path("build/bench/fidelity.json")
    keep_profile: Path | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Servers of both kinds and the requests: for one server, and for a choice between two. Gaps
    are the seconds between requests of either.
    """

    real: Sequence[str]
    simulated: Sequence[str]
    model: str
    tokens: Sequence[int]
    calls: Sequence[Call]
    gap: float
    policy_calls: Sequence[Call]
    policy_gap: float


def fidelity(real: Sequence[Times], simulated: Sequence[Times]) -> list[Row]:
    """One row per figure: how far the simulated server is from the real one."""
    ours, theirs = summarize(simulated), summarize(real)
    rows: list[Row] = []
    for name, allowed in FIGURES:
        seen, told = getattr(theirs, name), getattr(ours, name)
        difference = told / seen - 1.0 if seen else 0.0
        rows.append(
            {
                "system": "one server",
                "figure": name.replace("_", " "),
                "real_ms": seen * 1e3,
                "simulated_ms": told * 1e3,
                "difference_percent": difference * 100,
                "allowed_percent": allowed * 100,
                "ok": abs(difference) <= allowed,
            }
        )
    return rows


def ranking(real: Mapping[str, Summary], simulated: Mapping[str, Summary]) -> list[Row]:
    """One row per policy, by its rank on the real servers."""
    order = sorted(real, key=lambda name: real[name].ttft_mean)
    other = sorted(simulated, key=lambda name: simulated[name].ttft_mean)
    return [
        {
            "system": name,
            "real_ttft_mean_ms": real[name].ttft_mean * 1e3,
            "simulated_ttft_mean_ms": simulated[name].ttft_mean * 1e3,
            "real_e2e_mean_ms": real[name].e2e_mean * 1e3,
            "simulated_e2e_mean_ms": simulated[name].e2e_mean * 1e3,
            "real_rank": order.index(name) + 1,
            "simulated_rank": other.index(name) + 1,
        }
        for name in order
    ]


def alike(real: Mapping[str, Summary], simulated: Mapping[str, Summary]) -> bool:
    """Whether no two policies differ clearly one way on the real servers and clearly the other way
    on the simulated ones.
    """

    def clearly(kind: Mapping[str, Summary], first: str, second: str) -> bool:
        return kind[first].ttft_mean * (1.0 + RANK_TIE) < kind[second].ttft_mean

    return not any(
        clearly(real, first, second) and clearly(simulated, second, first)
        for first in real
        for second in real
    )


async def know(url: str) -> tuple[str, list[int]]:
    """The real server's model and tokens of its vocabulary. Raises InferwayError."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, url, "replay")
        model = (await client.describe(None)).model
        await client.prepare(model)
        return model, client.tokens


@dataclass(slots=True)
class Contest:
    """One way to choose among servers of both kinds, and what it has seen. ``number`` makes its
    prompts its own, so that no cache knows them from another contest.
    """

    policies: tuple[Policy, Policy]
    number: int
    real: list[Times] = dataclasses.field(default_factory=list)
    simulated: list[Times] = dataclasses.field(default_factory=list)

    def play(self, scene: Scene, calls: Sequence[Call], gap: float) -> None:
        """The same requests on real and on simulated servers, ``gap`` seconds apart.

        Raises InferwayError.
        """
        kinds = ((scene.real, self.real), (scene.simulated, self.simulated))
        for (urls, times), policy in zip(kinds, self.policies, strict=True):
            run = Run(calls, scene.tokens, urls, scene.model, gap, self.number)
            times += asyncio.run(replay(run, policy))


def compare(scene: Scene) -> list[Row]:
    """All rows. Raises InferwayError.

    In turns of a part of the requests, so that what the machine does meanwhile hits everybody.
    """
    alone = Contest((LeastRequests(1), LeastRequests(1)), 1)
    both = [
        Contest(pair, number)
        for number, pair in enumerate(
            zip(policies(SERVERS), policies(SERVERS), strict=True), start=2
        )
    ]
    pieces = zip(parts(scene.calls), parts(scene.policy_calls), strict=True)
    for number, (calls, policy_calls) in enumerate(pieces, 1):
        say(f"part {number} of {PARTS} on one server of each kind")
        alone.play(scene, calls, scene.gap)
        for contest in both:
            say(f"part {number} of {PARTS}, {contest.policies[0].name} over {SERVERS} of each kind")
            contest.play(scene, policy_calls, scene.policy_gap)
    real = {contest.policies[0].name: summarize(contest.real) for contest in both}
    simulated = {contest.policies[0].name: summarize(contest.simulated) for contest in both}
    return [
        *fidelity(alone.real, alone.simulated),
        *ranking(real, simulated),
        {"system": "policies ranked alike", "ok": alike(real, simulated)},
    ]


def parts(calls: Sequence[Call]) -> list[list[Call]]:
    """The requests in pieces that each begin at zero."""
    size = -(-len(calls) // PARTS)
    pieces = [calls[begin : begin + size] for begin in range(0, len(calls), size)]
    return [
        [dataclasses.replace(call, at=call.at - piece[0].at) for call in piece] for piece in pieces
    ]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def profile_of(url: str, options: Options, folder: Path) -> Path:
    """The profile to compare with: the one that was named, or a fresh one. Raises InferwayError."""
    if options.profile is not None:
        return options.profile
    found = asyncio.run(calibrate.measure(calibrate.CalibrateOptions(url, force=True), say))
    path = options.keep_profile or folder / "profile.yaml"
    calibrate.write(path, calibrate.document(found))
    say(f"mean error of the fit {found.fit.error:.0%}; equal prompts {found.fit.spread:.0%} apart")
    return path


def engine_config(profile: Profile) -> EngineConfig:
    """The engine that both kinds of server have under the replay's flags."""
    return EngineConfig(
        block_size_tokens=profile.block_size_tokens, sequences_max=replay_servers.SEQUENCES
    )


@contextmanager
def real_servers(options: Options, folder: Path) -> Iterator[Sequence[str]]:
    """The real servers that were named, or our own. Raises InferwayError."""
    if options.real:
        yield options.real
        return
    real = replay_servers.find_real(os.environ, options.python, options.model_folder)
    say("starting real servers, which takes a minute or two")
    with replay_servers.real_servers(real, SERVERS, folder) as urls:
        yield urls


def requests(options: Options) -> tuple[list[Call], list[Call]]:
    """The requests for one server, and those for a choice between two. Raises InferwayError."""
    if options.trace is not None:
        calls = read(options.trace, options.requests)
        return calls, calls
    return (
        generate(options.seed, options.requests),
        generate(options.seed, options.requests, POLICY_SHARED_TOKENS),
    )


def measure(options: Options, folder: Path) -> tuple[dict[str, object], list[Row]]:
    """The machine and all rows. Raises InferwayError."""
    calls, policy_calls = requests(options)
    with real_servers(options, folder) as urls:
        path = profile_of(urls[0], options, folder)
        profile = profile_file.load(str(path), ())
        config = engine_config(profile)
        model, tokens = asyncio.run(know(urls[0]))
        gap = gap_for(profile, config, calls, options.load)
        policy_gap = gap_for(profile, config, policy_calls, options.policy_load) / SERVERS
        say(f"{len(calls)} requests, {gap * 1e3:.0f} ms apart for one server")
        with replay_servers.simulated_servers(path, SERVERS, folder, model) as simulated:
            scene = Scene(urls, simulated, model, tokens, calls, gap, policy_calls, policy_gap)
            warm_up(scene)
            load_before = os.getloadavg()[0]
            rows = compare(scene)
    machine = processes.machine() | {
        "gap_ms": round(gap * 1e3, 1),
        "policy_gap_ms": round(policy_gap * 1e3, 1),
        "load_average_before": load_before,
        "load_average_after": os.getloadavg()[0],
    }
    return machine, rows


def warm_up(scene: Scene) -> None:
    """The first requests of every server, which do not count. Raises InferwayError."""
    for urls in (scene.real, scene.simulated):
        calls = scene.calls[:WARM_UP_CALLS]
        run = Run(calls, scene.tokens, urls, scene.model, scene.gap, 0)
        asyncio.run(replay(run, RoundRobin(SERVERS)))


def parse(argv: Sequence[str]) -> Options:
    """The command line as options. Raises SystemExit with code 2."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.replay", description=__doc__)
    add = parser.add_argument
    add("--real", nargs=SERVERS, default=(), metavar="URL", help="real servers that run already")
    add("--python", default=None, help="the Python of an environment with vLLM")
    add("--model-folder", default=None, help="the model to serve (default: random-qwen2)")
    add("--profile", type=Path, default=None, help="a profile to use in place of a fresh one")
    add("--keep-profile", type=Path, default=None, help="where the fresh profile goes")
    add("--trace", type=Path, default=None, help="a Mooncake trace in place of the seed")
    add("--requests", type=int, default=defaults.requests)
    add("--seed", type=int, default=defaults.seed)
    add("--load", type=float, default=defaults.load, help="share of the time a server is busy")
    add("--policy-load", type=float, default=defaults.policy_load, help="the same, for policies")
    add("--output", type=Path, default=defaults.output)
    words = vars(parser.parse_args(argv))
    words["real"] = tuple(url.rstrip("/") for url in words["real"])
    return Options(**words)


def main(argv: Sequence[str]) -> int:
    """Prints the tables and writes the file; 1 where a figure is outside of its bounds."""
    options = parse(argv)
    rows = report.run("replay", options.output, partial(measure, options))
    if isinstance(rows, int):
        return rows
    report.show("Simulated server against real vLLM", FIDELITY, [r for r in rows if "figure" in r])
    report.show("Policies over two servers", RANKING, [r for r in rows if "real_rank" in r])
    wrong = [row for row in rows if row.get("ok") is False]
    print(f"ranked alike: {rows[-1]['ok']}; also in {options.output}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
