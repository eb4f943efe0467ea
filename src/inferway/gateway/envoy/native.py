"""The native pick filter: a module in the proxy that asks the picker without HTTP.

One filter serves all pools, off until an entry switches it on and says which picker to ask. It
reads token usage itself and reports how a request went on the same connection, so that requests of
these entries need neither usage filters nor an access log. The module's source is in ``native/``.
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.extensions.dynamic_modules.v3 import dynamic_modules_pb2 as module_pb2
from envoy.extensions.filters.http.dynamic_modules.v3 import dynamic_modules_pb2 as filter_pb2
from google.protobuf import any_pb2, wrappers_pb2

from inferway.base.native import MODULE
from inferway.gateway.envoy.pack import pack
from inferway.gateway.envoy.tracing import Tracing, filter_settings
from inferway.gateway.translate.ir import Endpoint, Pick

FILTER = "inferway.pick"
# The module keeps a connection to each, and to no more than these.
PICKERS_MAX = 16
_MILLISECONDS = 1000


def native_filter() -> any_pb2.Any:
    """The filter for the table of filters."""
    return pack(filter_pb2.DynamicModuleFilter(dynamic_module_config=_module(), filter_name=FILTER))


def native_entry(
    pick: Pick, picker: Sequence[Endpoint], tracing: Tracing | None = None
) -> any_pb2.Any:
    """What an entry says: the pool, where its picker is, and what if it does not answer."""
    settings = {
        "pool": pick.path_prefix.removeprefix("/pick/"),
        "address": ",".join(map(_address, picker[:PICKERS_MAX])),
        "timeout_ms": max(1, round(pick.timeout_seconds * _MILLISECONDS)),
        "fail_open": int(pick.fail_open),
        **(filter_settings(tracing) if tracing is not None else {}),
    }
    text = "\n".join(f"{name}={value}" for name, value in settings.items())
    message = filter_pb2.DynamicModuleFilterPerRoute(
        dynamic_module_config=_module(), per_route_config_name=FILTER
    )
    message.filter_config.CopyFrom(pack(wrappers_pb2.StringValue(value=text)))
    return pack(message)


def _module() -> module_pb2.DynamicModuleConfig:
    # Channels to pickers outlive the configuration that named them.
    return module_pb2.DynamicModuleConfig(name=MODULE, do_not_close=True)


def _address(endpoint: Endpoint) -> str:
    if not endpoint.port:
        return f"unix:{endpoint.address}"
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{host}:{endpoint.port}"
