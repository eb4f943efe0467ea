"""GRPCRoute of the Gateway API. Typed views for reading, and the source of the CRD."""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ATOMIC,
    Hostname,
    Int32,
    Rule,
    SectionName,
    field,
    map_of,
)
from inferway.api.httproute import (
    GATEWAY_GROUP,
    HTTPHeaderMatch,
    ParentReference,
    RouteStatus,
    SessionPersistence,
)
from inferway.api.meta import ObjectMeta
from inferway.api.routefilters import (
    BackendObjectReference,
    ExtensionRef,
    HeaderFilter,
    MirrorFilter,
    filter_rules,
    once_rules,
)

_FILTER_FIELDS = (
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("ExtensionRef", "extensionRef"),
)
_SERVICE_PATTERN = r"^[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$"
_METHOD_PATTERN = "^[A-Za-z_][A-Za-z_0-9]*$"


class GRPCRouteFilter(ApiStruct, frozen=True, kw_only=True):
    """A step between call and backend; its field has the type's name."""

    cel: ClassVar[tuple[Rule, ...]] = filter_rules(_FILTER_FIELDS)
    type: Annotated[str, field("Which step it is.", enum=[type_ for type_, _ in _FILTER_FIELDS])]
    request_header_modifier: Annotated[
        HeaderFilter | None, field("Changes of request headers.")
    ] = None
    response_header_modifier: Annotated[
        HeaderFilter | None, field("Changes of response headers.")
    ] = None
    request_mirror: Annotated[MirrorFilter | None, field("Copies for another backend.")] = None
    extension_ref: Annotated[ExtensionRef | None, field("A filter of the controller's.")] = None


Filters = Annotated[
    tuple[GRPCRouteFilter, ...],
    field(
        maxItems=16,
        **ATOMIC,
        x_kubernetes_validations=once_rules("RequestHeaderModifier", "ResponseHeaderModifier"),
    ),
]


class GRPCBackendRef(BackendObjectReference, frozen=True, kw_only=True):
    """A backend and its share of the calls."""

    weight: Annotated[
        Int32,
        field("Share among the rule's backends.", default=1, minimum=0, maximum=1_000_000),
    ] = 1
    filters: Annotated[Filters, field("Filters for this backend only.")] = ()


class GRPCMethodMatch(ApiStruct, frozen=True, kw_only=True):
    """A condition on service and method of a call; at least one of them."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            "has(self.type) ? has(self.service) || has(self.method) : true",
            "One or both of 'service' or 'method' must be specified",
        ),
        (
            (
                "(!has(self.type) || self.type == 'Exact') && has(self.service) ? "
                f'self.service.matches(r"""{_SERVICE_PATTERN}""") : true'
            ),
            f"service must only contain valid characters (matching {_SERVICE_PATTERN})",
        ),
        (
            (
                "(!has(self.type) || self.type == 'Exact') && has(self.method) ? "
                f'self.method.matches(r"""{_METHOD_PATTERN}""") : true'
            ),
            f"method must only contain valid characters (matching {_METHOD_PATTERN})",
        ),
    )
    type: Annotated[
        str,
        field("How they are compared.", default="Exact", enum=["Exact", "RegularExpression"]),
    ] = "Exact"
    service: Annotated[str | None, field("The service with its package.", maxLength=1024)] = None
    method: Annotated[str | None, field("The method.", maxLength=1024)] = None


class GRPCRouteMatch(ApiStruct, frozen=True, kw_only=True):
    """Conditions that all must hold."""

    method: Annotated[GRPCMethodMatch | None, field("Condition on service and method.")] = None
    headers: Annotated[
        tuple[HTTPHeaderMatch, ...],
        field("Conditions on headers.", maxItems=16, **map_of("name")),
    ] = ()


class GRPCRouteRule(ApiStruct, frozen=True, kw_only=True):
    """Calls that match, and what happens to them."""

    name: Annotated[SectionName, field("Name of the rule.")] = ""
    matches: Annotated[
        tuple[GRPCRouteMatch, ...],
        field("Any of these must hold; none means all calls.", maxItems=64, **ATOMIC),
    ] = ()
    filters: Annotated[Filters, field("Steps for all backends.")] = ()
    backend_refs: Annotated[
        tuple[GRPCBackendRef, ...], field("Where calls go.", maxItems=16, **ATOMIC)
    ] = ()
    session_persistence: Annotated[
        SessionPersistence | None, field("Keeps a client at its backend.")
    ] = None


class GRPCRouteSpec(ApiStruct, frozen=True, kw_only=True):
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
        tuple[GRPCRouteRule, ...], field("What happens to calls.", maxItems=16, **ATOMIC)
    ] = ()


class GRPCRoute(ApiStruct, frozen=True, kw_only=True):
    """Which gRPC calls of a Gateway go to which backends."""

    api_version: str = f"{GATEWAY_GROUP}/v1"
    kind: str = "GRPCRoute"
    metadata: ObjectMeta = ObjectMeta()
    spec: Annotated[GRPCRouteSpec, field(required=True)] = GRPCRouteSpec()
    status: RouteStatus = RouteStatus()
