"""Which engine stands for images of vLLM in a stack, why, and with which models.

``choose`` looks at what is installed, at memory and at what ``--model`` names; a model that is not
on this machine is downloaded by the environment's own Hugging Face client, in the user's sight.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inferway.base.errors import InferwayError, UsageError
from inferway.cli.vllm import memory, models
from inferway.cli.vllm.home import EngineHome, EngineRecord, engine_home, require_engine
from inferway.cli.vllm.models import Wanted
from inferway.local.node.images import Engine

# Its progress goes to stderr and so to the terminal; stdout ends with the folder or the error.
DOWNLOAD_SCRIPT = """
import sys, huggingface_hub
try:
    print(huggingface_hub.snapshot_download(sys.argv[1]))
except Exception as error:
    print(" ".join(str(error).split())[:300] or type(error).__name__)
    sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of a stack. ``models`` maps names to folders, the first ``wanted`` is served."""

    engine: Engine
    why: str
    version: str = ""
    python: str = ""
    cache: str = ""
    models: Mapping[str, str] = field(default_factory=dict)
    served: Wanted | None = None


def choose(engine: str, wanted: Sequence[str], env: Mapping[str, str], *, empty: bool) -> Choice:
    """The engine that ``--engine`` and ``--model`` ask for. Raises InferwayError."""
    home = engine_home(env)
    record = home.find()
    if engine == "auto":
        return _automatic(home, record, wanted, env, empty=empty)
    if engine == "vllm":
        why = "asked for with --engine vllm"
        return _vllm(home, require_engine(home), wanted, env, empty=empty, why=why)
    if wanted:
        raise UsageError(
            "INFERWAY0124",
            "--model is for real vLLM; the simulated server has no weights",
            fix="Write: inferway up --engine vllm --model ...",
        )
    there = "; real vLLM is installed: --engine vllm" if record else ""
    return Choice("simulator", f"the default{there}")


def _automatic(
    home: EngineHome,
    record: EngineRecord | None,
    wanted: Sequence[str],
    env: Mapping[str, str],
    *,
    empty: bool,
) -> Choice:
    if record is None:
        why = f"--engine auto: vLLM is not installed in {home.root} (make vllm)"
        return Choice("simulator", why)
    try:
        why = f"--engine auto found vLLM in {home.root}"
        return _vllm(home, record, wanted, env, empty=empty, why=why)
    except InferwayError as error:
        if error.code != "INFERWAY0126":
            raise
        return Choice("simulator", f"--engine auto: {error.what}")


def _vllm(
    home: EngineHome,
    record: EngineRecord,
    wanted: Sequence[str],
    env: Mapping[str, str],
    *,
    empty: bool,
    why: str,
) -> Choice:
    known = models.known_models(home, models.hub_cache(env))
    asked = [
        item if item.folder is not None else _downloaded(item, record, env)
        for item in models.read_wanted(wanted, known)
    ]
    served = asked[0] if asked else Wanted(models.GUIDE_MODEL, _default(known))
    if not empty:
        if served.folder is None:
            raise InferwayError(
                "INFERWAY0129",
                "there is no model to serve",
                about=str(home.models),
                fix="Name one: inferway up --engine vllm --model FOLDER",
            )
        memory.require_memory(served.folder, memory.KV_CACHE_GIB_DEFAULT)
    named = {item.name: str(item.folder) for item in asked}
    if asked:
        # The guide's requests name this model, whatever answers them.
        named.setdefault(models.GUIDE_MODEL, str(served.folder))
    return Choice(
        "vllm", why, record.version, record.python, str(home.cache), known | named, served
    )


def _default(known: Mapping[str, str]) -> Path | None:
    folder = known.get(models.SMOLLM2)
    return Path(folder) if folder else None


def _downloaded(item: Wanted, record: EngineRecord, env: Mapping[str, str]) -> Wanted:
    """Fetches a model by its name; its progress goes to the terminal."""
    print(f"Downloading {item.name} from Hugging Face", file=sys.stderr)
    own = {name: value for name, value in env.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [record.python, "-c", DOWNLOAD_SCRIPT, item.name],
        env=own, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    lines = result.stdout.splitlines()
    if result.returncode == 0 and lines:
        return Wanted(item.name, Path(lines[-1]))
    last = lines[-1] if lines else f"exit code {result.returncode}"
    raise InferwayError(
        "INFERWAY0125",
        f"the model cannot be downloaded: {last}",
        about=item.name,
        fix=f"Without a network, name a folder: --model {item.name}=FOLDER",
    )
