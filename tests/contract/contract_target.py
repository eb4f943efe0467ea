"""Which server the contract is held against: the simulated one, or a real vLLM.

``INFERWAY_VLLM_PYTHON`` names the Python of an environment with vLLM, ``INFERWAY_REAL_VLLM=1``
takes the one that ``inferway vllm install`` made: the suite makes a small random model and starts
a server with it. ``INFERWAY_VLLM_URL`` names one that was started the same way. Without any of
them the simulated server is asked, with the same flags.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Loading torch, compiling and warming up take most of it on two busy cores.
START_SECONDS_MAX = 300.0
STOP_SECONDS_MAX = 20.0
LOOK_AGAIN_SECONDS = 0.2
ADAPTERS = ("food-review", "cad-fabricator", "third", "rank64", "empty", "broken")
ENVIRONMENT = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "true"}
REAL_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A server, the folders that its answers may name, and whether it is real."""

    url: str
    model: str
    adapters: str
    real: bool

    def masked(self, value: Any) -> Any:
        """A value with the folders of this machine replaced."""
        if isinstance(value, dict):
            return {name: self.masked(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.masked(inner) for inner in value]
        if isinstance(value, str):
            return value.replace(self.adapters, "{adapters}").replace(self.model, "{model}")
        return value


def arguments(model: str, adapters: str) -> list[str]:
    """The flags of the server, without where it listens."""
    return [
        "--model", model, "--served-model-name", "tiny-base", "--max-model-len", "2048",
        "--max-num-seqs", "16", "--enable-lora", "--max-loras", "2", "--max-cpu-loras", "3",
        "--max-lora-rank", "16", "--lora-modules", f"food-review={adapters}/food-review",
    ]  # fmt: skip


def engine_python(env: Mapping[str, str] = os.environ) -> str:
    """The Python with vLLM that the environment names, or none."""
    if env.get("INFERWAY_VLLM_PYTHON"):
        return env["INFERWAY_VLLM_PYTHON"]
    if env.get("INFERWAY_REAL_VLLM") != "1":
        return ""
    data = env.get("XDG_DATA_HOME") or f"{env.get('HOME', '')}/.local/share"
    home = Path(env.get("INFERWAY_VLLM_HOME") or f"{data}/inferway/vllm")
    return str(json.loads((home / "engine.json").read_bytes())["python"])


def real_wanted(env: Mapping[str, str] = os.environ) -> bool:
    return bool(env.get("INFERWAY_VLLM_URL") or engine_python(env))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def real(folder: Path) -> Iterator[Target]:
    """The real server that the environment asks for. ``folder`` is for a model of our own."""
    url = os.environ.get("INFERWAY_VLLM_URL", "").rstrip("/")
    if url:
        home = os.environ.get("INFERWAY_VLLM_MODELS", "")
        yield Target(url, f"{home}/model", f"{home}/adapters", real=True)
        return
    python = engine_python()
    maker = Path(__file__).with_name("make_random_model.py")
    subprocess.run([python, str(maker), str(folder)], check=True, capture_output=True)
    model, adapters = str(folder / "model"), str(folder / "adapters")
    port = free_port()
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1",
        "--port", str(port), *arguments(model, adapters),
    ]  # fmt: skip
    with (folder / "vllm.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT, **REAL_ENVIRONMENT}
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, process, folder / "vllm.log")
        yield Target(url, model, adapters, real=True)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url + "/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            select_nothing(LOOK_AGAIN_SECONDS)
    raise AssertionError(f"vLLM does not start:\n{log.read_text(errors='replace')[-3000:]}")


def select_nothing(seconds: float) -> None:
    """Lets time pass until another program is up."""
    subprocess.run([sys.executable, "-c", f"import select; select.select([], [], [], {seconds})"])


def simulated_adapters(folder: Path) -> str:
    """Adapter folders as peft writes them, but for the weights."""
    for name in ADAPTERS:
        place = folder / "adapters" / name
        place.mkdir(parents=True)
        if name == "broken":
            (place / "adapter_config.json").write_text('{"a": \n')
        elif name != "empty":
            rank = 64 if name == "rank64" else 8
            (place / "adapter_config.json").write_text(f'{{"peft_type": "LORA", "r": {rank}}}')
            (place / "adapter_model.safetensors").write_bytes(b"")
    return str(folder / "adapters")
