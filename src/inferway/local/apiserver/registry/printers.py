"""The columns of ``kubectl get`` for built-in kinds. Cells are pure functions of an object."""

from __future__ import annotations

from inferway.local.apiserver.registry.kinds import Printer

PRINTERS: dict[str, Printer] = {}
