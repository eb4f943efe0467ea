"""Where real vLLM is installed on this machine, and what is there.

Knows the folder that all stacks and clones of a user share; installs and starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from inferway.base.errors import InferwayError

HOME_VARIABLE = "INFERWAY_VLLM_HOME"


class EngineRecord(msgspec.Struct, frozen=True, rename="camel"):
    """``engine.json``, written when an installation is whole."""

    python: str
    """The Python of the environment that holds vLLM."""
    version: str


@dataclass(frozen=True, slots=True)
class EngineHome:
    """Paths of an installation."""

    root: Path

    @property
    def environment(self) -> Path:
        return self.root / "env"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def record_file(self) -> Path:
        return self.root / "engine.json"

    @property
    def log_file(self) -> Path:
        return self.root / "install.log"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    def find(self) -> EngineRecord | None:
        """What is installed here; None when nothing is, or when its Python has gone."""
        try:
            record = msgspec.json.decode(self.record_file.read_bytes(), type=EngineRecord)
        except (OSError, msgspec.DecodeError):
            return None
        return record if os.access(record.python, os.X_OK) else None

    def model_names(self) -> list[str]:
        """Model and adapter folders that were made here."""
        if not self.models.is_dir():
            return []
        return sorted(path.name for path in self.models.iterdir() if not path.name.startswith("."))


def engine_home(env: Mapping[str, str]) -> EngineHome:
    """``$INFERWAY_VLLM_HOME``, else ``$XDG_DATA_HOME/inferway/vllm`` (~/.local/share)."""
    named = env.get(HOME_VARIABLE)
    if named:
        return EngineHome(Path(named).expanduser().absolute())
    data = env.get("XDG_DATA_HOME") or str(
        Path(env.get("HOME") or "~").expanduser() / ".local/share"
    )
    return EngineHome(Path(data) / "inferway" / "vllm")


def require_engine(home: EngineHome) -> EngineRecord:
    """What is installed. Raises with the way to get it."""
    found = home.find()
    if found is None:
        raise InferwayError(
            "INFERWAY0120",
            "vLLM is not installed",
            about=str(home.root),
            fix="Install it (6 GB, some minutes): make vllm, or: inferway vllm install. Without it "
            "the simulated server runs: inferway up --engine simulator",
        )
    return found
