"""vLLM's calls to load and unload an adapter, and what their answers mean.

Knows the bodies and errors of vLLM's OpenAI server; ``outcome_of`` is pure.
"""

from __future__ import annotations

import aiohttp
import msgspec

from inferway.scheduling.placement.machine import Action, Outcome
from inferway.scheduling.placement.values import Load

# The engine fetches a big adapter from a hub in this time.
LOAD_SECONDS_MAX = 120.0
UNLOAD_SECONDS_MAX = 15.0
CONNECT_SECONDS_MAX = 2.0
# An error's text; more of it is no help.
ANSWER_BYTES_MAX = 64 * 1024
MESSAGE_CHARACTERS_MAX = 1024

LOAD_PATH = "/v1/load_lora_adapter"
UNLOAD_PATH = "/v1/unload_lora_adapter"
_UPDATING_OFF = (
    "the server does not load adapters at run time; start it with --enable-lora and the "
    "environment VLLM_ALLOW_RUNTIME_LORA_UPDATING=true"
)


class _Error(msgspec.Struct):
    message: str = ""


class _Answer(msgspec.Struct):
    error: _Error | str | None = None
    message: str = ""
    detail: str | None = None


async def carry_out(
    session: aiohttp.ClientSession, scheme: str, action: Action
) -> tuple[Outcome, str]:
    """Does it, and says how it ended. Raises nothing that a server can cause."""
    body: dict[str, str] = {"lora_name": action.adapter}
    if isinstance(action, Load):
        body["lora_path"] = action.source
        if action.base_model:
            body["base_model_name"] = action.base_model
    path = LOAD_PATH if isinstance(action, Load) else UNLOAD_PATH
    seconds = LOAD_SECONDS_MAX if isinstance(action, Load) else UNLOAD_SECONDS_MAX
    try:
        async with session.post(
            f"{scheme}://{action.address}{path}",
            json=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS_MAX),
        ) as answer:
            text = await answer.content.read(ANSWER_BYTES_MAX)
            return outcome_of(action, answer.status, text)
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
        if isinstance(error, aiohttp.SocketTimeoutError):
            return Outcome.UNSURE, f"no answer within {seconds:g} s"
        return Outcome.FAILED, f"the server can not be reached: {error}"
    except TimeoutError:
        return Outcome.UNSURE, f"no answer within {seconds:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Outcome.UNSURE, f"the connection broke: {error or type(error).__name__}"


def outcome_of(action: Action, status: int, body: bytes) -> tuple[Outcome, str]:
    """What an answer says."""
    if 200 <= status < 300:
        return Outcome.DONE, ""
    message = message_of(status, body)
    words = message.lower()
    if isinstance(action, Load):
        if status == 400 and "already" in words and "loaded" in words:
            return Outcome.ALREADY, message
    elif status in (400, 404) and "cannot be found" in words:
        return Outcome.ALREADY, message
    return Outcome.FAILED, message


def message_of(status: int, body: bytes) -> str:
    """The server's own words."""
    try:
        answer = msgspec.json.decode(body, type=_Answer)
    except msgspec.MsgspecError:
        answer = _Answer()
    error = answer.error.message if isinstance(answer.error, _Error) else answer.error
    text = error or answer.message or answer.detail or ""
    if status in (404, 405) and text in ("", "Not Found", "Method Not Allowed"):
        return _UPDATING_OFF
    return (text or f"the server answered {status}")[:MESSAGE_CHARACTERS_MAX]
