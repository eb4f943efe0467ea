"""Requests to the model server. Each has a deadline; failures are values, not exceptions."""

from __future__ import annotations

import re
from typing import Any

import aiohttp
import msgspec

from inferway.lora.messages import CheckHealth, ListModels, Load, Model, ReadSlots, Unload
from inferway.lora.reasons import Answer

# A health check that takes longer is no health.
HEALTH_SECONDS_MAX = 5.0
LIST_SECONDS_MAX = 10.0
# vLLM downloads an adapter while it loads it: some hundred megabytes over a slow line.
LOAD_SECONDS_MAX = 600.0
UNLOAD_SECONDS_MAX = 60.0
METRICS_SECONDS_MAX = 10.0
# What is kept of an answer for a log line.
ANSWER_BYTES_MAX = 64 * 1024
# A server with thousands of adapters lists some megabytes.
LIST_BYTES_MAX = 64 * 1024 * 1024
# vLLM's metrics are some hundred kilobytes.
METRICS_BYTES_MAX = 16 * 1024 * 1024

_SLOTS = re.compile(r'^vllm:lora_requests_info\{[^}]*\bmax_lora="(\d{1,6})"', re.MULTILINE)


class ServerClient:
    """Speaks vLLM's HTTP API. ``api_key`` is the server's, or empty."""

    def __init__(self, session: aiohttp.ClientSession, api_key: str = "") -> None:
        self._session = session
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    async def check_health(self, command: CheckHealth) -> Answer:
        return await self._request(
            "GET", command.url + "/health", None, HEALTH_SECONDS_MAX, ANSWER_BYTES_MAX
        )

    async def load(self, command: Load) -> Answer:
        """The text is that of the answer or of its error."""
        adapter = command.adapter
        body: dict[str, Any] = {"lora_name": adapter.id, "lora_path": command.path}
        if adapter.base_model:
            body["base_model_name"] = adapter.base_model
        if command.in_place:
            body["load_inplace"] = True
        url = command.url + "/v1/load_lora_adapter"
        return _reason(await self._request("POST", url, body, LOAD_SECONDS_MAX, ANSWER_BYTES_MAX))

    async def unload(self, command: Unload) -> Answer:
        """The text is that of the answer or of its error."""
        body = {"lora_name": command.name}
        url = command.url + "/v1/unload_lora_adapter"
        return _reason(await self._request("POST", url, body, UNLOAD_SECONDS_MAX, ANSWER_BYTES_MAX))

    async def list_models(self, command: ListModels) -> tuple[dict[str, Model] | None, str]:
        """(models, "") or (None, reason)."""
        answer = await self._request(
            "GET", command.url + "/v1/models", None, LIST_SECONDS_MAX, LIST_BYTES_MAX
        )
        if answer.status != 200:
            return None, answer.text if answer.status == 0 else f"status {answer.status}"
        return models_of(answer.text)

    async def read_slots(self, command: ReadSlots) -> int:
        """How many adapters fit in a batch; 0 where the server does not tell."""
        answer = await self._request(
            "GET", command.url + "/metrics", None, METRICS_SECONDS_MAX, METRICS_BYTES_MAX
        )
        found = _SLOTS.search(answer.text) if answer.status == 200 else None
        return int(found.group(1)) if found else 0

    async def _request(
        self, method: str, url: str, body: Any, seconds_max: float, bytes_max: int
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=seconds_max)
        try:
            async with self._session.request(
                method, url, json=body, timeout=timeout, headers=self._headers
            ) as response:
                raw = await response.content.read(bytes_max)
                while len(raw) < bytes_max and (more := await response.content.read(bytes_max)):
                    raw += more
                return Answer(response.status, raw.decode("utf-8", "replace"))
        except TimeoutError:
            return Answer(0, f"no answer within {seconds_max:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = isinstance(error, aiohttp.ClientConnectorError)
            text = str(error) or type(error).__name__
            return Answer(0, text, lost=not refused, refused=refused)


def models_of(text: str) -> tuple[dict[str, Model] | None, str]:
    """(id -> model, "") of a list of models, or (None, reason)."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return None, f"no JSON: {error}"
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, list):
        return None, "no list of models"
    models: dict[str, Model] = {}
    for item in data:
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            models[item["id"]] = Model(str(item.get("root") or ""), str(item.get("parent") or ""))
    return models, ""


def _reason(answer: Answer) -> Answer:
    """The message inside an error body, in the shapes that vLLM has had."""
    try:
        document = msgspec.json.decode(answer.text)
    except msgspec.DecodeError:
        return answer
    if not isinstance(document, dict):
        return answer
    error = document.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    for found in (inner, document.get("message"), document.get("detail")):
        if isinstance(found, str):
            return msgspec.structs.replace(answer, text=found)
    return answer
