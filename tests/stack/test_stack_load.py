"""Ten thousand requests while servers die and come: what fails, what is counted, what it costs.

Method: the project's own load generator, which reads each answer to its end, against the demo of
one stack. Faults come at fixed numbers of finished requests. The picker's own counters are held
against the answers. Figures are printed (pytest -s).
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness import start
from watching import Counts, Watch, cpu_seconds, eventually, rss_bytes

from inferway.bench import load

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

REQUESTS = 10_000
CONNECTIONS = 64
KILL_AT, ADD_AT, DELETE_AT = 2_000, 4_000, 6_000
GROWTH_BYTES_MAX = 4 * 1024 * 1024
# A stream that was being answered is cut; what had no answer yet may only fail as unavailable.
ALLOWED_ERRORS = {"answer cut", "connection lost", "status 502", "status 503"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, kubectl: Path) -> Iterator[Watch]:
    stack = start(tmp_path_factory.mktemp("load") / "state")
    stack.wait_for("Ctrl-C stops it all.")
    yield Watch(stack, kubectl)
    assert stack.stop() == 0


@dataclass
class Script:
    """Actions at numbers of finished requests, and how many may be lost by them."""

    actions: dict[int, Callable[[], None]]
    reached: dict[int, asyncio.Event] = field(init=False)

    def __post_init__(self) -> None:
        self.reached = {count: asyncio.Event() for count in self.actions}

    def progress(self, done: int) -> None:
        if done in self.reached:
            self.reached[done].set()

    async def play(self) -> None:
        for count in sorted(self.actions):
            await self.reached[count].wait()
            await asyncio.to_thread(self.actions[count])


@dataclass
class Faults:
    """Kills servers and remembers how many requests each had at most."""

    watch: Watch
    picker: str
    lost_max: int = 0

    def kill(self) -> None:
        """The process, as the kernel does when memory is short; the kubelet starts another."""
        pod = self.watch.servers()[0]
        pid = self.watch.pid(pod, "inferway simulator")
        self._count(pod["status"]["podIP"], lambda: os.kill(pid, signal.SIGKILL))

    def delete(self) -> None:
        """The Pod, without any time to end its work."""
        pod = self.watch.servers()[-1]
        name = pod["metadata"]["name"]
        self._count(
            pod["status"]["podIP"],
            lambda: self.watch.kubectl("delete", "pod", name, "--grace-period=0", "--force"),
        )

    def add(self) -> None:
        self.watch.kubectl("scale", "deployment/vllm-qwen", "--replicas=4")

    def _count(self, address: str, act: Callable[[], object]) -> None:
        """In flight at the act: those before it and at most all that were picked meanwhile."""
        before = Counts.read(self.picker)
        act()
        after = Counts.read(self.picker)
        picked = after.total("decisions_total", outcome="chosen") - before.total(
            "decisions_total", outcome="chosen"
        )
        self.lost_max += before.total("in_flight", endpoint=f"{address}:8000") + picked


@dataclass
class Processes:
    """Memory and time of the parts that must not grow."""

    pids: dict[str, int]
    rss: dict[int, dict[str, int]] = field(default_factory=dict)
    cpu: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.cpu = self._cpu()

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}

    def look(self, done: int) -> None:
        self.rss[done] = {name: rss_bytes(pid) for name, pid in self.pids.items()}

    def microseconds(self, requests: int) -> dict[str, int]:
        return {
            name: round((spent - self.cpu[name]) / requests * 1e6)
            for name, spent in self._cpu().items()
        }


@pytest.mark.parametrize("mode", [load.Mode.WHOLE, load.Mode.STREAM])
async def test_only_what_a_dead_server_was_answering_fails(demo: Watch, mode: load.Mode) -> None:
    demo.kubectl("scale", "deployment/vllm-qwen", "--replicas=3")
    demo.wait_rollout()
    url = demo.stack.url()
    picker = demo.picker()["status"]["podIP"]
    eventually(lambda: Counts.read(picker).total("endpoints_ready") == 3, "three endpoints")
    faults = Faults(demo, picker)
    processes = Processes(watched(demo))
    script = Script({KILL_AT: faults.kill, ADD_AT: faults.add, DELETE_AT: faults.delete})
    before = Counts.read(picker)

    def progress(done: int) -> None:
        script.progress(done)
        if done in (1_000, REQUESTS - 1_000):
            processes.look(done)

    options = load.LoadOptions(url, REQUESTS, CONNECTIONS, mode)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(load.run(options, progress))
        group.create_task(script.play())
    result = running.result()
    print(f"\n{mode}: {result.requests_per_second} requests/s, errors {result.errors} of at most "
          f"{faults.lost_max}, p50 {result.p50_ms} ms, p99 {result.p99_ms} ms, "
          f"microseconds of CPU a request {processes.microseconds(REQUESTS)}")  # fmt: skip

    failed = sum(result.errors.values())
    assert result.succeeded + failed == REQUESTS
    assert set(result.errors) <= ALLOWED_ERRORS, result.examples
    assert failed <= faults.lost_max, result.examples
    if mode is load.Mode.WHOLE:
        # Nothing of an answer had reached the client, so another server answered.
        assert failed == 0, result.examples
    check_counts(picker, before, result)
    check_growth(processes)
    # The killed one was started again, the deleted one replaced, and one was added.
    demo.wait_rollout()
    eventually(lambda: Counts.read(picker).total("endpoints_ready") == 4, "four endpoints")
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in demo.servers()]
    assert sum(restarts) >= 1


def watched(demo: Watch) -> dict[str, int]:
    controller = demo.pods("app.kubernetes.io/name=inferway", "inferway-system")[0]
    proxy = demo.pods("gateway.networking.k8s.io/gateway-name=inference-gateway")[0]
    return {
        "picker": demo.pid(demo.picker(), "inferway picker"),
        "controller": demo.pid(controller, "inferway gateway-controller"),
        "proxy": demo.pid(proxy, "envoy --config-yaml"),
        "stack": demo.stack.process.pid,
    }


def check_counts(picker: str, before: Counts, result: load.LoadResult) -> None:
    """The access log told of every request and all of their usage."""

    def settled() -> Counts | None:
        counts = Counts.read(picker)
        done = counts.total("requests_finished_total") - before.total("requests_finished_total")
        return counts if done >= result.requests and not counts.total("reservations") else None

    after = eventually(settled, "every request settled")

    def grown(name: str, **labels: str) -> int:
        return after.total(name, **labels) - before.total(name, **labels)

    assert grown("requests_finished_total") == result.requests
    assert grown("reservations_released_total", reason="finished") == result.requests
    assert grown("reservations_released_total") == result.requests
    assert grown("tokens_total", kind="prompt") == result.prompt_tokens
    assert grown("tokens_total", kind="completion") == result.completion_tokens
    assert grown("usage_reports_total") == result.succeeded
    assert after.total("in_flight") == 0


def check_growth(processes: Processes) -> None:
    first, last = processes.rss[1_000], processes.rss[REQUESTS - 1_000]
    for name in ("picker", "controller"):
        growth = last[name] - first[name]
        assert growth < GROWTH_BYTES_MAX, f"{name} grew by {growth >> 10} KiB: {processes.rss}"
