"""Listeners of a Gateway and TLS in all its forms. ``gateway.py`` exports these names."""

from __future__ import annotations

from typing import Annotated, ClassVar

from inferway.api.codec import ApiStruct
from inferway.api.fields import (
    ATOMIC,
    PROTOCOL_PATTERN,
    GroupName,
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
from inferway.api.httproute import GATEWAY_GROUP
from inferway.api.meta import LabelSelector


class RouteGroupKind(ApiStruct, frozen=True, kw_only=True):
    """A kind of routes."""

    group: Annotated[GroupName, field("Group of the route.", default=GATEWAY_GROUP)] = GATEWAY_GROUP
    kind: Annotated[KindName, field("Kind of the route.")]


class RouteNamespaces(ApiStruct, frozen=True, kw_only=True):
    """Namespaces from which routes may attach."""

    from_: Annotated[
        str,
        field("Where routes may come from.", default="Same", enum=["All", "Selector", "Same"]),
    ] = "Same"
    selector: Annotated[
        LabelSelector | None,
        field("Labels of the namespaces for Selector.", x_kubernetes_map_type="atomic"),
    ] = None


class AllowedRoutes(ApiStruct, frozen=True, kw_only=True):
    """Which routes may attach to a listener."""

    kinds: Annotated[
        tuple[RouteGroupKind, ...], field("Kinds of routes; none means all.", maxItems=8, **ATOMIC)
    ] = ()
    namespaces: Annotated[
        RouteNamespaces, field("Namespaces of routes.", default={"from": "Same"})
    ] = RouteNamespaces()


class SecretObjectReference(ApiStruct, frozen=True, kw_only=True):
    """A Secret, or an object like it."""

    group: Annotated[GroupName, field("Group of the object.", default="")] = ""
    kind: Annotated[KindName, field("Kind of the object.", default="Secret")] = "Secret"
    name: Annotated[ObjectName, field("Name of the object.")]
    namespace: Annotated[NamespaceName, field("Namespace of the object.")] = ""


class ListenerTLS(ApiStruct, frozen=True, kw_only=True):
    """TLS of a listener."""

    cel: ClassVar[tuple[Rule, ...]] = (
        (
            (
                "self.mode == 'Terminate' ? "
                "size(self.certificateRefs) > 0 || size(self.options) > 0 : true"
            ),
            "certificateRefs or options must be specified when mode is Terminate",
        ),
    )
    mode: Annotated[
        str,
        field("Where TLS ends.", default="Terminate", enum=["Terminate", "Passthrough"]),
    ] = "Terminate"
    certificate_refs: Annotated[
        tuple[SecretObjectReference, ...],
        field("Certificates of the listener.", maxItems=64, **ATOMIC),
    ] = ()
    options: Annotated[
        dict[str, Annotated[str, field(minLength=0, maxLength=4096)]],
        field("Further options, particular to a controller.", maxProperties=16),
    ] = {}


class Listener(ApiStruct, frozen=True, kw_only=True):
    """A port and hostname where the Gateway takes connections."""

    name: Annotated[SectionName, field("Name of the listener within the Gateway.")]
    port: Annotated[PortNumber, field("Port to listen on.")]
    protocol: Annotated[
        str,
        field(
            "HTTP, HTTPS, TLS, TCP, UDP or a controller's own.",
            minLength=1,
            maxLength=255,
            pattern=PROTOCOL_PATTERN,
        ),
    ]
    hostname: Annotated[Hostname, field("Hostname to serve; none means all.")] = ""
    tls: Annotated[ListenerTLS | None, field("TLS for HTTPS and TLS.")] = None
    allowed_routes: Annotated[
        AllowedRoutes,
        field("Routes that may attach.", default={"namespaces": {"from": "Same"}}),
    ] = AllowedRoutes()


class ObjectReference(ApiStruct, frozen=True, kw_only=True):
    """An object, anywhere."""

    group: Annotated[GroupName, field("Group of the object.")]
    kind: Annotated[KindName, field("Kind of the object.")]
    name: Annotated[ObjectName, field("Name of the object.")]
    namespace: Annotated[NamespaceName, field("Namespace of the object.")] = ""


class FrontendValidation(ApiStruct, frozen=True, kw_only=True):
    """How certificates of clients are checked."""

    ca_certificate_refs: Annotated[
        tuple[ObjectReference, ...],
        field("Authorities that are trusted.", minItems=1, maxItems=16, **ATOMIC),
    ]
    mode: Annotated[
        str,
        field(
            "What happens to clients without a good certificate.",
            default="AllowValidOnly",
            enum=["AllowValidOnly", "AllowInsecureFallback"],
        ),
    ] = "AllowValidOnly"


class FrontendTLSConfig(ApiStruct, frozen=True, kw_only=True):
    """TLS towards clients."""

    validation: Annotated[FrontendValidation | None, field("Check of client certificates.")] = None


class PortTLSConfig(ApiStruct, frozen=True, kw_only=True):
    """TLS towards clients of one port."""

    port: Annotated[PortNumber, field("The port.")]
    tls: Annotated[FrontendTLSConfig, field("TLS of the port.")]


class FrontendTLS(ApiStruct, frozen=True, kw_only=True):
    """TLS towards clients, for all HTTPS listeners."""

    default: Annotated[FrontendTLSConfig, field("For ports that are not named below.")]
    per_port: Annotated[
        tuple[PortTLSConfig, ...], field("For single ports.", maxItems=64, **map_of("port"))
    ] = ()


class BackendTLS(ApiStruct, frozen=True, kw_only=True):
    """TLS towards backends."""

    client_certificate_ref: Annotated[
        SecretObjectReference | None, field("The certificate to show.")
    ] = None


class GatewayTLS(ApiStruct, frozen=True, kw_only=True):
    """TLS of the whole Gateway."""

    backend: Annotated[BackendTLS | None, field("Towards backends.")] = None
    frontend: Annotated[FrontendTLS | None, field("Towards clients.")] = None
