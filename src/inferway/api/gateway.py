"""GatewayClass, Gateway and ReferenceGrant of the Gateway API; HTTPRoute is exported here too.

Typed views for reading, and the source of the CRDs that the embedded API server stores. An empty
namespace in a reference is the referrer's own.
"""

from __future__ import annotations

from typing import Annotated

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ADDRESS_FORM,
    ADDRESS_TYPE_PATTERN,
    ATOMIC,
    ControllerName,
    GroupName,
    Int32,
    KindName,
    LabelValue,
    NamespaceName,
    ObjectName,
    SectionName,
    field,
    map_of,
    waiting,
)
from inferway.api.httproute import (
    GATEWAY_GROUP,
    CookieConfig,
    HTTPHeaderMatch,
    HTTPPathMatch,
    HTTPQueryParamMatch,
    HTTPRoute,
    HTTPRouteMatch,
    HTTPRouteRetry,
    HTTPRouteRule,
    HTTPRouteSpec,
    HTTPRouteTimeouts,
    ParentReference,
    RouteParentStatus,
    RouteStatus,
    SessionPersistence,
)
from inferway.api.listeners import (
    AllowedRoutes,
    BackendTLS,
    FrontendTLS,
    FrontendTLSConfig,
    FrontendValidation,
    GatewayTLS,
    Listener,
    ListenerTLS,
    ObjectReference,
    PortTLSConfig,
    RouteGroupKind,
    RouteNamespaces,
    SecretObjectReference,
)
from inferway.api.meta import Condition, LabelSelector, ObjectMeta
from inferway.api.routefilters import (
    BackendObjectReference,
    BackendRef,
    CORSFilter,
    ExtensionRef,
    ExternalAuthFilter,
    Fraction,
    HeaderFilter,
    HTTPHeader,
    HTTPRouteFilter,
    MirrorFilter,
    PathModifier,
    RedirectFilter,
    RewriteFilter,
)

GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"

Conditions = Annotated[tuple[Condition, ...], field(maxItems=8, **map_of("type"))]


class ParametersReference(ApiStruct, frozen=True, kw_only=True):
    """An object with further parameters; a Gateway's is in its own namespace."""

    group: Annotated[GroupName, field("Group of the object.")]
    kind: Annotated[KindName, field("Kind of the object.")]
    name: Annotated[ObjectName, field("Name of the object.")]


class NamespacedParametersReference(ParametersReference, frozen=True, kw_only=True):
    """An object with further parameters, anywhere."""

    namespace: Annotated[NamespaceName, field("Namespace of the object, if it has one.")] = ""


class GatewayClassSpec(ApiStruct, frozen=True, kw_only=True):
    """Who looks after Gateways of this class."""

    controller_name: Annotated[
        ControllerName,
        field(
            "The controller that manages Gateways of this class; fixed once set.",
            x_kubernetes_validations=[{"rule": "self == oldSelf", "message": "field is immutable"}],
        ),
    ]
    description: Annotated[str, field("What the class is for.", maxLength=64)] = ""
    parameters_ref: Annotated[
        NamespacedParametersReference | None, field("Parameters for every Gateway of the class.")
    ] = None


class SupportedFeature(ApiStruct, frozen=True, kw_only=True):
    """A feature by its name in the conformance suite."""

    name: Annotated[str, field("Name of the feature.")]


class GatewayClassStatus(ApiStruct, frozen=True, kw_only=True):
    """What the controller says about the class."""

    conditions: Annotated[
        Conditions, field("Conditions of the class.", default=waiting("Accepted"))
    ] = ()
    supported_features: Annotated[
        tuple[SupportedFeature, ...],
        field("Features that the controller supports, sorted.", maxItems=64, **map_of("name")),
    ] = ()


class GatewayClass(ApiStruct, frozen=True, kw_only=True):
    """A kind of Gateways and the controller that serves them."""

    api_version: str = f"{GATEWAY_GROUP}/v1"
    kind: str = "GatewayClass"
    metadata: ObjectMeta = ObjectMeta()
    spec: GatewayClassSpec
    status: Annotated[
        GatewayClassStatus,
        field("What the controller says.", default={"conditions": waiting("Accepted")}),
    ] = GatewayClassStatus()


class GatewaySpecAddress(ApiStruct, frozen=True, kw_only=True):
    """A wanted address; without a value the controller chooses."""

    type: Annotated[
        str,
        field(
            "IPAddress, Hostname or a controller's own.",
            default="IPAddress",
            minLength=1,
            maxLength=253,
            pattern=ADDRESS_TYPE_PATTERN,
        ),
    ] = "IPAddress"
    value: Annotated[str, field("The address.", maxLength=253)] = ""


class GatewayStatusAddress(ApiStruct, frozen=True, kw_only=True):
    """An address where the Gateway is reached."""

    type: Annotated[
        str,
        field(
            "IPAddress, Hostname or a controller's own.",
            default="IPAddress",
            minLength=1,
            maxLength=253,
            pattern=ADDRESS_TYPE_PATTERN,
        ),
    ] = "IPAddress"
    value: Annotated[str, field("The address.", minLength=1, maxLength=253)]


class Infrastructure(ApiStruct, frozen=True, kw_only=True):
    """What the objects made for this Gateway carry."""

    labels: Annotated[
        dict[str, LabelValue], field("Labels of those objects.", maxProperties=8)
    ] = {}
    annotations: Annotated[
        dict[str, Annotated[str, field(minLength=0, maxLength=4096)]],
        field("Annotations of those objects.", maxProperties=16),
    ] = {}
    parameters_ref: Annotated[
        ParametersReference | None, field("Further parameters, such as GatewayParameters.")
    ] = None


class ListenerNamespaces(ApiStruct, frozen=True, kw_only=True):
    """Namespaces from which ListenerSets may attach."""

    from_: Annotated[
        str,
        field(
            "Where ListenerSets may come from.",
            default="None",
            enum=["All", "Selector", "Same", "None"],
        ),
    ] = "None"
    selector: Annotated[
        LabelSelector | None,
        field("Labels of the namespaces for Selector.", x_kubernetes_map_type="atomic"),
    ] = None


class AllowedListeners(ApiStruct, frozen=True, kw_only=True):
    """Which ListenerSets may attach to a Gateway."""

    namespaces: Annotated[
        ListenerNamespaces, field("Namespaces of ListenerSets.", default={"from": "None"})
    ] = ListenerNamespaces()


class GatewaySpec(ApiStruct, frozen=True, kw_only=True):
    """Where the Gateway listens."""

    gateway_class_name: Annotated[ObjectName, field("The Gateway's class.")]
    listeners: Annotated[
        tuple[Listener, ...],
        field(
            "Ports and hostnames that are served.",
            minItems=1,
            maxItems=64,
            **map_of("name"),
            x_kubernetes_validations=[
                {
                    "rule": "self.all(l, l.protocol in ['HTTP', 'TCP', 'UDP'] ? !has(l.tls) "
                    ": true)",
                    "message": "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
                },
                {
                    "rule": "self.all(l, l.protocol == 'HTTPS' && has(l.tls) ? "
                    "l.tls.mode in ['', 'Terminate'] : true)",
                    "message": "tls mode must be Terminate for protocol HTTPS",
                },
                {
                    "rule": "self.all(l, l.protocol in ['TCP', 'UDP'] ? !has(l.hostname) : true)",
                    "message": "hostname must not be specified for protocols ['TCP', 'UDP']",
                },
                {
                    "rule": "self.all(a, self.exists_one(b, a.name == b.name))",
                    "message": "Listener name must be unique within the Gateway",
                },
                {
                    "rule": "self.all(a, self.exists_one(b, a.port == b.port && a.protocol == "
                    "b.protocol && (has(a.hostname) && has(b.hostname) ? a.hostname == "
                    "b.hostname : !has(a.hostname) && !has(b.hostname))))",
                    "message": "Combination of port, protocol and hostname must be unique for "
                    "each listener",
                },
            ],
        ),
    ]
    addresses: Annotated[
        tuple[Annotated[GatewaySpecAddress, ADDRESS_FORM], ...],
        field("Wanted addresses.", maxItems=16, **ATOMIC),
    ] = ()
    infrastructure: Annotated[
        Infrastructure | None, field("What the objects made for this Gateway carry.")
    ] = None
    allowed_listeners: Annotated[
        AllowedListeners | None, field("ListenerSets that may attach.")
    ] = None
    tls: Annotated[GatewayTLS | None, field("TLS of the whole Gateway.")] = None
    default_scope: Annotated[
        str, field("Routes that attach without naming a Gateway.", enum=["All", "None"])
    ] = ""


class ListenerStatus(ApiStruct, frozen=True, kw_only=True, omit_defaults=False):
    """What the controller says about a listener. All fields are written."""

    name: Annotated[SectionName, field("Name of the listener.")]
    supported_kinds: Annotated[
        tuple[RouteGroupKind, ...], field("Kinds of routes it takes.", maxItems=8, **ATOMIC)
    ] = ()
    attached_routes: Annotated[Int32, field("How many routes have attached.", required=True)] = 0
    conditions: Annotated[Conditions, field("Conditions of the listener.", required=True)] = ()


class GatewayStatus(ApiStruct, frozen=True, kw_only=True):
    """What the controller says about the Gateway."""

    addresses: Annotated[
        tuple[Annotated[GatewayStatusAddress, ADDRESS_FORM], ...],
        field("Where the Gateway is reached.", maxItems=16, **ATOMIC),
    ] = ()
    conditions: Annotated[
        Conditions,
        field("Conditions of the Gateway.", default=waiting("Accepted", "Programmed")),
    ] = ()
    listeners: Annotated[
        tuple[ListenerStatus, ...],
        field("The listeners one by one.", maxItems=64, **map_of("name")),
    ] = ()
    attached_listener_sets: Annotated[Int32, field("How many ListenerSets have attached.")] = 0


class Gateway(ApiStruct, frozen=True, kw_only=True):
    """Where traffic enters, on which ports, and by whom it is served."""

    api_version: str = f"{GATEWAY_GROUP}/v1"
    kind: str = "Gateway"
    metadata: ObjectMeta = ObjectMeta()
    spec: GatewaySpec
    status: Annotated[
        GatewayStatus,
        field(
            "What the controller says.",
            default={"conditions": waiting("Accepted", "Programmed")},
        ),
    ] = GatewayStatus()


class ReferenceGrantFrom(ApiStruct, frozen=True, kw_only=True):
    """Objects that may refer."""

    group: Annotated[GroupName, field("Group of the referrer.")]
    kind: Annotated[KindName, field("Kind of the referrer.")]
    namespace: Annotated[NamespaceName, field("Namespace of the referrer.")]


class ReferenceGrantTo(ApiStruct, frozen=True, kw_only=True):
    """Objects that may be referred to."""

    group: Annotated[GroupName, field("Group of the object.")]
    kind: Annotated[KindName, field("Kind of the object.")]
    name: Annotated[ObjectName, field("Name of the object; none means all.")] = ""


class ReferenceGrantSpec(ApiStruct, frozen=True, kw_only=True):
    """Who may refer to what."""

    from_: Annotated[
        tuple[ReferenceGrantFrom, ...], field("Who may.", minItems=1, maxItems=16, **ATOMIC)
    ]
    to: Annotated[
        tuple[ReferenceGrantTo, ...], field("To what.", minItems=1, maxItems=16, **ATOMIC)
    ]


class ReferenceGrant(ApiStruct, frozen=True, kw_only=True):
    """Lets objects of other namespaces refer to objects of this one."""

    api_version: str = f"{GATEWAY_GROUP}/v1beta1"
    kind: str = "ReferenceGrant"
    metadata: ObjectMeta = ObjectMeta()
    spec: ReferenceGrantSpec


__all__ = [
    "GATEWAY_GROUP",
    "GATEWAY_NAME_LABEL",
    "AllowedListeners",
    "AllowedRoutes",
    "BackendObjectReference",
    "BackendRef",
    "BackendTLS",
    "CORSFilter",
    "Conditions",
    "CookieConfig",
    "ExtensionRef",
    "ExternalAuthFilter",
    "Fraction",
    "FrontendTLS",
    "FrontendTLSConfig",
    "FrontendValidation",
    "Gateway",
    "GatewayClass",
    "GatewayClassSpec",
    "GatewayClassStatus",
    "GatewaySpec",
    "GatewaySpecAddress",
    "GatewayStatus",
    "GatewayStatusAddress",
    "GatewayTLS",
    "HTTPHeader",
    "HTTPHeaderMatch",
    "HTTPPathMatch",
    "HTTPQueryParamMatch",
    "HTTPRoute",
    "HTTPRouteFilter",
    "HTTPRouteMatch",
    "HTTPRouteRetry",
    "HTTPRouteRule",
    "HTTPRouteSpec",
    "HTTPRouteTimeouts",
    "HeaderFilter",
    "Infrastructure",
    "Listener",
    "ListenerNamespaces",
    "ListenerStatus",
    "ListenerTLS",
    "MirrorFilter",
    "NamespacedParametersReference",
    "ObjectReference",
    "ParametersReference",
    "ParentReference",
    "PathModifier",
    "PortTLSConfig",
    "RedirectFilter",
    "ReferenceGrant",
    "ReferenceGrantFrom",
    "ReferenceGrantSpec",
    "ReferenceGrantTo",
    "RewriteFilter",
    "RouteGroupKind",
    "RouteNamespaces",
    "RouteParentStatus",
    "RouteStatus",
    "SecretObjectReference",
    "SessionPersistence",
    "SupportedFeature",
]
