"""How much memory a vLLM server wants before it answers, and how much this machine has to give.

An estimate, made so that a machine that is far too small says so at once and in numbers, where
the kernel would end the server after a minute without a word.
"""

from __future__ import annotations

from pathlib import Path

from inferway.base.errors import InferwayError

GIBIBYTE = 1 << 30
# What Python, torch and the compiled model take beside weights and KV cache; vLLM 0.32 measured
# with models of 1 MB and of 260 MB.
BASE_BYTES = 2 * GIBIBYTE
# While they load, weights are in memory once and part of them twice.
WEIGHTS_FACTOR = 1.5
KV_CACHE_GIB_DEFAULT = 1
KV_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf", "*.pt")


def needed_bytes(model: Path, kv_cache_gib: float) -> int:
    """What a server of this model folder takes."""
    weights = sum(path.stat().st_size for pattern in WEIGHT_FILES for path in model.glob(pattern))
    return int(BASE_BYTES + WEIGHTS_FACTOR * weights + kv_cache_gib * GIBIBYTE)


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What can be taken without pushing others out; None where the kernel does not say."""
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


def shortage(model: Path, kv_cache_gib: float, available: int | None) -> str:
    """What is missing, in a sentence; empty when there is enough."""
    needed = needed_bytes(model, kv_cache_gib)
    if available is None or available >= needed:
        return ""
    return (
        f"vLLM needs about {needed / GIBIBYTE:.1f} GiB of memory for {model.name} (with "
        f"{kv_cache_gib:g} GiB of KV cache), and {available / GIBIBYTE:.1f} GiB are available"
    )


def require_memory(model: Path, kv_cache_gib: float) -> None:
    """Raises InferwayError INFERWAY0126 when the machine is too small."""
    missing = shortage(model, kv_cache_gib, available_bytes())
    if missing:
        raise InferwayError(
            "INFERWAY0126",
            missing,
            about=str(model),
            fix=f"End other programs, take a smaller model, or set {KV_CACHE_VARIABLE} lower.",
        )
