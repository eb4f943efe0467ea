"""Which folder a model name stands for: the made ones, a user's own, and the Hugging Face cache.

A server that runs here has no hub to ask, so every name that a manifest may carry is given a
folder before it starts. Knows files; downloads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inferway.base.errors import UsageError
from inferway.cli.vllm.home import EngineHome

SMOLLM2 = "smollm2-135m-instruct"
GUIDE_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"
# Names that the published guide uses, and the made folder that answers for each where the real
# one is not on this machine.
STAND_INS = {
    GUIDE_MODEL: SMOLLM2,
    "Qwen/Qwen2.5-1.5B": SMOLLM2,
    "HuggingFaceTB/SmolLM2-135M-Instruct": SMOLLM2,
    "SriSanth2345/Qwen-1.5B-Tweet-Generations": "food-review-0",
}
CONFIG_FILES = ("config.json", "adapter_config.json")
_HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One value of ``--model``: a name, and its folder or None where it is still to be fetched."""

    name: str
    folder: Path | None


def known_models(home: EngineHome, cache: Path) -> dict[str, str]:
    """Every name that has a folder, the user's own downloads before the stand-ins."""
    found = {name: str(home.models / name) for name in home.model_names()}
    for name, made in STAND_INS.items():
        if made in found:
            found[name] = found[made]
    return found | cached_models(cache)


def hub_cache(env: Mapping[str, str]) -> Path:
    """Where Hugging Face's own programs keep their downloads."""
    if env.get("HF_HUB_CACHE"):
        return Path(env["HF_HUB_CACHE"])
    home = env.get("HF_HOME") or str(
        Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".cache")
        / "huggingface"
    )
    return Path(home) / "hub"


def cached_models(cache: Path) -> dict[str, str]:
    """Models that were downloaded whole, by name."""
    found = {}
    for folder in sorted(cache.glob("models--*")):
        name = folder.name.removeprefix("models--").replace("--", "/")
        try:
            snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if has_config(snapshot):
            found[name] = str(snapshot)
    return found


def has_config(folder: Path) -> bool:
    """The folder is a model's or an adapter's."""
    return any((folder / name).is_file() for name in CONFIG_FILES)


def read_wanted(values: Sequence[str], known: Mapping[str, str]) -> list[Wanted]:
    """What ``--model`` asks for. Raises UsageError INFERWAY0124."""
    return [_read(value, known) for value in values]


def _read(value: str, known: Mapping[str, str]) -> Wanted:
    name, equals, place = value.partition("=")
    if equals and name and place:
        return Wanted(name, _model_folder(place))
    path = Path(value).expanduser()
    looks_like_path = value.startswith(("/", "./", "../", "~")) or path.is_dir()
    if value and looks_like_path:
        folder = _model_folder(value)
        return Wanted(folder.name, folder)
    if value in known:
        return Wanted(value, Path(known[value]))
    if not _HUB_NAME.match(value):
        raise UsageError(
            "INFERWAY0124",
            f"--model {value!r} is neither a folder nor a name of Hugging Face",
            fix="Write --model FOLDER, --model ORGANIZATION/NAME or --model NAME=FOLDER.",
        )
    return Wanted(value, None)


def _model_folder(text: str) -> Path:
    folder = Path(text).expanduser().absolute()
    if folder.is_dir() and has_config(folder):
        return folder
    why = "there is no such folder" if not folder.is_dir() else "it has no config.json"
    raise UsageError(
        "INFERWAY0124",
        f"this is no folder of a model: {why}",
        about=str(folder),
        fix="Name the folder that holds config.json, the weights and the tokenizer.",
    )
