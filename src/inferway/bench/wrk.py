"""wrk, the load generator in C: its script, one run of it, and what it reports.

Knows wrk's command line and its Lua hooks. Its own cost is small beside what it measures, and it
is never part of a measured sum.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import InferwayError, UsageError

# Requests at once in a saturated run: enough to keep two cores busy, few enough for short queues.
CONNECTIONS = 32
# In a paced run each connection rests this long on average, so that bursts even out.
PACED_REST_SECONDS = 0.020
# wrk ends by itself after its duration; this is for one that hangs.
GRACE_SECONDS_MAX = 30.0
RESULT_MARK = "wrk-result "

_SCRIPT = """
local requests = {}
local turn = 0
function init(args)
  local headers = {["Content-Type"] = "application/json"}
  for _, body in ipairs(bodies) do
    requests[#requests + 1] = wrk.format("POST", "/v1/completions", headers, body)
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    'wrk-result {"requests": %d, "micros": %d, "errors": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
_PACED = """
function delay()
  return math.random(0, {most})
end
"""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What one run saw. Latencies are in milliseconds."""

    requests: int
    seconds: float
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def requests_per_second(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class WrkRun:
    """One run: where to, how long, and how fast. ``rate`` None means as fast as it goes."""

    url: str
    bodies: tuple[str, ...]
    seconds: float
    rate: float | None = None


def find_wrk() -> str:
    """The path of wrk. Raises UsageError without one."""
    found = shutil.which("wrk")
    if found is None:
        raise UsageError(
            "INFERWAY0170",
            "wrk is not on your PATH",
            fix="Install it, on Debian or Ubuntu: apt-get install wrk nginx-light",
        )
    return found


def script(run: WrkRun) -> str:
    """The Lua script of a run."""
    quoted = ",\n".join(f"[====[{body}]====]" for body in run.bodies)
    paced = "" if run.rate is None else _PACED.format(most=int(PACED_REST_SECONDS * 2000))
    return f"local bodies = {{{quoted}}}\n{_SCRIPT}{paced}"


def connections(run: WrkRun) -> int:
    """How many connections a run needs: in a paced one the rate sets them."""
    return CONNECTIONS if run.rate is None else max(1, math.ceil(run.rate * PACED_REST_SECONDS))


def parse(output: str) -> WrkResult:
    """What the script wrote at the end. Raises InferwayError when it did not."""
    for line in output.splitlines():
        if line.startswith(RESULT_MARK):
            found = json.loads(line.removeprefix(RESULT_MARK))
            return WrkResult(
                requests=found["requests"],
                seconds=found["micros"] / 1e6,
                errors=found["errors"],
                p50_ms=found["p50"] / 1e3,
                p99_ms=found["p99"] / 1e3,
            )
    raise InferwayError(
        "INFERWAY0171",
        f"wrk gave no result: {output[-500:]}",
        fix="Run it by hand against the same address to see why.",
    )


def start(run: WrkRun, folder: Path) -> subprocess.Popen[str]:
    """wrk at work; its output is read by ``finish``."""
    path = folder / "load.lua"
    path.write_text(script(run))
    words: Sequence[str] = (
        find_wrk(),
        "--threads=1",
        f"--connections={connections(run)}",
        f"--duration={max(1, round(run.seconds))}s",
        f"--script={path}",
        run.url,
    )
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str], run: WrkRun) -> WrkResult:
    """The result of a run. Raises InferwayError when any answer was wrong."""
    output, _ = process.communicate(timeout=run.seconds + GRACE_SECONDS_MAX)
    result = parse(output)
    if result.errors or not result.requests:
        raise InferwayError(
            "INFERWAY0172",
            f"{result.errors} of {result.requests} answers were wrong, so there is no figure",
            about=run.url,
            fix="See what it answers: curl -i that address; a benchmark needs an idle machine.",
        )
    return result
