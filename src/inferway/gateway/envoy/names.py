"""Names that several Envoy features share: headers, metadata, type URLs, limits.

Knows strings and numbers only.
"""

from __future__ import annotations

LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE_TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

DESTINATION_HEADER = "x-gateway-destination-endpoint"
PICK_HEADER = "x-inferway-pick"
SPLICE_HEADER = "x-inferway-splice"
RESTORE_HEADER = "x-inferway-restore"
PICKER_HEADER = "x-inferway-picker"
# What a picker's choice may set on the request to the server, where no client may have set it, and
# on the answer to the client: "Headers of a choice" in docs/design/contracts.md.
SERVER_HEADERS = (
    "x-prefiller-host-port",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
)
CLIENT_HEADERS = ("x-session-token", "x-llm-d-flow-queue-duration-ms")
SERVED_BY_POOL_HEADER = "x-went-into-resp-headers"

USAGE_NAMESPACE = "inferway.usage"
# Where Envoy's ext_authz filter keeps what dynamic_metadata_from_headers asks for.
PICK_NAMESPACE = "envoy.filters.http.ext_authz"
# Where the native pick filter puts the destination.
NATIVE_NAMESPACE = "inferway.pick"

# Prompts with images reach tens of megabytes. The body is held until the picker has answered and,
# for a retry, until the response begins.
BODY_BYTES_MAX = 64 * 1024 * 1024
# Envoy's own 1024 cuts off at about a thousand streams, and a stream of a model lives for minutes:
# the limit belongs to the picker, which knows the servers.
CONCURRENCY_MAX = 2**32 - 1
STAT_PREFIX = "inferway"
