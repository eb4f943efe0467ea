"""The programs ``vllm`` and ``python3`` that a stack's Pods find where vLLM runs for real.

They are made anew at each start in the stack's own folder, so that they always name this very
Inferway and this stack's models. ``hub`` is laid out as a Hugging Face cache: vLLM and the loading
of adapters find every name in it by themselves, without a network.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

# The name of the only version in the layout below.
REVISION = "local"


class EngineConfig(msgspec.Struct, frozen=True, rename="camel"):
    """What the program ``vllm`` reads when it starts (``engine.json`` beside ``bin``)."""

    python: str
    hub: str
    models: dict[str, str]
    cache: str = ""
    """Where vLLM keeps what it found out about models; it saves half a minute at each start."""


VLLM_SCRIPT = """\
#!/bin/sh
# vLLM of this machine, with this stack's models.
exec {python} -P -m inferway.cli.vllm.serve {config} "$@"
"""
PYTHON_SCRIPT = """\
#!/bin/sh
# The Python that vLLM is installed in; starting a server goes through the program vllm.
if [ "$1" = -m ] && [ "$2" = vllm.entrypoints.openai.api_server ]; then
  shift 2
  exec {vllm} serve "$@"
fi
unset PYTHONPATH
exec {python} "$@"
"""


def write_programs(folder: Path, python: str, models: Mapping[str, str], cache: str) -> Path:
    """Makes everything below ``folder``; returns the folder of the programs."""
    shutil.rmtree(folder, ignore_errors=True)
    programs, hub, config = folder / "bin", folder / "hub", folder / "engine.json"
    programs.mkdir(parents=True)
    write_hub(hub, models)
    config.write_bytes(msgspec.json.encode(EngineConfig(python, str(hub), dict(models), cache)))
    own, vllm = shlex.quote(sys.executable), programs / "vllm"
    _write(vllm, VLLM_SCRIPT.format(python=own, config=shlex.quote(str(config))))
    script = PYTHON_SCRIPT.format(vllm=shlex.quote(str(vllm)), python=shlex.quote(python))
    for name in ("python3", "python"):
        _write(programs / name, script)
    return programs


def write_hub(hub: Path, models: Mapping[str, str]) -> None:
    """Lays folders out as Hugging Face's cache does: refs/main names a folder of snapshots."""
    hub.mkdir(parents=True)
    for name, folder in models.items():
        place = hub / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(REVISION)
        (place / "snapshots").mkdir()
        (place / "snapshots" / REVISION).symlink_to(folder, target_is_directory=True)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
