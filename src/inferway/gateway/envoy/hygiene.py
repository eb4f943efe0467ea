"""Removes from a request what only the gateway may say, before anything looks at it."""

from __future__ import annotations

from envoy.config.core.v3 import extension_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2

from inferway.gateway.envoy.names import SERVER_HEADERS
from inferway.gateway.envoy.pack import pack

# Both families of the field. The destination itself travels in metadata; these are removed because
# servers and other gateways further on believe them. Of the last ones a sidecar calls what they
# name.
_REMOVED = (
    "x-gateway-destination-endpoint",
    "x-gateway-destination-endpoint-subset",
    "x-gateway-destination-endpoint-served",
    "x-llm-d-destination-endpoint",
    "x-llm-d-destination-endpoint-subset",
    "x-llm-d-destination-endpoint-served",
    *SERVER_HEADERS,
)
_REMOVED_PREFIX = "x-inferway-"
# What clients say to the picker alone; it is taken away between picker and server. A session is the
# server's business as well.
CONTROL_HEADERS = (
    "test-epp-endpoint-selection",
    "x-gateway-inference-fairness-id",
    "x-gateway-inference-objective",
    "x-gateway-model-name-rewrite",
    "x-llm-d-inference-fairness-id",
    "x-llm-d-inference-objective",
    "x-llm-d-inference-ttl",
    "x-llm-d-model-name-rewrite",
    "x-llm-d-slo-tpot-ms",
    "x-llm-d-slo-ttft-ms",
    "x-slo-tpot-ms",
    "x-slo-ttft-ms",
)


def early_mutation() -> extension_pb2.TypedExtensionConfig:
    """The extension of the connection manager."""
    message = header_mutation_pb2.HeaderMutation()
    for name in _REMOVED:
        message.mutations.add().remove = name
    message.mutations.add().remove_on_match.key_matcher.prefix = _REMOVED_PREFIX
    return extension_pb2.TypedExtensionConfig(name="inferway.hygiene", typed_config=pack(message))
