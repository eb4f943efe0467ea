"""The pick callout: ext_authz over HTTP, off until an entry of a route switches it on.

A pool has a filter of its own, because settings that an entry brings along are built anew for each
request, which costs a sixth of it. Beyond some pools two filters are shared, and entries bring the
settings; there are two because ``failure_mode_allow`` has no per-route form. The destination goes
into dynamic metadata and never into a header, so that neither a client can set it nor a server
see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.type.matcher.v3 import string_pb2
from envoy.type.v3 import http_status_pb2
from google.protobuf import any_pb2

from inferway.gateway.envoy.names import (
    BODY_BYTES_MAX,
    CLIENT_HEADERS,
    DESTINATION_HEADER,
    PICK_HEADER,
    RESTORE_HEADER,
    SERVER_HEADERS,
    SPLICE_HEADER,
)
from inferway.gateway.envoy.pack import pack, seconds
from inferway.gateway.translate.ir import Pick

# Each filter costs every request a look at whether it is on.
OWN_FILTERS_MAX = 8
# A picker that is gone costs a request this, and with two of them gone it fails.
ASKED_AGAIN_MAX = 2
ASK_AGAIN_SECONDS = 0.002
# How often another picker is drawn than the one that was asked in vain.
HOSTS_DRAWN_MAX = 5
_PREFIX = "inferway.pick"
_OPEN_FILTER = f"{_PREFIX}.open"
_CLOSED_FILTER = f"{_PREFIX}.closed"


def pick_filters(picks: Sequence[Pick]) -> list[tuple[str, any_pb2.Any]]:
    """Names and settings of the filters for these picks, for the table of filters."""
    if shared(picks):
        # Never asked: each entry brings its own. Envoy wants a valid one in the filter itself.
        nobody = Pick("inferway-no-picker", "/pick", 1.0, fail_open=False)
        return [
            (_OPEN_FILTER, _filter(replace(nobody, fail_open=True))),
            (_CLOSED_FILTER, _filter(nobody)),
        ]
    return [(_own_name(pick), _filter(pick)) for pick in picks]


def shared(picks: Sequence[Pick]) -> bool:
    """Whether there are too many picks for a filter each."""
    return len(picks) > OWN_FILTERS_MAX


def _own_name(pick: Pick) -> str:
    return _PREFIX + pick.path_prefix.removeprefix("/pick")


def _filter(pick: Pick) -> any_pb2.Any:
    message = ext_authz_pb2.ExtAuthz(
        transport_api_version=2,
        failure_mode_allow=pick.fail_open,
        status_on_error=http_status_pb2.HttpStatus(code=503),
        with_request_body=ext_authz_pb2.BufferSettings(max_request_bytes=BODY_BYTES_MAX),
        http_service=_service(pick),
    )
    # All of the client's headers, because scorers read sessions, objectives and deadlines there.
    message.allowed_headers.patterns.add().safe_regex.regex = ".*"
    return pack(message)


def pick_entry(pick: Pick, *, share: bool) -> tuple[str, any_pb2.Any]:
    """The filter that an entry switches on, and its settings there."""
    if not share:
        return _own_name(pick), pack(route_components_pb2.FilterConfig(config=any_pb2.Any()))
    settings = ext_authz_pb2.CheckSettings(
        with_request_body=ext_authz_pb2.BufferSettings(max_request_bytes=BODY_BYTES_MAX),
        http_service=_service(pick),
    )
    name = _OPEN_FILTER if pick.fail_open else _CLOSED_FILTER
    return name, pack(ext_authz_pb2.ExtAuthzPerRoute(check_settings=settings))


def _service(pick: Pick) -> Any:
    service = ext_authz_pb2.HttpService(path_prefix=pick.path_prefix)
    service.server_uri.uri = "http://picker"
    service.server_uri.cluster = pick.picker
    service.server_uri.timeout.CopyFrom(seconds(pick.timeout_seconds))
    _ask_again(service.retry_policy, pick.timeout_seconds)
    answer = service.authorization_response
    answer.dynamic_metadata_from_headers.patterns.append(_exact(DESTINATION_HEADER))
    answer.allowed_upstream_headers.patterns.append(_exact(PICK_HEADER))
    if pick.splice:
        answer.allowed_upstream_headers.patterns.append(_exact(SPLICE_HEADER))
        answer.dynamic_metadata_from_headers.patterns.append(_exact(RESTORE_HEADER))
    answer.allowed_upstream_headers.patterns.extend(map(_exact, SERVER_HEADERS))
    answer.allowed_client_headers_on_success.patterns.extend(map(_exact, CLIENT_HEADERS))
    # What a picker answers itself (429, 404, ...) goes to the client with all of its headers.
    return service


def _ask_again(policy: Any, timeout_seconds: float) -> None:
    """Asks another picker where one is gone: nothing has happened to the request yet.

    What a picker has reserved before it died is let go with its other reservations. A picker that
    hangs is not asked again: the time is over then, ``timeout_seconds`` after the first question.
    """
    policy.retry_on = "connect-failure,refused-stream,reset"
    policy.num_retries.value = ASKED_AGAIN_MAX
    policy.retry_back_off.base_interval.CopyFrom(seconds(ASK_AGAIN_SECONDS))
    # Envoy makes of it the time that each attempt has, and two of them wait a few milliseconds.
    policy.retry_back_off.max_interval.CopyFrom(seconds(timeout_seconds))
    other = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
    other.typed_config.CopyFrom(pack(previous_hosts_pb2.PreviousHostsPredicate()))
    policy.host_selection_retry_max_attempts = HOSTS_DRAWN_MAX


def _exact(name: str) -> Any:
    return string_pb2.StringMatcher(exact=name)
