"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.simulator import adapter_files
from inferway.simulator.http import Exchange
from inferway.simulator.options import LoraModule
from inferway.simulator.requests import LoadAdapterRequest, UnloadAdapterRequest

if TYPE_CHECKING:
    from inferway.simulator.app import App


def load(app: App, exchange: Exchange) -> None:
    """Loads an adapter; the answer comes when the load is done. Raises ApiError."""
    request = app.decoder.decode(
        LoadAdapterRequest, exchange.body, exchange.header(b"content-type")
    )
    module = LoraModule(request.lora_name, request.lora_path, request.base_model_name)
    app.models.check_load(module, in_place=request.load_inplace)
    adapter_files.check(module.name, module.path, app.options.lora_rank_max)
    app.models.begin_load(module)
    seconds = app.engine.adapters.preload(module.name)

    def done() -> None:
        text = app.models.finish_load(module)
        app.say(f"INFO Loaded new LoRA adapter: name '{module.name}', path '{module.path}'")
        exchange.respond(200, text.encode(), b"")

    if seconds > 0:
        app.loop.call_later(seconds, done)
    else:
        done()


def unload(app: App, exchange: Exchange) -> None:
    """Removes an adapter. Requests that use it finish. Raises ApiError."""
    request = app.decoder.decode(
        UnloadAdapterRequest, exchange.body, exchange.header(b"content-type")
    )
    text = app.models.unload(request.lora_name)
    app.engine.adapters.drop(request.lora_name)
    app.say(f"INFO Removed LoRA adapter: name '{request.lora_name}'")
    exchange.respond(200, text.encode(), b"")
