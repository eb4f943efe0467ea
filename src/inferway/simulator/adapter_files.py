"""Looks at an adapter's folder as vLLM does when it loads one, as far as that needs no weights.

Sources that are no absolute path (names on a hub) are taken as they are: there is no hub here.
"""

from __future__ import annotations

import json
from pathlib import Path

from inferway.simulator.errors import ApiError

_CONFIG = "adapter_config.json"
# A configuration is a page of JSON; reading more would be a mistake of whoever put it there.
CONFIG_BYTES_MAX = 1 << 20


def check(name: str, source: str, rank_max: int) -> None:
    """Refuses a folder that vLLM would refuse. Raises ApiError."""
    if not source.startswith("/"):
        return
    config = Path(source) / _CONFIG
    try:
        with config.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX)
    except OSError:
        raise not_found(name, "<path>") from None
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise _failed(str(error)) from None
    rank = document.get("r") if isinstance(document, dict) else None
    if isinstance(rank, int) and rank > rank_max:
        raise _failed(f"LoRA rank {rank} is greater than max_lora_rank {rank_max}.")


def not_found(name: str, source: str) -> ApiError:
    """There is no adapter at a source; a path is not told to clients."""
    return ApiError(
        f"Loading lora {name} failed: No adapter found for {source}",
        status=404,
        kind="NotFoundError",
    )


def _failed(reason: str) -> ApiError:
    return ApiError(
        f"Call to add_lora method failed: Worker failed with error '{reason}', please check the "
        "stack trace above for the root cause",
        status=500,
        kind="InternalServerError",
    )
