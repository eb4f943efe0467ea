"""Requests to the model server. Each has a deadline; failures are values, not exceptions."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from inferway.lora.machine import CheckHealth, ListModels, Load, Unload

# A health check that takes longer is no health.
HEALTH_SECONDS_MAX = 5.0
LIST_SECONDS_MAX = 10.0
# vLLM downloads an adapter while it loads it: some hundred megabytes over a slow line.
LOAD_SECONDS_MAX = 600.0
UNLOAD_SECONDS_MAX = 60.0
# What is kept of an answer for a log line.
ANSWER_BYTES_MAX = 64 * 1024
# A server with thousands of adapters lists some megabytes.
LIST_BYTES_MAX = 64 * 1024 * 1024


class ServerClient:
    """Speaks vLLM's HTTP API."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def check_health(self, command: CheckHealth) -> tuple[int, str]:
        """(status, text); status 0 where there was no answer."""
        return await self._request(
            "GET", command.url + "/health", None, HEALTH_SECONDS_MAX, ANSWER_BYTES_MAX
        )

    async def load(self, command: Load) -> tuple[int, str]:
        """(status, text of the answer or of its error)."""
        adapter = command.adapter
        body = {"lora_name": adapter.id, "lora_path": adapter.source}
        if adapter.base_model:
            body["base_model_name"] = adapter.base_model
        return _reason(
            await self._request(
                "POST",
                command.url + "/v1/load_lora_adapter",
                body,
                LOAD_SECONDS_MAX,
                ANSWER_BYTES_MAX,
            )
        )

    async def unload(self, command: Unload) -> tuple[int, str]:
        """(status, text of the answer or of its error)."""
        return _reason(
            await self._request(
                "POST",
                command.url + "/v1/unload_lora_adapter",
                {"lora_name": command.name},
                UNLOAD_SECONDS_MAX,
                ANSWER_BYTES_MAX,
            )
        )

    async def list_models(
        self, command: ListModels
    ) -> tuple[dict[str, tuple[str, str]] | None, str]:
        """(models, "") or (None, reason)."""
        status, text = await self._request(
            "GET", command.url + "/v1/models", None, LIST_SECONDS_MAX, LIST_BYTES_MAX
        )
        if status != 200:
            return None, text if status == 0 else f"status {status}"
        return models_of(text)

    async def _request(
        self, method: str, url: str, body: Any, seconds_max: float, bytes_max: int
    ) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=seconds_max)
        try:
            async with self._session.request(method, url, json=body, timeout=timeout) as response:
                raw = await response.content.read(bytes_max)
                while len(raw) < bytes_max and (more := await response.content.read(bytes_max)):
                    raw += more
                return response.status, raw.decode("utf-8", "replace")
        except TimeoutError:
            return 0, f"no answer within {seconds_max:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return 0, str(error) or type(error).__name__


def models_of(text: str) -> tuple[dict[str, tuple[str, str]] | None, str]:
    """(id -> (root, parent), "") of a list of models, or (None, reason)."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return None, f"no JSON: {error}"
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return None, "no list of models"
    models: dict[str, tuple[str, str]] = {}
    for item in data:
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            models[item["id"]] = (str(item.get("root") or ""), str(item.get("parent") or ""))
    return models, ""


def _reason(answer: tuple[int, str]) -> tuple[int, str]:
    """The message inside an error body, in the shapes that vLLM has had."""
    status, text = answer
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return status, text
    if not isinstance(document, dict):
        return status, text
    error = document.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    for found in (inner, document.get("message"), document.get("detail")):
        if isinstance(found, str):
            return status, found
    return status, text
