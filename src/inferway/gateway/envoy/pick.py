"""The pick callout: ext_authz over HTTP, once for pools that fail open and once for the others.

``failure_mode_allow`` has no per-route form, hence two filters. Both are off until an entry of a
route switches one on and tells it the pool, the picker and the deadline. The destination goes into
dynamic metadata and never into a header, so that neither a client can set it nor a server see it.
"""

from __future__ import annotations

from typing import Any

from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.type.matcher.v3 import string_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.names import (
    BODY_BYTES_MAX,
    DESTINATION_HEADER,
    PICK_HEADER,
    SPLICE_HEADER,
)
from inferway.gateway.envoy.pack import pack, seconds
from inferway.gateway.translate.ir import Pick

OPEN_FILTER = "inferway.pick.open"
CLOSED_FILTER = "inferway.pick.closed"
# Never used: each entry brings its own. Envoy wants a valid one in the filter itself.
_UNUSED_PICKER = Pick("inferway-no-picker", "/pick", 1.0, fail_open=False)


def pick_filter(*, fail_open: bool) -> any_pb2.Any:
    """One of the two filters, for the table of filters."""
    message = ext_authz_pb2.ExtAuthz(
        transport_api_version=2,
        failure_mode_allow=fail_open,
        status_on_error=http_status_pb2.HttpStatus(code=503),
        with_request_body=ext_authz_pb2.BufferSettings(max_request_bytes=BODY_BYTES_MAX),
        http_service=_service(_UNUSED_PICKER),
    )
    # All of the client's headers, because scorers read sessions, objectives and deadlines there.
    message.allowed_headers.patterns.add().safe_regex.regex = ".*"
    return pack(message)


def pick_entry(pick: Pick) -> tuple[str, any_pb2.Any]:
    """The filter that an entry switches on, and its settings there."""
    settings = ext_authz_pb2.CheckSettings(
        with_request_body=ext_authz_pb2.BufferSettings(max_request_bytes=BODY_BYTES_MAX),
        http_service=_service(pick),
    )
    name = OPEN_FILTER if pick.fail_open else CLOSED_FILTER
    return name, pack(ext_authz_pb2.ExtAuthzPerRoute(check_settings=settings))


def _service(pick: Pick) -> Any:
    service = ext_authz_pb2.HttpService(path_prefix=pick.path_prefix)
    service.server_uri.uri = "http://picker"
    service.server_uri.cluster = pick.picker
    service.server_uri.timeout.CopyFrom(seconds(pick.timeout_seconds))
    answer = service.authorization_response
    answer.dynamic_metadata_from_headers.patterns.append(_exact(DESTINATION_HEADER))
    answer.allowed_upstream_headers.patterns.append(_exact(PICK_HEADER))
    if pick.splice:
        answer.allowed_upstream_headers.patterns.append(_exact(SPLICE_HEADER))
    # What a picker answers itself (429, 404, ...) goes to the client with all of its headers.
    return service


def _exact(name: str) -> Any:
    return string_pb2.StringMatcher(exact=name)
