"""A picker whose servers are full: two tenants, an important client, and one that may be shed.

Method: the picker with its real sockets, and two simulated servers with two places each, in this
process. Clients do what a proxy does: ask the picker, ask the server that it names, report. There
are six times as many of them as there are places. What is compared is counted, not timed.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from test_picker_process import picker_for, until

from inferway.picker.run import Picker
from inferway.scheduling.events import Finished
from inferway.scheduling.flow.events import DISPATCHED, LEFT
from inferway.simulator import flags
from inferway.simulator.main import serve

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 40.0
LOUD, QUIET = 18, 6
ANSWERS = 30


@asynccontextmanager
async def full_pool() -> AsyncIterator[Picker]:
    stop = asyncio.Event()
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        try:
            servers = [await simulator(tasks, stop) for _ in range(2)]
            async with picker_for(*servers) as picker:
                picker.pool.priorities.update(vip=10, batch=-1)
                yield picker
        finally:
            stop.set()


async def simulator(tasks: asyncio.TaskGroup, stop: asyncio.Event) -> str:
    argv = ["m", "--host", "127.0.0.1", "--port", "0", "--max-num-seqs", "2", "--time-scale", "4"]
    ready: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
    options = flags.parse(argv, {})
    tasks.create_task(serve(options, stop, lambda host, port: ready.set_result((host, port))))
    host, port = await ready
    return f"{host}:{port}"


@dataclass
class Clients:
    """Ask again as soon as they are answered."""

    picker: Picker
    session: aiohttp.ClientSession
    answered: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[tuple[int, Mapping[str, str], bytes]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    over: bool = False

    async def ask(self, name: str, objective: str = "") -> bool:
        headers = {
            "x-llm-d-inference-fairness-id": name,
            "x-llm-d-inference-objective": objective,
        }
        body = json.dumps({"model": "m", "prompt": f"{name} says hello", "max_tokens": 20})
        url = f"http://127.0.0.1:{self.picker.ports['pick']}/pick/ns/p/v1/completions"
        async with self.session.post(url, data=body, headers=headers) as picked:
            if picked.status != 200:
                self.refused[name].append((picked.status, picked.headers, await picked.read()))
                return False
            address = picked.headers["x-gateway-destination-endpoint"].partition(",")[0]
            pick = picked.headers["x-inferway-pick"]
        json_type = {"content-type": "application/json"}
        url = f"http://{address}/v1/completions"
        async with self.session.post(url, data=body, headers=json_type) as answer:
            assert answer.status == 200, await answer.text()
            usage = json.loads(await answer.read())["usage"]
        self.picker.settle(
            Finished(
                pick,
                200,
                address,
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"],
            )
        )
        self.answered[name] += 1
        return True

    async def loop(self, name: str, objective: str = "") -> None:
        while not self.over and await self.ask(name, objective):
            pass


def mean_wait(picker: Picker, name: str) -> float:
    """Of those that came to the queue at all."""
    found = [h for (flow, _, what), h in picker.flow.counts.seconds.items()
             if flow == name and what == DISPATCHED]  # fmt: skip
    return sum(h.sum for h in found) / max(1, sum(sum(h.counts) for h in found))


async def test_a_full_pool_is_shared() -> None:
    async with (
        full_pool() as picker,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        asyncio.TaskGroup() as tasks,
    ):
        clients = Clients(picker, session)
        for name, count in (("loud", LOUD), ("quiet", QUIET)):
            for _ in range(count):
                tasks.create_task(clients.loop(name))
        # From here on the servers are known to be full.
        await until(lambda: len(picker.flow.queue) > 2)
        begun = Counter(clients.answered)
        tasks.create_task(clients.loop("vip", "vip"))
        await until(lambda: clients.answered["quiet"] >= begun["quiet"] + ANSWERS)
        had = clients.answered - begun

        # Three times as many clients do not get three times as much.
        assert had["loud"] < 2 * had["quiet"], had
        # The important one waits behind nobody.
        assert mean_wait(picker, "vip") < mean_wait(picker, "loud") / 2
        assert had["vip"] * QUIET > had["quiet"] * 0.7

        # What may be shed is, and is told when to come back.
        await until(lambda: len(picker.flow.queue) > 2 and picker.flow.credit == 0)
        while await clients.ask("batch", "batch"):
            pass
        status, headers, body = clients.refused["batch"][0]
        assert (status, json.loads(body)["error"]["code"]) == (429, "shed")
        assert headers["x-llm-d-request-dropped-reason"] == "rejected-saturated"
        assert 1 <= int(headers["retry-after"]) <= 60

        # A client that leaves while it waits is out of the queue at once.
        await until(lambda: len(picker.flow.queue) > 2)
        leaving = tasks.create_task(clients.loop("leaver"))
        await until(
            lambda: any(i.flow == "leaver" for i in picker.flow.queue.waiting()) or leaving.done()
        )
        leaving.cancel()
        await until(lambda: picker.flow.counts.requests[LEFT, 0] > 0)
        assert all(item.flow != "leaver" for item in picker.flow.queue.waiting())
        clients.over = True
    assert set(clients.refused) == {"batch"}
    assert len(picker.flow.queue) == 0
