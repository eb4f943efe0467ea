"""Removes from a request what only the gateway may say, before anything looks at it."""

from __future__ import annotations

from envoy.config.core.v3 import extension_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from inferway.gateway.envoy.pack import pack

# Both families of the field. The destination itself travels in metadata; these are removed because
# servers and other gateways further on believe them.
_REMOVED = (
    "x-gateway-destination-endpoint",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-llm-d-destination-endpoint",
    "x-llm-d-destination-endpoint-subset",
    "x-llm-d-destination-endpoint-served",
)
_REMOVED_PREFIX = "x-inferway-"


def early_mutation() -> extension_pb2.TypedExtensionConfig:
    """The extension of the connection manager."""
    message = header_mutation_pb2.HeaderMutation()
    for name in _REMOVED:
        message.mutations.add().remove = name
    message.mutations.add().remove_on_match.key_matcher.prefix = _REMOVED_PREFIX
    return extension_pb2.TypedExtensionConfig(name="inferway.hygiene", typed_config=pack(message))
