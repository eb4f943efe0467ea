"""Which models a server answers for: its base names and the adapters that are loaded.

The texts and codes of loading and unloading are vLLM's. Knows no network and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from inferway.simulator.adapter_files import not_found
from inferway.simulator.errors import ApiError, model_not_found
from inferway.simulator.options import LoraModule


class Models:
    """Names that requests may use."""

    def __init__(
        self, base_names: Sequence[str], lora_enabled: bool, missing: Iterable[str] = ()
    ) -> None:
        assert base_names
        self.base_names = tuple(base_names)
        self._lora_enabled = lora_enabled
        self._missing = tuple(missing)
        self.adapters: dict[str, LoraModule] = {}
        # Adapters between the request to load them and the end of the load.
        self._loading: set[str] = set()

    def resolve(self, name: str | None) -> tuple[str, str]:
        """(name to answer with, adapter or "") of a request's model. Raises ApiError 404."""
        if not name or name in self.base_names:
            return name or self.base_names[0], ""
        if name in self.adapters:
            return name, name
        raise model_not_found(name, self.base_names)

    def check_load(self, module: LoraModule, *, in_place: bool = False) -> None:
        """Refuses a load that vLLM would refuse by its names alone. Raises ApiError."""
        if not module.name or not module.path:
            raise ApiError(
                "Both 'lora_name' and 'lora_path' must be provided.", kind="InvalidUserInput"
            )
        if module.name in self.base_names:
            raise ApiError(
                f"The lora adapter '{module.name}' conflicts with a served base model.",
                kind="InvalidUserInput",
            )
        if not in_place and (module.name in self.adapters or module.name in self._loading):
            raise ApiError(
                f"The lora adapter '{module.name}' has already been loaded. If you want to load "
                "the adapter in place, set 'load_inplace' to True.",
                kind="InvalidUserInput",
            )
        if not self._lora_enabled:
            raise ApiError(
                "LoRA is not enabled. Use --enable-lora to enable LoRA.",
                status=500,
                kind="InternalServerError",
            )
        if any(fnmatchcase(module.path, pattern) for pattern in self._missing):
            raise not_found(module.name, module.path)

    def begin_load(self, module: LoraModule) -> None:
        """Reserves the name of an adapter until it is loaded."""
        self._loading.add(module.name)

    def finish_load(self, module: LoraModule) -> str:
        """Makes an adapter usable; returns vLLM's sentence about it."""
        self._loading.discard(module.name)
        base = module.base_model_name
        if base not in self.base_names:
            base = None
        self.adapters[module.name] = LoraModule(module.name, module.path, base)
        return f"Success: LoRA adapter '{module.name}' added successfully."

    def unload(self, name: str) -> str:
        """Removes an adapter; returns vLLM's sentence about it. Raises ApiError."""
        if not name:
            raise ApiError(
                "'lora_name' needs to be provided to unload a LoRA adapter.",
                kind="InvalidUserInput",
            )
        if name not in self.adapters:
            raise ApiError(
                f"The lora adapter '{name}' cannot be found.", status=404, kind="NotFoundError"
            )
        del self.adapters[name]
        return f"Success: LoRA adapter '{name}' removed successfully."
