"""HTTPRoute of the Gateway API, with the fields of the experimental channel too.

Typed views for reading, and the source of the CRD. ``gateway.py`` exports these names.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ATOMIC,
    SET,
    ControllerName,
    Duration,
    GroupName,
    HeaderName,
    Hostname,
    KindName,
    NamespaceName,
    ObjectName,
    PortNumber,
    Rule,
    SectionName,
    field,
    map_of,
)
from inferway.api.meta import Condition, ObjectMeta
from inferway.api.routefilters import HEADER_VALUE, METHODS, PATH_PATTERN, BackendRef, Filters

GATEWAY_GROUP = "gateway.networking.k8s.io"


class ParentReference(ApiStruct, frozen=True, kw_only=True):
    """The Gateway, or one of its listeners, that a route attaches to."""

    group: Annotated[GroupName, field("Group of the parent.", default=GATEWAY_GROUP)] = (
        GATEWAY_GROUP
    )
    kind: Annotated[KindName, field("Kind of the parent.", default="Gateway")] = "Gateway"
    name: Annotated[ObjectName, field("Name of the parent.")]
    namespace: Annotated[NamespaceName, field("Namespace of the parent.")] = ""
    section_name: Annotated[SectionName, field("Name of a listener.")] = ""
    port: Annotated[PortNumber | None, field("Port of the listeners.")] = None


class HTTPPathMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on the path."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "self.type in ['Exact','PathPrefix'] ? self.value.startsWith('/') : true",
            (
                "value must be an absolute path and start with '/' when type one of ['Exact', "
                "'PathPrefix']"
            ),
        ),
        *(
            (
                f"self.type in ['Exact','PathPrefix'] ? !self.value.contains('{bad}') : true",
                f"must not contain '{bad}' when type one of ['Exact', 'PathPrefix']",
            )
            for bad in ("//", "/./", "/../", "%2f", "%2F", "#")
        ),
        *(
            (
                f"self.type in ['Exact','PathPrefix'] ? !self.value.endsWith('{bad}') : true",
                f"must not end with '{bad}' when type one of ['Exact', 'PathPrefix']",
            )
            for bad in ("/..", "/.")
        ),
        (
            (
                "self.type in ['Exact','PathPrefix'] ? "
                f'self.value.matches(r"""{PATH_PATTERN}""") : true'
            ),
            (
                f"must only contain valid characters (matching {PATH_PATTERN}) for types ['Exact', "
                "'PathPrefix']"
            ),
        ),
    )
    type: Annotated[
        str,
        field(
            "How the value is compared.",
            default="PathPrefix",
            enum=["Exact", "PathPrefix", "RegularExpression"],
        ),
    ] = "PathPrefix"
    value: Annotated[str, field("The path.", default="/", maxLength=1024)] = "/"


_EXACT = field("How the value is compared.", default="Exact", enum=["Exact", "RegularExpression"])


class HTTPHeaderMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on a header."""

    type: Annotated[str, _EXACT] = "Exact"
    name: Annotated[HeaderName, field("Name of the header, in any case.")]
    value: Annotated[str, field("The value."), HEADER_VALUE]


class HTTPQueryParamMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on a query parameter."""

    type: Annotated[str, _EXACT] = "Exact"
    name: Annotated[HeaderName, field("Name of the parameter.")]
    value: Annotated[str, field("The value.", minLength=1, maxLength=1024)]


class HTTPRouteMatch(ApiStruct, frozen=True, kw_only=True):
    """Conditions that all must hold."""

    path: Annotated[
        HTTPPathMatch,
        field("Condition on the path.", default={"type": "PathPrefix", "value": "/"}),
    ] = HTTPPathMatch()
    headers: Annotated[
        tuple[HTTPHeaderMatch, ...],
        field("Conditions on headers.", maxItems=16, **map_of("name")),
    ] = ()
    query_params: Annotated[
        tuple[HTTPQueryParamMatch, ...],
        field("Conditions on query parameters.", maxItems=16, **map_of("name")),
    ] = ()
    method: Annotated[str, field("The method.", enum=METHODS)] = ""


class HTTPRouteTimeouts(ApiStruct, frozen=True, kw_only=True):
    """How long a request may take; None is the controller's own limit, 0s is none."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            (
                "!(has(self.request) && has(self.backendRequest) && duration(self.request) != "
                "duration('0s') && duration(self.backendRequest) > duration(self.request))"
            ),
            "backendRequest timeout cannot be longer than request timeout",
        ),
    )
    request: Annotated[Duration | None, field("For the client's whole request.")] = None
    backend_request: Annotated[Duration | None, field("For one attempt at a backend.")] = None


class HTTPRouteRetry(ApiStruct, frozen=True, kw_only=True):
    """When and how often an attempt is repeated."""

    codes: Annotated[
        tuple[Annotated[int, field(minimum=400, maximum=599)], ...],
        field("Statuses that are tried again.", **SET),
    ] = ()
    attempts: Annotated[int | None, field("Repetitions at most.", minimum=1)] = None
    backoff: Annotated[Duration | None, field("Least time between attempts.")] = None


class CookieConfig(ApiStruct, frozen=True, kw_only=True):
    """The cookie of a session."""

    name: Annotated[HeaderName, field("Name of the cookie.")] = ""
    path: Annotated[str, field("Path of the cookie.", default="/", maxLength=1024)] = "/"
    lifetime_type: Annotated[
        str,
        field("How long the cookie lives.", default="Session", enum=["Permanent", "Session"]),
    ] = "Session"


class SessionHeader(ApiStruct, frozen=True, kw_only=True):
    """The header of a session."""

    name: Annotated[HeaderName, field("Name of the header.")]


class SessionPersistence(ApiStruct, frozen=True, kw_only=True):
    """Keeps a client at its backend."""

    type: Annotated[
        str, field("What names the session.", default="Cookie", enum=["Cookie", "Header"])
    ] = "Cookie"
    absolute_timeout: Annotated[Duration | None, field("End of a session.")] = None
    cookie: Annotated[CookieConfig | None, field("For Cookie.")] = None
    header: Annotated[SessionHeader | None, field("For Header.")] = None


_PREFIX_MESSAGE = "filter with path.replacePrefixMatch, exactly one PathPrefix match must be "


def _prefix_rule(name: str, label: str) -> Rule:
    return (
        (
            f"has(self.filters) && self.filters.exists(f, has(f.{name}) && has(f.{name}.path) && "
            f"f.{name}.path.type == 'ReplacePrefixMatch') ? size(self.matches) == 1 && "
            "has(self.matches[0].path) && self.matches[0].path.type == 'PathPrefix' : true"
        ),
        f"When using {label} {_PREFIX_MESSAGE}specified",
    )


class HTTPRouteRule(ApiStruct, frozen=True, kw_only=True):
    """Requests that match, and what happens to them."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            (
                "has(self.backendRefs) && size(self.backendRefs) > 0 ? !has(self.filters) || "
                "self.filters.all(f, !has(f.requestRedirect)) : true"
            ),
            "RequestRedirect filter must not be used together with backendRefs",
        ),
        _prefix_rule("requestRedirect", "RequestRedirect"),
        _prefix_rule("urlRewrite", "URLRewrite"),
    )
    name: Annotated[SectionName, field("Name of the rule.")] = ""
    matches: Annotated[
        tuple[HTTPRouteMatch, ...],
        field(
            "Any of these must hold.",
            default=[{"path": {"type": "PathPrefix", "value": "/"}}],
            maxItems=64,
            **ATOMIC,
        ),
    ] = (HTTPRouteMatch(),)
    filters: Annotated[Filters, field("Steps for all backends.")] = ()
    backend_refs: Annotated[
        tuple[BackendRef, ...], field("Where requests go.", maxItems=16, **ATOMIC)
    ] = ()
    timeouts: Annotated[HTTPRouteTimeouts | None, field("How long requests may take.")] = None
    retry: Annotated[HTTPRouteRetry | None, field("When attempts are repeated.")] = None
    session_persistence: Annotated[
        SessionPersistence | None, field("Keeps a client at its backend.")
    ] = None


class HTTPRouteSpec(ApiStruct, frozen=True, kw_only=True):
    """Parents, hostnames and rules."""

    parent_refs: Annotated[
        tuple[ParentReference, ...], field("Gateways to attach to.", maxItems=32, **ATOMIC)
    ] = ()
    use_default_gateways: Annotated[
        str, field("Whether default Gateways are parents.", enum=["All", "None"])
    ] = ""
    hostnames: Annotated[
        tuple[Hostname, ...], field("Hostnames to serve; none means all.", maxItems=16, **ATOMIC)
    ] = ()
    rules: Annotated[
        tuple[HTTPRouteRule, ...],
        field(
            "What happens to requests.",
            default=[{"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]}],
            minItems=1,
            maxItems=16,
            **ATOMIC,
        ),
    ] = (HTTPRouteRule(),)


class RouteParentStatus(ApiStruct, frozen=True, kw_only=True):
    """What one controller says about the route at one parent."""

    parent_ref: Annotated[ParentReference, field("The parent, as in the spec.")]
    controller_name: Annotated[ControllerName, field("Who says it.")]
    conditions: Annotated[
        tuple[Condition, ...],
        field("Conditions of the route.", required=True, maxItems=8, **map_of("type")),
    ] = ()


class RouteStatus(ApiStruct, frozen=True, kw_only=True):
    """What controllers say about the route."""

    parents: Annotated[
        tuple[RouteParentStatus, ...],
        field("The parents one by one.", required=True, maxItems=32, **ATOMIC),
    ] = ()


class HTTPRoute(ApiStruct, frozen=True, kw_only=True):
    """Which HTTP requests of a Gateway go to which backends."""

    api_version: str = f"{GATEWAY_GROUP}/v1"
    kind: str = "HTTPRoute"
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[HTTPRouteSpec, field(required=True)] = HTTPRouteSpec()
    status: RouteStatus = RouteStatus()
