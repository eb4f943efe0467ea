"""Messages of a proxy that speaks ext_proc, short to write, and what is in the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc

from inferway.picker.extproc import wire
from inferway.picker.extproc.commands import Command, Echo, Send

DUPLEX = ProcessingMode.FULL_DUPLEX_STREAMED
POST = {
    ":method": "POST",
    ":path": "/v1/completions",
    "x-request-id": "r",
    "content-length": "9",
}


def headers(
    values: Mapping[str, str] | None = None,
    *,
    end: bool = False,
    modes: tuple[int, int] | None = (DUPLEX, DUPLEX),
    subset: object = None,
) -> Any:
    message = ext_proc.ProcessingRequest()
    fill(message.request_headers, POST if values is None else values, end=end)
    if modes is not None:
        message.protocol_config.request_body_mode = modes[0]
        message.protocol_config.response_body_mode = modes[1]
    if subset is not None:
        hint = message.metadata_context.filter_metadata["envoy.lb.subset_hint"]
        hint["x-gateway-destination-endpoint-subset"] = subset
    return message


def fill(into: Any, values: Mapping[str, str], *, end: bool) -> None:
    into.end_of_stream = end
    for name, value in values.items():
        into.headers.headers.add(key=name, raw_value=value.encode())


def body(data: bytes, *, end: bool = True) -> Any:
    message = ext_proc.ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = end
    return message


def trailers() -> Any:
    message = ext_proc.ProcessingRequest()
    message.request_trailers.SetInParent()
    return message


def answer_headers(
    status: int = 200,
    kind: str = "application/json",
    *,
    end: bool = False,
    served: str = "",
    more: Mapping[str, str] | None = None,
) -> Any:
    message = ext_proc.ProcessingRequest()
    values = {":status": str(status), "content-type": kind, **(more or {})}
    fill(message.response_headers, values, end=end)
    if served:
        lb = message.metadata_context.filter_metadata["envoy.lb"]
        lb["x-gateway-destination-endpoint-served"] = served
    return message


def answer_body(data: bytes, *, end: bool = False) -> Any:
    message = ext_proc.ProcessingRequest()
    message.response_body.body = data
    message.response_body.end_of_stream = end
    return message


def answer_trailers() -> Any:
    message = ext_proc.ProcessingRequest()
    message.response_trailers.SetInParent()
    return message


def sent(commands: Iterable[Command]) -> list[Any]:
    """The messages that go out."""
    found: list[Any] = []
    for command in commands:
        if isinstance(command, Send):
            found.append(command.message)
        elif isinstance(command, Echo):
            found += wire.streamed(command.kind, command.body, end=command.end, first=command.first)
    return found


def kinds(messages: Iterable[Any]) -> list[str]:
    return [str(message.WhichOneof("response")) for message in messages]


def set_headers(mutation: Any) -> dict[str, str]:
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}


def streamed(messages: Iterable[Any], kind: str) -> list[tuple[bytes, bool]]:
    """Pieces of a body and whether each is the last."""
    pieces = []
    for message in messages:
        if message.WhichOneof("response") == kind:
            piece = getattr(message, kind).response.body_mutation.streamed_response
            pieces.append((piece.body, piece.end_of_stream))
    return pieces
