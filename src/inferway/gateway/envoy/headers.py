"""Header changes of filters, as Envoy's options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envoy.config.core.v3 import base_pb2

from inferway.gateway.translate.ir import HeaderChanges

_PUT = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_ADD = base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD


def _option(name: str, value: str, action: int) -> base_pb2.HeaderValueOption:
    # Envoy reads %...% in values as a command; users mean what they write.
    header = base_pb2.HeaderValue(key=name, value=value.replace("%", "%%"))
    return base_pb2.HeaderValueOption(
        header=header, append_action=action, keep_empty_value=value == ""
    )


def put(message: Any, name: str, value: str) -> None:
    """Sets one response header of a route or an entry."""
    message.response_headers_to_add.append(_option(name, value, _PUT))


def put_request(message: Any, name: str, value: str) -> None:
    """Sets one request header of a route or an entry."""
    message.request_headers_to_add.append(_option(name, value, _PUT))


def apply_request(message: Any, changes: HeaderChanges) -> None:
    """Writes changes of requests into a route or an entry of weighted clusters."""
    message.request_headers_to_add.extend(_options(changes))
    message.request_headers_to_remove.extend(changes.remove)


def apply_response(message: Any, changes: HeaderChanges) -> None:
    """Writes changes of responses into a route or an entry of weighted clusters."""
    message.response_headers_to_add.extend(_options(changes))
    message.response_headers_to_remove.extend(changes.remove)


def _options(changes: HeaderChanges) -> Iterable[base_pb2.HeaderValueOption]:
    for name, value in changes.put:
        yield _option(name, value, _PUT)
    for name, value in changes.add:
        yield _option(name, value, _ADD)
