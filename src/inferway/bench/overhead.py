"""What Inferway costs: CPU per request and added latency, against plain Envoy in the same run.

    python -m inferway.bench.overhead

wrk -> Envoy -> two backends that answer at once. The two systems take turns, so that what the
machine does meanwhile hits both. The sum of a system is the CPU of all its processes, the local
cluster's included; wrk and the backends are outside of it. ``--data-path`` measures Envoy and
picker without the cluster around them, which is also how the rows with more endpoints are made:
further addresses of the same backends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inferway.base.errors import InferwayError
from inferway.bench import backends, datapath, extproc, live, plain, processes, report, wrk
from inferway.bench.target import Target

COLUMNS = (
    "system",
    "endpoints",
    "body_bytes",
    "requests_per_second",
    "cpu_us_per_request",
    "ratio_to_plain",
    "p50_ms",
    "p99_ms",
)
# Different endings, so that prompts share a beginning as real ones do and are not all the same.
BODIES = 64
WARM_UP_SECONDS = 1.0
HALF = 0.5
# Second byte of the addresses without a cluster: beyond those that stacks take.
DATA_PATH_NETWORK = 255
BACKENDS = 2
# Third byte of the backends' addresses there, and how many there are for each.
BACKENDS_NETWORK = 1
HOSTS_MAX = 250


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how often to measure, and where to write."""

    seconds: float = 5.0
    rounds: int = 3
    body_bytes: tuple[int, ...] = (1024, 4096)
    endpoints: tuple[int, ...] = (3, 30, 300)
    output: Path = Path("build/bench/overhead.json")
    data_path: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one system. CPU is in seconds per part, the backends' beside it."""

    result: wrk.WrkResult
    cpu: Mapping[str, float]
    backend_cpu: float

    def micros(self, part: str | None = None) -> float:
        """CPU microseconds per request, of one part or of all."""
        seconds = sum(self.cpu.values()) if part is None else self.cpu.get(part, 0.0)
        return seconds * 1e6 / self.result.requests


def bodies(size: int) -> tuple[str, ...]:
    """Completion requests of exactly that many bytes."""
    found = []
    for number in range(BODIES):
        request = {"model": backends.MODEL, "prompt": "", "max_tokens": 3, "temperature": 0.5}
        ending = f" Question {number:02d}?"
        room = size - len(json.dumps(request)) - len(ending)
        if room < 0:
            raise InferwayError(
                "INFERWAY0177",
                f"a body of {size} bytes has no room for a prompt",
                fix="Ask for 256 bytes or more.",
            )
        filler = "What is the warmest city in the USA? " * (room // 10 + 1)
        found.append(json.dumps(request | {"prompt": filler[:room] + ending}))
    return tuple(found)


class Bench:
    """Measures targets one round at a time."""

    def __init__(self, backend_pid: int, folder: Path) -> None:
        self._backend_pid = backend_pid
        self._folder = folder

    def round(self, target: Target, run: wrk.WrkRun) -> Sample:
        """Warms up, then counts CPU around one run of wrk. Raises InferwayError."""
        warm = wrk.WrkRun(run.url, run.bodies, WARM_UP_SECONDS, run.rate)
        wrk.finish(wrk.start(warm, self._folder), warm)
        backend_before = processes.cpu_seconds(self._backend_pid)
        before = processes.cpu_of(target.parts)
        result = wrk.finish(wrk.start(run, self._folder), run)
        after = processes.cpu_of(target.parts)
        return Sample(
            result,
            {name: after[name] - before[name] for name in after},
            processes.cpu_seconds(self._backend_pid) - backend_before,
        )


def row(target: Target, size: int, samples: Sequence[Sample]) -> dict[str, object]:
    """The medians of some rounds as one row; the ratio is added where plain Envoy is known."""

    def median(values: Iterator[float]) -> float:
        return statistics.median(list(values))

    return {
        "system": target.system,
        "body_bytes": size,
        "requests_per_second": median(s.result.requests_per_second for s in samples),
        "cpu_us_per_request": median(s.micros() for s in samples),
        "p50_ms": median(s.result.p50_ms for s in samples),
        "p99_ms": median(s.result.p99_ms for s in samples),
        "parts_us_per_request": {
            name: round(median(s.micros(name) for s in samples), 1) for name in target.parts
        },
        "backend_us_per_request": median(s.backend_cpu * 1e6 / s.result.requests for s in samples),
        "rounds_cpu_us_per_request": [round(s.micros(), 1) for s in samples],
    }


def with_ratio(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Each row with its CPU cost in units of the first row's, which is plain Envoy's."""
    base = float(str(rows[0]["cpu_us_per_request"]))
    return [
        entry | {"ratio_to_plain": float(str(entry["cpu_us_per_request"])) / base if base else 0.0}
        for entry in rows
    ]


def saturated(
    bench: Bench, targets: Sequence[Target], size: int, options: Options
) -> list[dict[str, object]]:
    """As many requests as each system takes, in alternating rounds."""
    samples: dict[str, list[Sample]] = {target.system: [] for target in targets}
    for _ in range(options.rounds):
        for target in targets:
            run = wrk.WrkRun(target.url, bodies(size), options.seconds)
            samples[target.system].append(bench.round(target, run))
    return with_ratio([row(target, size, samples[target.system]) for target in targets])


def at_half_load(
    bench: Bench, targets: Sequence[Target], rate: float, options: Options
) -> list[dict[str, object]]:
    """Both systems under the same paced load, and the difference of their latencies."""
    size = options.body_bytes[0]
    samples: dict[str, list[Sample]] = {target.system: [] for target in targets}
    for _ in range(options.rounds):
        for target in targets:
            run = wrk.WrkRun(target.url, bodies(size), options.seconds, rate)
            samples[target.system].append(bench.round(target, run))
    rows = with_ratio([row(target, size, samples[target.system]) for target in targets])
    named = [entry | {"system": f"{entry['system']} at half load"} for entry in rows]
    added = {
        "system": f"added by {targets[-1].system} at half load",
        "body_bytes": size,
        "requests_per_second": named[-1]["requests_per_second"],
        **{
            key: float(str(named[-1][key])) - float(str(named[0][key]))
            for key in ("cpu_us_per_request", "p50_ms", "p99_ms")
        },
    }
    return [*named, added]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that runs: what measures, what is measured, plain Envoy first.

    ``beside`` are other ways to the same picker, measured as they are saturated.
    """

    bench: Bench
    targets: tuple[Target, ...]
    backends: str
    beside: tuple[Target, ...] = ()


@contextmanager
def whole_stack(folder: Path) -> Iterator[Scene]:
    """Backends, a whole stack and plain Envoy while the block runs."""
    with ExitStack() as stack:
        cluster = stack.enter_context(live.empty_stack(folder))
        servers = stack.enter_context(backends.running(live.addresses(cluster), folder))
        url = asyncio.run(live.deploy(cluster))
        measured = live.target(cluster, url)
        alone = plain.running(
            f"{cluster.network}.127.252", servers.addresses, folder, envoy_concurrency(measured)
        )
        targets = (stack.enter_context(alone), measured)
        foreign = extproc.running(
            f"{cluster.network}.127.251", servers.addresses, folder, envoy_concurrency(measured)
        )
        beside = (stack.enter_context(foreign),)
        yield Scene(Bench(servers.process.pid, folder), targets, servers.kind, beside)


@contextmanager
def data_path(folder: Path, count: int = BACKENDS, *, foreign: bool = True) -> Iterator[Scene]:
    """Backends, Envoy with picker, and plain Envoy while the block runs."""
    network = f"127.{DATA_PATH_NETWORK}.0"
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        hosts = hosts_of(count)
        servers = stack.enter_context(backends.running(hosts, folder))
        targets = (
            stack.enter_context(plain.running(f"{network}.3", hosts, folder, cores)),
            stack.enter_context(datapath.running(f"{network}.4", hosts, folder, cores)),
        )
        beside: tuple[Target, ...] = ()
        if foreign:
            other = extproc.running(f"{network}.5", hosts, folder, cores)
            beside = (stack.enter_context(other),)
        yield Scene(Bench(servers.process.pid, folder), targets, servers.kind, beside)


def hosts_of(count: int) -> tuple[str, ...]:
    """That many addresses for backends of the data path."""
    return tuple(
        f"127.{DATA_PATH_NETWORK}.{BACKENDS_NETWORK + n // HOSTS_MAX}.{n % HOSTS_MAX + 1}"
        for n in range(count)
    )


def envoy_concurrency(target: Target) -> int:
    """How many worker threads the gateway's Envoy was started with; all cores when not said."""
    for pid in target.parts.get("envoy", ()):
        words = processes.command(pid)
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "--concurrency":
                return int(following)
            if word.startswith("--concurrency="):
                return int(word.partition("=")[2])
    return len(os.sched_getaffinity(0))


def measure(options: Options, folder: Path) -> tuple[dict[str, object], list[dict[str, object]]]:
    """The machine and all rows. Raises InferwayError."""
    wrk.find_wrk()
    with (data_path if options.data_path else whole_stack)(folder) as scene:
        rows: list[dict[str, object]] = []
        for size in options.body_bytes:
            rows += saturated(scene.bench, (*scene.targets, *scene.beside), size, options)
        rate = HALF * float(str(rows[1]["requests_per_second"]))
        rows += at_half_load(scene.bench, scene.targets, rate, options)
    rows = [{"endpoints": BACKENDS} | entry for entry in rows]
    for count in options.endpoints:
        place = folder / f"endpoints-{count}"
        place.mkdir()
        with data_path(place, count, foreign=False) as scene:
            found = saturated(scene.bench, scene.targets, options.body_bytes[0], options)
        rows += [{"endpoints": count} | entry for entry in found]
    return processes.machine() | {"backends": scene.backends}, rows


def parse(argv: Sequence[str]) -> Options:
    """The command line as options. Raises SystemExit with code 2."""
    defaults = Options()
    parser = argparse.ArgumentParser(prog="python -m inferway.bench.overhead", description=__doc__)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="of one round")
    parser.add_argument("--rounds", type=int, default=defaults.rounds)
    parser.add_argument("--body-bytes", type=int, nargs="+", default=list(defaults.body_bytes))
    parser.add_argument("--endpoints", type=int, nargs="*", default=list(defaults.endpoints))
    parser.add_argument("--output", type=Path, default=defaults.output)
    parser.add_argument("--data-path", action="store_true", help="without the cluster around it")
    words = vars(parser.parse_args(argv))
    words |= {name: tuple(words[name]) for name in ("body_bytes", "endpoints")}
    return Options(**words)


def main(argv: Sequence[str]) -> int:
    """Prints the table and writes the file; an error is one message."""
    options = parse(argv)
    rows = report.run("bench", options.output, partial(measure, options))
    if isinstance(rows, int):
        return rows
    report.show("CPU per request and latency, Inferway against plain Envoy", COLUMNS, rows)
    print(f"also in {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
