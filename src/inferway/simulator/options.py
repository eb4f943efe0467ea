"""What a simulated server is told, as one value."""

from __future__ import annotations

import msgspec

from inferway.simulator.engine.profiles import Profile
from inferway.simulator.engine.values import EngineConfig
from inferway.simulator.kv_events_config import KvEventsConfig


class LoraModule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An adapter as ``--lora-modules`` names it."""

    name: str
    path: str
    base_model_name: str | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one server."""

    model: str
    served_names: tuple[str, ...]
    host: str = "0.0.0.0"
    port: int = 8000
    unix_socket: str = ""
    root_path: str = ""
    api_keys: tuple[str, ...] = ()
    max_model_len: int = 32_768
    seed: int = 0
    engine: EngineConfig = EngineConfig()
    profile: Profile = Profile()
    lora_enabled: bool = False
    lora_rank_max: int = 16
    lora_modules: tuple[LoraModule, ...] = ()
    runtime_lora: bool = False
    # Patterns of adapter paths that do not exist, so that a failing load can be rehearsed.
    missing_adapters: tuple[str, ...] = ()
    prompt_tokens_details: bool = False
    force_include_usage: bool = False
    request_id_headers: bool = False
    access_log: bool = True
    quiet_paths: frozenset[str] = frozenset()
    drain_seconds_max: float = 30.0
    gpu_memory_utilization: float = 0.92
    kv_cache_dtype: str = "auto"
    block_size_given: bool = False
    kv_events: KvEventsConfig | None = None
    warnings: tuple[str, ...] = ()
