"""What the proxy says itself, in OpenAI's error shape.

A picker's own answer is a local reply for Envoy too and passes untouched, because a mapper looks
at the cause and never at the status alone. Knows Envoy's response flags and code details.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)

from inferway.gateway.envoy.pack import pack

# A picker's word for a decided 503. Envoy takes every 5xx of a callout for a broken picker, which
# would let the request pass where failure opens and hide the reason where it closes.
DECIDED_UNAVAILABLE_STATUS = 463
# A picker's word for an answer of its own with 200: to Envoy, 200 of a callout means "go on".
DECIDED_OK_STATUS = 464


@dataclass(frozen=True, slots=True)
class _Reply:
    """Chosen by a response flag or by code details; ``retry`` tells a client to come back."""

    message: str
    type: str
    code: str
    flags: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    retry: bool = False


def _table() -> tuple[_Reply, ...]:
    return (
        _Reply(
            "The endpoint picker of this model did not answer.",
            "server_error",
            "picker_unavailable",
            # The callout's word, and the native pick filter's.
            details=("ext_authz_error", "inferway_picker_unavailable"),
            retry=True,
        ),
        _Reply(
            "No route matches this host and path.",
            "invalid_request_error",
            "route_not_found",
            flags=("NR",),
        ),
        _Reply(
            "The route leads to a backend that does not exist or may not be used.",
            "server_error",
            "backend_not_found",
            flags=("NC",),
        ),
        _Reply(
            "no healthy upstream: no server of this route is ready.",
            "server_error",
            "no_ready_endpoint",
            flags=("UH",),
            retry=True,
        ),
        _Reply(
            "The server did not answer in the time that the route allows.",
            "server_error",
            "timeout",
            flags=("UT",),
            retry=True,
        ),
        _Reply(
            "The server closed the connection before it answered.",
            "server_error",
            "upstream_failure",
            flags=("UF", "UC", "UR", "LR", "UPE", "URX"),
            retry=True,
        ),
        *_rare(),
    )


def _rare() -> tuple[_Reply, ...]:
    return (
        _Reply(
            "The proxy holds more requests than it may.",
            "server_error",
            "overflow",
            flags=("UO",),
            retry=True,
        ),
        _Reply(
            "No byte was seen on this request for too long.",
            "server_error",
            "idle_timeout",
            flags=("SI", "DT"),
            retry=True,
        ),
        _Reply(
            "The request is larger than the gateway accepts.",
            "invalid_request_error",
            "request_too_large",
            details=("request_payload_too_large",),
        ),
    )


def error_body(message: str, type_: str, code: str) -> str:
    """OpenAI's error as JSON text."""
    return json.dumps({"error": {"message": message, "type": type_, "param": None, "code": code}})


def local_replies() -> hcm_pb2.LocalReplyConfig:
    """The mappers, most specific cause first."""
    config = hcm_pb2.LocalReplyConfig()
    _say_decided(config, DECIDED_UNAVAILABLE_STATUS, 503)
    _say_decided(config, DECIDED_OK_STATUS, 200)
    for reply in _table():
        mapper = config.mappers.add()
        mapper.filter.CopyFrom(_filter(reply))
        body = mapper.body_format_override
        # Envoy reads %...% as a command; the texts of the table have none.
        body.text_format_source.inline_string = error_body(reply.message, reply.type, reply.code)
        body.content_type = "application/json"
        if reply.retry:
            header = mapper.headers_to_add.add()
            header.header.key = "x-should-retry"
            header.header.value = "true"
    return config


def _say_decided(config: hcm_pb2.LocalReplyConfig, word: int, status: int) -> None:
    """What the client sees for a picker's word; body and headers stay as they are."""
    mapper = config.mappers.add()
    mapper.filter.CopyFrom(
        _expression(f"response.code_details == 'ext_authz_denied' && response.code == {word}")
    )
    mapper.status_code.value = status


def _filter(reply: _Reply) -> Any:
    if reply.flags:
        return accesslog_pb2.AccessLogFilter(
            response_flag_filter=accesslog_pb2.ResponseFlagFilter(flags=reply.flags)
        )
    return _expression(
        " || ".join(f"response.code_details == '{detail}'" for detail in reply.details)
    )


def _expression(text: str) -> Any:
    expression = cel_pb2.ExpressionFilter(expression=text)
    return accesslog_pb2.AccessLogFilter(
        extension_filter=accesslog_pb2.ExtensionFilter(
            name="envoy.access_loggers.extension_filters.cel", typed_config=pack(expression)
        )
    )
