"""What a request must look like, as Envoy's RouteMatch."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2

from inferway.gateway.translate.ir import MatchKind, RequestMatch


def route_match(match: RequestMatch) -> route_components_pb2.RouteMatch:
    """All conditions of one match."""
    message = route_components_pb2.RouteMatch()
    path = match.path
    if path.kind is MatchKind.EXACT:
        message.path = path.value
    elif path.kind is MatchKind.REGEX:
        message.safe_regex.regex = path.value
    elif path.value == "/":
        message.prefix = "/"
    else:
        # Whole path elements: /v1 matches /v1 and /v1/models, and not /v11.
        message.path_separated_prefix = path.value.rstrip("/")
    if match.method:
        method = message.headers.add(name=":method")
        method.string_match.exact = match.method
    for header in match.headers:
        matcher = message.headers.add(name=header.name).string_match
        if header.kind is MatchKind.REGEX:
            matcher.safe_regex.regex = header.value
        else:
            matcher.exact = header.value
    for parameter in match.query:
        value = message.query_parameters.add(name=parameter.name).string_match
        if parameter.kind is MatchKind.REGEX:
            value.safe_regex.regex = parameter.value
        else:
            value.exact = parameter.value
    return message
