"""The pump between gRPC and the hub: delta ADS on one port.

Knows message types and flow; what is sent is decided elsewhere. A stream that can not be kept up
with is ended, so that the proxy comes back and tells what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from envoy.service.discovery.v3 import discovery_pb2

from inferway.gateway.envoy.listener import Site, is_wildcard
from inferway.gateway.xds.hub import Connection, Hub, Node
from inferway.gateway.xds.session import Request, Send

_log = logging.getLogger(__name__)

_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# A proxy that reconnects names every resource it has; grpc's own 4 MiB break that at scale.
RECEIVE_BYTES_MAX = 64 * 1024 * 1024
# Messages that wait for one proxy; a Gateway with ten thousand clusters fits twice.
OUTBOX_MESSAGES_MAX = 50_000
# After this what waits for an acknowledgement is sent without it. Warming takes milliseconds.
ORDER_SECONDS_MAX = 5.0
KEEPALIVE_MS = 30_000


@asynccontextmanager
async def serve(hub: Hub, address: str) -> AsyncIterator[int]:
    """Listens on ``address`` (host:port) while the context is open; gives the port."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
            ("grpc.max_send_message_length", -1),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            # A second controller on the port must fail and not share it.
            ("grpc.so_reuseport", 0),
        ]
    )
    handler = grpc.stream_stream_rpc_method_handler(
        _Ads(hub).stream,
        request_deserializer=discovery_pb2.DeltaDiscoveryRequest.FromString,
        response_serializer=discovery_pb2.DeltaDiscoveryResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"DeltaAggregatedResources": handler}),)
    )
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=0)


class _Ads:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def stream(self, requests: Any, context: Any) -> None:
        outbox: asyncio.Queue[Send] = asyncio.Queue(OUTBOX_MESSAGES_MAX)
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(requests, outbox), name="ads-read")
                writer = group.create_task(self._write(outbox, context), name="ads-write")
                reader.add_done_callback(lambda _: writer.cancel())
        except* asyncio.QueueFull:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the proxy does not keep up")

    async def _read(self, requests: Any, outbox: asyncio.Queue[Send]) -> None:
        connection: Connection | None = None
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle | None = None
        try:
            async for message in requests:
                if connection is None:
                    node = node_of(message.node)
                    _log.info("a proxy connects", extra={"data": {"node": node.id}})
                    connection = self._hub.connect(node, outbox.put_nowait)
                if message.HasField("error_detail"):
                    _note_refusal(connection.node, message)
                connection.receive(request_of(message))
                self._hub.flush()
                if timer is None or timer.when() < loop.time():
                    timer = loop.call_later(ORDER_SECONDS_MAX, connection.overdue)
        finally:
            if timer is not None:
                timer.cancel()
            if connection is not None:
                connection.close()
                _log.info("a proxy leaves", extra={"data": {"node": connection.node.id}})

    async def _write(self, outbox: asyncio.Queue[Send], context: Any) -> None:
        while True:
            await context.write(response_of(await outbox.get()))


def node_of(node: Any) -> Node:
    """Who a proxy is; what its metadata does not say is the default of a cluster."""
    metadata = node.metadata.fields
    site = Site()
    if "bind_address" in metadata or "privileged_port_offset" in metadata:
        offset = metadata["privileged_port_offset"].string_value
        address = metadata["bind_address"].string_value or site.bind_address
        own = metadata["pod_ip"].string_value
        site = Site(
            address,
            int(offset) if offset.isdigit() else site.privileged_port_offset,
            "" if own == address or is_wildcard(address) else own,
            bool(metadata["pick_module"].string_value),
        )
    return Node(node.id, node.cluster, site)


def request_of(message: Any) -> Request:
    """The machine's form of a request."""
    error = message.error_detail.message if message.HasField("error_detail") else None
    return Request(
        message.type_url,
        message.response_nonce,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        dict(message.initial_resource_versions),
        error,
    )


def response_of(send: Send) -> Any:
    """A message of the machine as it goes out."""
    response = discovery_pb2.DeltaDiscoveryResponse(
        type_url=send.type_url, nonce=send.nonce, removed_resources=send.removed
    )
    for item in send.resources:
        resource = response.resources.add(name=item.name, version=item.version)
        resource.resource.CopyFrom(item.body)
    return response


def _note_refusal(node: Node, message: Any) -> None:
    data = {"node": node.id, "type": message.type_url, "error": message.error_detail.message}
    _log.warning("a proxy refused a configuration", extra={"data": data})
