"""Whether a folder can be an adapter, as far as its files tell.

Reads adapter_config.json and the head of the weights; knows PEFT's form and nothing of the server.
A server refuses the same folders with words of its own, but loads weights of a narrower model
without a word, so that the widths are compared here where the base model's folder is in sight.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec

from inferway.lora.reasons import Problem, Reason

CONFIG_NAME = "adapter_config.json"
WEIGHT_NAMES = ("adapter_model.safetensors", "adapter_model.bin", "adapter_model.pt")
# PEFT writes about one kilobyte; long lists of modules make some hundred.
CONFIG_BYTES_MAX = 4 * 1024 * 1024
# The head names every tensor: some hundred bytes each, of some thousand tensors.
HEAD_BYTES_MAX = 64 * 1024 * 1024
# Projections that read the hidden state, so that the second number of lora_A is its width.
_READ_HIDDEN = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")


def check(folder: Path, base_root: str = "") -> Problem | None:
    """What is wrong with a folder, if anything. A folder that is not there is a problem too."""
    if not folder.is_dir():
        return Problem(Reason.SOURCE_NOT_FOUND, f"there is no folder {folder}")
    try:
        return _check_config(folder) or _check_weights(folder, base_root)
    except OSError as error:
        what = f"its files cannot be read: {error.strerror or error}"
        return Problem(Reason.BROKEN_ADAPTER, what)


def _check_config(folder: Path) -> Problem | None:
    path = folder / CONFIG_NAME
    if not path.is_file():
        return Problem(Reason.BROKEN_ADAPTER, f"{folder} has no {CONFIG_NAME}")
    config = _json(path, CONFIG_BYTES_MAX)
    if not isinstance(config, dict):
        return Problem(Reason.BROKEN_ADAPTER, f"{CONFIG_NAME} is not a JSON object")
    missing = [key for key in ("r", "lora_alpha", "target_modules") if key not in config]
    if missing:
        return Problem(Reason.BROKEN_ADAPTER, f"{CONFIG_NAME} lacks {', '.join(missing)}")
    rank = config["r"]
    if not isinstance(rank, int) or isinstance(rank, bool) or rank <= 0:
        return Problem(Reason.BROKEN_ADAPTER, f"{CONFIG_NAME} has rank r {rank!r}")
    return None


def _check_weights(folder: Path, base_root: str) -> Problem | None:
    found = next((name for name in WEIGHT_NAMES if (folder / name).is_file()), "")
    if not found:
        names = " or ".join(WEIGHT_NAMES)
        return Problem(Reason.BROKEN_ADAPTER, f"{folder} has no {names}")
    if not found.endswith(".safetensors"):
        return None
    path = folder / found
    head = _safetensors_head(path)
    if head is None:
        return Problem(Reason.BROKEN_ADAPTER, f"{found} is cut off or no safetensors file")
    width, hidden = _width(head), _hidden_size(base_root)
    if width and hidden and width != hidden:
        what = f"it is for a model of width {width}, the server's has {hidden}"
        return Problem(Reason.WRONG_BASE_MODEL, what)
    return None


def _safetensors_head(path: Path) -> dict[str, Any] | None:
    """Name -> description of each tensor; None if the file is not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(HEAD_BYTES_MAX, size - 8):
            return None
        raw = file.read(length)
    try:
        head = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(head, dict):
        return None
    tensors = {k: v for k, v in head.items() if k != "__metadata__" and isinstance(v, dict)}
    ends = [end for tensor in tensors.values() if (end := _end(tensor)) is not None]
    return tensors if 8 + length + max(ends, default=0) <= size else None


def _end(tensor: dict[str, Any]) -> int | None:
    offsets = tensor.get("data_offsets")
    if isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int):
        return offsets[1]
    return None


def _width(tensors: dict[str, Any]) -> int:
    """Width of the hidden state that the adapter reads; 0 where it does not show."""
    for name, tensor in tensors.items():
        parts = name.split(".")
        if "lora_A" in parts and any(part in parts for part in _READ_HIDDEN):
            shape = tensor.get("shape")
            if isinstance(shape, list) and len(shape) == 2 and isinstance(shape[1], int):
                return shape[1]
    return 0


def _hidden_size(base_root: str) -> int:
    """The width of the base model, where its folder is in sight; else 0."""
    path = Path(base_root) / "config.json"
    try:
        if not base_root.startswith("/") or not path.is_file():
            return 0
        config = _json(path, CONFIG_BYTES_MAX)
    except OSError:
        return 0
    hidden = config.get("hidden_size") if isinstance(config, dict) else None
    return hidden if isinstance(hidden, int) and not isinstance(hidden, bool) else 0


def _json(path: Path, bytes_max: int) -> Any:
    """The value in a file; None if it is too large or no JSON."""
    with path.open("rb") as file:
        raw = file.read(bytes_max + 1)
    if len(raw) > bytes_max:
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return None
