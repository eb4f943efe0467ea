"""Two pickers of one pool: both decide, both know what is open, and one may die under load.

Method: one stack with the demo and a second picker; the pool fails closed, so that a request
without a picker's answer would be seen. Load has a pace and does not wait for answers. What is
asked is whether every request is answered, and whether pickers agree in the end.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from harness import run, start
from test_stack_picker import fail, proxy_config
from watching import MODEL, Counts, Watch, eventually

from inferway.base.native import module_folder

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

REQUESTS_PER_SECOND = 500
REQUESTS = 3000
# A third of them before and a third after the death of a picker.
KILLED_AT = 1000
# A machine that can not keep the pace gets no more at a time than this.
AT_A_TIME_MAX = 200
PICKERS = "inferencepool=vllm-qwen-epp"


@pytest.fixture(scope="module", params=["native", "callout"])
def demo(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, kubectl: Path
) -> Iterator[Watch]:
    if request.param == "native" and not module_folder():
        pytest.skip("the native pick filter is not built: there is no C compiler")
    env = {**os.environ, "INFERWAY_PICK_MODULE": "on" if request.param == "native" else "off"}
    stack = start(tmp_path_factory.mktemp("pickers") / "state", env=env)
    stack.wait_for("Ctrl-C stops it all.")
    watch = Watch(stack, kubectl)
    watch.kubectl("scale", "deployment/vllm-qwen-epp", "--replicas=2")
    watch.wait_rollout("vllm-qwen-epp")
    fail(watch, "FailClose")
    sockets = [
        pod["metadata"]["annotations"]["inferway.dev/pick-socket"] for pod in watch.pods(PICKERS)
    ]
    assert len(set(sockets)) == 2
    known = proxy_config if request.param == "native" else clusters
    eventually(lambda: all(socket in known(watch) for socket in sockets), "both pickers in Envoy")
    yield watch
    assert stack.stop() == 0


def clusters(demo: Watch) -> str:
    """The servers that the proxy has of each cluster."""
    proxy = demo.pods("gateway.networking.k8s.io/gateway-name=inference-gateway")[0]
    socket = f"inferway-envoy-{proxy['metadata']['name']}"
    return run(["curl", "-s", "--abstract-unix-socket", socket, "http://x/clusters"]).stdout


def addresses(demo: Watch) -> list[str]:
    return [pod["status"]["podIP"] for pod in demo.pods(PICKERS)]


def nothing_open(demo: Watch) -> None:
    """What a picker had open that is gone is let go after half a minute."""
    eventually(
        lambda: [Counts.read(ip).total("in_flight") for ip in addresses(demo)] == [0, 0],
        "nothing in flight, as both pickers see it",
        45,
    )


class Load:
    """Requests at a pace, and what was answered."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/v1/completions"
        self.begun = 0
        self.answers: list[int | str] = []

    async def run(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        places = asyncio.Semaphore(AT_A_TIME_MAX)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            asyncio.TaskGroup() as tasks,
        ):
            began = loop.time()
            for number in range(count):
                due = asyncio.Event()
                loop.call_at(began + number / REQUESTS_PER_SECOND, due.set)
                await due.wait()
                await places.acquire()
                self.begun += 1
                tasks.create_task(self._ask(session, places, number), name=f"request {number}")

    async def _ask(
        self, session: aiohttp.ClientSession, places: asyncio.Semaphore, number: int
    ) -> None:
        body = {"model": MODEL, "prompt": f"Question {number % 50}", "max_tokens": 1}
        try:
            async with session.post(self.url, json=body) as answer:
                text = await answer.text()
                self.answers.append(answer.status if answer.status == 200 else text)
        except (aiohttp.ClientError, OSError) as error:
            self.answers.append(repr(error))
        finally:
            places.release()

    async def reaches(self, count: int) -> None:
        while self.begun < count:
            turn = asyncio.Event()
            asyncio.get_running_loop().call_later(0.01, turn.set)
            await turn.wait()


async def test_both_pickers_know_what_is_open(demo: Watch) -> None:
    body = {"model": MODEL, "prompt": "Tell me a story.", "max_tokens": 20_000, "stream": True}
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        streams = []
        for _ in range(4):
            answer = await session.post(f"{demo.stack.url()}/v1/completions", json=body)
            assert answer.status == 200
            streams.append(answer)

        # Each picker counts the requests of both.
        counts: list[int] = []

        def seen() -> bool:
            counts[:] = [Counts.read(ip).total("in_flight") for ip in addresses(demo)]
            return counts == [4, 4]

        await asyncio.to_thread(eventually, seen, f"four requests in each picker: {counts}")
        for answer in streams:
            tasks.create_task(answer.read(), name="the rest of a stream")
    nothing_open(demo)


async def test_one_of_two_pickers_dies_under_load(demo: Watch) -> None:
    load = Load(demo.stack.url())
    victim = demo.pods(PICKERS)[0]
    pid = demo.pid(victim, "inferway picker")
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(load.run(REQUESTS), name="load")
        await load.reaches(KILLED_AT)
        chosen = [
            Counts.read(ip).total("decisions_total", outcome="chosen") for ip in addresses(demo)
        ]
        os.kill(pid, signal.SIGKILL)
        await work
    # Both had their share until then.
    assert min(chosen) > KILLED_AT / 10, chosen
    wrong = [answer for answer in load.answers if answer != 200]
    assert wrong == [], f"{len(wrong)} of {REQUESTS}: {wrong[:3]}"
    demo.wait_rollout("vllm-qwen-epp")
    nothing_open(demo)


async def test_a_picker_that_is_told_to_stop_loses_nothing(demo: Watch) -> None:
    load = Load(demo.stack.url())
    victim = demo.pods(PICKERS)[0]["metadata"]["name"]
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(load.run(REQUESTS), name="load")
        await load.reaches(KILLED_AT)
        await asyncio.to_thread(demo.kubectl, "delete", "pod", victim, "--wait=false")
        await work
    wrong = [answer for answer in load.answers if answer != 200]
    assert wrong == [], f"{len(wrong)} of {REQUESTS}: {wrong[:3]}"
    demo.wait_rollout("vllm-qwen-epp")
    nothing_open(demo)
