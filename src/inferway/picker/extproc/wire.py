"""What ext_proc messages say, and the answers as messages. Pure; knows no order of messages.

Names and values are those of the Endpoint Picker Protocol 1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
SUBSET = "x-gateway-destination-endpoint-subset"
METADATA = "envoy.lb"
SUBSET_METADATA = "envoy.lb.subset_hint"
# Says that the answer went through a pool, as the published pickers say it.
THROUGH_POOL = ("x-went-into-resp-headers", "true")
SERVED_FOR_TESTS = "x-conformance-test-served-endpoint"

# Envoy takes no message with more than 64 KiB of a body in it; the published pickers' own limit.
CHUNK_BYTES_MAX = 62_000
_OVERWRITE = 2  # HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD

# What a client or another gateway may say to a picker and no server may hear. Those that name a
# place would let a client make a sidecar call any address.
CONTROL_HEADERS = frozenset(
    name.encode()
    for name in (
        DESTINATION,
        SERVED,
        SUBSET,
        "x-llm-d-destination-endpoint",
        "x-llm-d-destination-endpoint-served",
        "x-llm-d-destination-endpoint-subset",
        "x-gateway-inference-objective",
        "x-llm-d-inference-objective",
        "x-gateway-inference-fairness-id",
        "x-llm-d-inference-fairness-id",
        "x-gateway-model-name-rewrite",
        "x-llm-d-model-name-rewrite",
        "x-slo-ttft-ms",
        "x-slo-tpot-ms",
        "x-llm-d-slo-ttft-ms",
        "x-llm-d-slo-tpot-ms",
        "x-llm-d-inference-ttl",
        "x-llm-d-video-fps",
        "x-llm-d-video-duration-seconds",
        "x-llm-d-video-resolution",
        "x-prefiller-host-port",
        "x-encoder-hosts-ports",
        "x-data-parallel-host-port",
        "x-kv-cache-source-host-port",
        "x-inferway-explain",
        "x-inferway-pick",
        "x-inferway-splice",
        "test-epp-endpoint-selection",
    )
)


def headers_of(message: Any) -> dict[bytes, bytes]:
    """An HttpHeaders' names, which Envoy sends in lower case, and values."""
    return {
        one.key.encode(): one.raw_value or one.value.encode() for one in message.headers.headers
    }


def subset_of(context: Any) -> tuple[str, ...] | None:
    """The endpoints that the gateway restricts the choice to; None where it does not.

    A list, or one string with commas. What is neither can not be obeyed and admits nothing.
    """
    if SUBSET_METADATA not in context.filter_metadata:
        return None
    fields = context.filter_metadata[SUBSET_METADATA].fields
    if SUBSET not in fields:
        return None
    value = fields[SUBSET]
    kind = value.WhichOneof("kind")
    if kind == "null_value":
        return None
    if kind == "list_value":
        names = [one.string_value for one in value.list_value.values]
    else:
        names = value.string_value.split(",")
    return tuple(found for name in names if (found := name.strip()))


def served_of(context: Any) -> str:
    """The endpoint that answered, or nothing where the gateway does not tell."""
    if METADATA not in context.filter_metadata:
        return ""
    fields = context.filter_metadata[METADATA].fields
    return fields[SERVED].string_value if SERVED in fields else ""


def route(
    message: Any,
    common: Any,
    addresses: str,
    headers: Sequence[tuple[str, bytes]],
    given: Mapping[bytes, bytes],
) -> None:
    """Puts a choice into an answer: in a header and in metadata, with equal text.

    ``headers`` are set too; of those ``given`` by the client what is meant for pickers is removed.
    """
    common.clear_route_cache = True
    mutation = common.header_mutation
    _set(mutation, DESTINATION, addresses.encode())
    for name, value in headers:
        _set(mutation, name, value)
    if not CONTROL_HEADERS.isdisjoint(given):
        kept = {DESTINATION, *(name for name, _ in headers)}
        names = {name.decode() for name in CONTROL_HEADERS & given.keys()} - kept
        mutation.remove_headers.extend(sorted(names))
    message.dynamic_metadata.get_or_create_struct(METADATA)[DESTINATION] = addresses


def streamed(
    kind: str, body: bytes, *, end: bool, first: Any | None = None
) -> Iterator[ext_proc.ProcessingResponse]:
    """A body in full duplex, in messages that Envoy takes; the last one says whether it ends.

    ``kind`` is ``request_body`` or ``response_body``; ``first`` is a message to begin with.
    """
    size = len(body)
    for at in range(0, size or 1, CHUNK_BYTES_MAX):
        message = first if first is not None else ext_proc.ProcessingResponse()
        first = None
        piece = getattr(message, kind).response.body_mutation.streamed_response
        upto = at + CHUNK_BYTES_MAX
        piece.body = body if size <= CHUNK_BYTES_MAX else body[at:upto]
        piece.end_of_stream = end and upto >= size
        yield message


def grpc_piece(kind: str, body: Any) -> ext_proc.ProcessingResponse:
    """One message of a gRPC body as it came: these may not be cut."""
    message = ext_proc.ProcessingResponse()
    piece = getattr(message, kind).response.body_mutation.streamed_response
    piece.body = body.body
    piece.end_of_stream = body.end_of_stream
    piece.end_of_stream_without_message = body.end_of_stream_without_message
    piece.grpc_message_compressed = body.grpc_message_compressed
    return message


def passed(kind: str) -> ext_proc.ProcessingResponse:
    """Go on; nothing changes."""
    message = ext_proc.ProcessingResponse()
    getattr(message, kind).SetInParent()
    return message


def replaced(kind: str, body: bytes) -> ext_proc.ProcessingResponse:
    """Go on with this body in the place of the one that was shown, where it is not full duplex."""
    message = ext_proc.ProcessingResponse()
    mutation = getattr(message, kind).response.body_mutation
    if body:
        mutation.body = body
    else:
        mutation.clear_body = True
    return message


def answered(
    headers: Iterable[tuple[str, str]], removed: Iterable[str] = ()
) -> ext_proc.ProcessingResponse:
    """The headers of the server's answer go on, with these set and others removed."""
    message = ext_proc.ProcessingResponse()
    mutation = message.response_headers.response.header_mutation
    mutation.remove_headers.extend(removed)
    for name, value in headers:
        _set(mutation, name, value.encode())
    return message


def immediate(
    status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, details: str
) -> ext_proc.ProcessingResponse:
    """The final answer to the client; ``details`` stands in the gateway's access log."""
    message = ext_proc.ProcessingResponse()
    reply = message.immediate_response
    reply.status.code = status
    for name, value in headers:
        _set(reply.headers, name.decode(), value)
    reply.body = body
    reply.details = details
    return message


def _set(mutation: Any, name: str, value: bytes) -> None:
    option = mutation.set_headers.add()
    option.header.key = name
    option.header.raw_value = value
    option.append_action = _OVERWRITE
