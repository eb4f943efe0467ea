"""Real and simulated servers as processes, each on a core of its own where there are enough.

Knows command lines and ports; what the servers are asked is the replay's.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import InferwayError
from inferway.bench import processes

MODEL = "replayed"
MODEL_TOKENS = 2048
SEQUENCES = 16
# Loading torch and compiling take most of it; two servers start at once.
START_SECONDS_MAX = 400.0
LOOK_AGAIN_SECONDS = 0.2
_MODULE = "vllm.entrypoints.openai.api_server"
_REAL_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    # One thread: its core is its own, and a second thread would wait for it at every barrier.
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


@dataclass(frozen=True, slots=True)
class Real:
    """Where real vLLM is, and a model folder for it."""

    python: str
    model: str


def find_real(env: Mapping[str, str], python: str | None, model: str | None) -> Real:
    """The engine that was named, or the one that ``inferway vllm install`` made.

    Raises InferwayError.
    """
    data = env.get("XDG_DATA_HOME") or str(Path(env.get("HOME", "~")).expanduser() / ".local/share")
    home = Path(env.get("INFERWAY_VLLM_HOME") or f"{data}/inferway/vllm")
    if python is None:
        try:
            python = str(json.loads((home / "engine.json").read_bytes())["python"])
        except (OSError, ValueError, KeyError):
            raise InferwayError(
                "INFERWAY0514",
                f"no real vLLM to compare with: nothing in {home}",
                fix="Run `make vllm`, or name one with --python and --model-folder.",
            ) from None
    return Real(python, model or str(home / "models" / "random-qwen2"))


def flags(name: str) -> list[str]:
    """What both kinds of server are told; ``name`` is the model's for clients."""
    return [
        "--served-model-name", name, "--max-model-len", str(MODEL_TOKENS),
        "--max-num-seqs", str(SEQUENCES), "--disable-uvicorn-access-log",
    ]  # fmt: skip


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _pinned(words: list[str], core: int) -> list[str]:
    """The command on one core, where the machine has the tool."""
    taskset = shutil.which("taskset")
    cores = sorted(os.sched_getaffinity(0))
    return [taskset, "-c", str(cores[core % len(cores)]), *words] if taskset else words


@contextmanager
def real_servers(real: Real, count: int, folder: Path) -> Iterator[list[str]]:
    """URLs of real servers while the block runs. Raises InferwayError."""
    words = [real.python, "-m", _MODULE, "--model", real.model, *flags(MODEL)]
    with _servers(words, _REAL_ENVIRONMENT, count, folder / "real") as urls:
        yield urls


@contextmanager
def simulated_servers(
    profile: Path, count: int, folder: Path, name: str = MODEL
) -> Iterator[list[str]]:
    """URLs of simulated servers while the block runs. Raises InferwayError."""
    words = [sys.executable, "-m", "inferway", "simulator", "--model", "m", *flags(name)]
    words += ["--profile", str(profile)]
    with _servers(words, {}, count, folder / "simulated") as urls:
        yield urls


@contextmanager
def _servers(
    words: Sequence[str], env: Mapping[str, str], count: int, folder: Path
) -> Iterator[list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        urls = []
        started = []
        for core in range(count):
            port = _free_port()
            log = folder / f"{core}.log"
            command = [*_pinned(list(words), core), "--host", "127.0.0.1", "--port", str(port)]
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                    env={**os.environ, **env}, text=True,
                )  # fmt: skip
            stack.callback(processes.stop, process)
            urls.append(f"http://127.0.0.1:{port}")
            started.append((process, log))
        for url, (process, log) in zip(urls, started, strict=True):
            _wait(url, process, log)
        yield urls


def _wait(url: str, process: subprocess.Popen[str], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url + "/health", timeout=5):  # noqa: S310 - our own URL
                return
        except (urllib.error.URLError, OSError):
            time.sleep(LOOK_AGAIN_SECONDS)
    raise InferwayError(
        "INFERWAY0515",
        f"a server does not start: {log.read_text(errors='replace')[-800:].strip()}",
        fix="Start it alone with the same command and mend what it says.",
    )
