"""Where LoRA adapters are: in a slot of the device, in host memory, or only on disk.

A step can use as many different adapters as the device has slots. Loading costs time that the
step pays, as in vLLM, where a load happens between two forward passes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection


class AdapterSlots:
    """Least recently used adapters leave first; adapters in use never leave the device."""

    def __init__(
        self, device_max: int, host_max: int, host_load_seconds: float, disk_load_seconds: float
    ) -> None:
        self._device_max = max(device_max, 1)
        self._host_max = max(host_max, self._device_max)
        self._host_load_seconds = host_load_seconds
        self._disk_load_seconds = disk_load_seconds
        self._device: OrderedDict[str, None] = OrderedDict()
        self._host: OrderedDict[str, None] = OrderedDict()

    @property
    def device_max(self) -> int:
        return self._device_max

    @property
    def on_device(self) -> tuple[str, ...]:
        return tuple(self._device)

    @property
    def on_host(self) -> tuple[str, ...]:
        return tuple(self._host)

    def preload(self, name: str) -> float:
        """Reads an adapter into host memory; returns the seconds it takes."""
        if name in self._host:
            self._host.move_to_end(name)
            return 0.0
        self._host[name] = None
        self._trim_host({name})
        return self._disk_load_seconds

    def use(self, name: str, in_use: Collection[str]) -> float:
        """Puts an adapter on the device; returns the seconds of loading.

        ``in_use`` are the other adapters of the step; the caller leaves one slot for ``name``.
        """
        if name in self._device:
            self._device.move_to_end(name)
            return 0.0
        seconds = self.preload(name) + self._host_load_seconds
        self._device[name] = None
        for other in list(self._device):
            if len(self._device) <= self._device_max:
                break
            if other != name and other not in in_use:
                del self._device[other]
        assert len(self._device) <= self._device_max
        return seconds

    def drop(self, name: str) -> None:
        """Forgets an adapter that was unloaded."""
        self._device.pop(name, None)
        self._host.pop(name, None)

    def _trim_host(self, keep: Collection[str]) -> None:
        for other in list(self._host):
            if len(self._host) <= self._host_max:
                break
            if other not in keep and other not in self._device:
                del self._host[other]
