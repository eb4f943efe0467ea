"""Whether this machine's Envoy takes the native pick filter: tried, because both have versions."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from inferway.base.native import MISSING, MODULE, SEARCH_PATH_VARIABLE, module_folder

# "off" leaves proxies with the HTTP callout, to compare or to exclude the module as a cause.
SWITCH_VARIABLE = "INFERWAY_PICK_MODULE"
# Envoy checks a small configuration in a tenth of a second.
CHECK_SECONDS_MAX = 10.0
# Envoy takes modules of an older interface too, whose numbers may mean something else.
_SAME_INTERFACE = b"Dynamic module ABI version v0.2.0 matched"
_REASON_CHARACTERS_MAX = 200
_TYPE = "type.googleapis.com/envoy.extensions.filters"


@dataclass(frozen=True, slots=True)
class PickModule:
    """``folder`` of the module for proxies, or empty with the reason."""

    folder: str
    reason: str = ""

    @property
    def annotation(self) -> str:
        """The Node annotation ``inferway.dev/pick-module``."""
        return "native" if self.folder else f"none: {self.reason}"


async def detect(envoy: str | None, environment: Mapping[str, str]) -> PickModule:
    """Has Envoy load the module once. Never fails: without it proxies ask by HTTP."""
    if environment.get(SWITCH_VARIABLE) == "off":
        return PickModule("", f"switched off by {SWITCH_VARIABLE}")
    folder = module_folder()
    if not folder:
        return PickModule("", MISSING)
    if envoy is None:
        return PickModule("", "there is no Envoy")
    try:
        process = await asyncio.create_subprocess_exec(
            *(envoy, "--mode", "validate", "--log-level", "info"),
            *("--config-yaml", json.dumps(_configuration())),
            env={**environment, SEARCH_PATH_VARIABLE: folder},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        return PickModule("", f"Envoy does not start: {error.strerror}")
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            _, said = await process.communicate()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return PickModule("", f"Envoy did not check it in {CHECK_SECONDS_MAX:.0f} s")
    if process.returncode != os.EX_OK:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return PickModule("", f"Envoy refuses it: {last[-_REASON_CHARACTERS_MAX:]}")
    if _SAME_INTERFACE not in said:
        return PickModule("", "it was made for another version of Envoy")
    return PickModule(folder)


def _configuration() -> dict[str, Any]:
    """One listener with the filter; nothing is bound when a configuration is only checked."""
    module = {
        "@type": f"{_TYPE}.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": MODULE},
        "filter_name": "inferway.pick",
    }
    router = {"@type": f"{_TYPE}.http.router.v3.Router"}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "check",
        "route_config": {},
        "http_filters": [
            {"name": "inferway.pick", "typed_config": module},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    listener = {
        "name": "check",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener]}}
