"""``make bench-idle``: what asking model servers for their metrics costs.

``us_per_scrape`` is the CPU of reading one page (32 KB, as vLLM's): the median of rounds.
``cores`` is the CPU of a scraper whose endpoints are all idle, over real time: real connections to
one small server in a process of its own, whose CPU does not count. Writes build/bench/idle.json.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from inferway.base.clock import SystemClock
from inferway.bench import processes, report
from inferway.picker import metrics_text
from inferway.picker.scrape import IDLE_SECONDS, Scraper
from inferway.scheduling.policy import CostPolicy
from inferway.scheduling.pool import PoolScheduler
from inferway.scheduling.snapshot import Endpoint

PAGE_BYTES = 32 * 1024
ENDPOINTS = (1, 10, 100)
ROUNDS = 9
READS = 200
# Two periods pass before the measurement, in which connections are made.
SECONDS = 20.0
OUTPUT = Path("build/bench/idle.json")
COLUMNS = ("endpoints", "period_seconds", "us_per_scrape", "cores")

_HEAD = (
    "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
    "# TYPE vllm:num_requests_running gauge\n"
    'vllm:num_requests_running{engine="0",model_name="m"} 0.0\n'
    'vllm:num_requests_waiting{engine="0",model_name="m"} 0.0\n'
    'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.0\n'
    'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="9362"} 1.0\n'
    'vllm:lora_requests_info{max_lora="2",running_lora_adapters="",waiting_lora_adapters=""} 1.0\n'
)
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model","parent":null}]}'


def page(size: int = PAGE_BYTES) -> bytes:
    """A page of vLLM's kind: a few gauges, and histograms up to ``size`` bytes."""
    lines = [_HEAD]
    length = len(_HEAD)
    for number in range(10_000):
        name = f"vllm:histogram_{number // 20}_seconds"
        line = f'{name}_bucket{{engine="0",le="{number % 20}.0",model_name="m"}} {number}.0\n'
        if length + len(line) > size:
            break
        lines.append(line)
        length += len(line)
    return "".join(lines).encode()


def us_per_scrape() -> float:
    """Microseconds of CPU to read one page."""
    text = page()
    names = metrics_text.ENGINES["vllm"]
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time_ns()
        for _ in range(READS):
            metrics_text.read(text, names)
        rounds.append((time.process_time_ns() - began) / READS * 1e-3)
    return statistics.median(rounds)


def cores(endpoints: int, port: int) -> float:
    """CPU seconds a second of a scraper with so many idle servers."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_cores(endpoints, port))


async def _cores(endpoints: int, port: int) -> float:
    pool = PoolScheduler(CostPolicy())
    scraper = Scraper(pool, SystemClock())
    found = [Endpoint(f"127.0.{n // 250}.{n % 250 + 1}:{port}") for n in range(endpoints)]
    pool.set_endpoints(found, time.monotonic())
    scraper.set_endpoints(found)
    task = asyncio.ensure_future(scraper.run())
    try:
        await asyncio.sleep(2 * IDLE_SECONDS)
        failed = sum(target.errors for target in scraper.targets.values())
        assert all(target.metrics_at for target in scraper.targets.values()), failed
        began, cpu = time.monotonic(), time.process_time()
        await asyncio.sleep(SECONDS)
        return (time.process_time() - cpu) / (time.monotonic() - began)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _serve(pipe: multiprocessing.connection.Connection) -> None:
    asyncio.run(_serving(pipe))


async def _serving(pipe: multiprocessing.connection.Connection) -> None:
    bodies = {b"/metrics": page(), b"/v1/models": _MODELS}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = bodies[head.split(b" ", 2)[1]]
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "0.0.0.0", 0, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main(argv: Sequence[str] = ()) -> int:
    """Measures, prints, writes."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs,), daemon=True
    )
    server.start()
    try:
        port = ours.recv()
        spent = us_per_scrape()
        rows = [
            {
                "endpoints": count,
                "period_seconds": IDLE_SECONDS,
                "us_per_scrape": spent,
                "cores": cores(count, port),
            }
            for count in ENDPOINTS
        ]
    finally:
        server.kill()
        server.join()
    report.show("Asking idle model servers", COLUMNS, rows)
    report.write(OUTPUT, processes.machine(), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
