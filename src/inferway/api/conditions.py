"""Condition types and reasons of the Gateway API and the inference kinds, and their changes.

Source of the names: Gateway API v1.6 and its inference extension.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from inferway.api.meta import Condition

TRUE = "True"
FALSE = "False"
UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """Types of conditions, of all kinds together."""

    ACCEPTED = "Accepted"
    PROGRAMMED = "Programmed"
    RESOLVED_REFS = "ResolvedRefs"
    CONFLICTED = "Conflicted"
    READY = "Ready"
    AVAILABLE = "Available"
    SUPPORTED_VERSION = "SupportedVersion"
    PARTIALLY_INVALID = "PartiallyInvalid"
    OVERLAPPING_TLS_CONFIG = "OverlappingTLSConfig"
    INSECURE_FRONTEND_VALIDATION_MODE = "InsecureFrontendValidationMode"
    EXPORTED = "Exported"


class GatewayClassReason(StrEnum):
    ACCEPTED = "Accepted"
    INVALID_PARAMETERS = "InvalidParameters"
    PENDING = "Pending"
    UNSUPPORTED = "Unsupported"
    WAITING = "Waiting"
    SUPPORTED_VERSION = "SupportedVersion"
    UNSUPPORTED_VERSION = "UnsupportedVersion"


class GatewayReason(StrEnum):
    ACCEPTED = "Accepted"
    LISTENERS_NOT_VALID = "ListenersNotValid"
    PENDING = "Pending"
    UNSUPPORTED_ADDRESS = "UnsupportedAddress"
    INVALID_PARAMETERS = "InvalidParameters"
    INVALID = "Invalid"
    PROGRAMMED = "Programmed"
    NO_RESOURCES = "NoResources"
    ADDRESS_NOT_ASSIGNED = "AddressNotAssigned"
    ADDRESS_NOT_USABLE = "AddressNotUsable"
    RESOLVED_REFS = "ResolvedRefs"
    INVALID_CLIENT_CERTIFICATE_REF = "InvalidClientCertificateRef"
    REF_NOT_PERMITTED = "RefNotPermitted"
    LISTENERS_NOT_RESOLVED = "ListenersNotResolved"
    CONFIGURATION_CHANGED = "ConfigurationChanged"


class ListenerReason(StrEnum):
    ACCEPTED = "Accepted"
    PORT_UNAVAILABLE = "PortUnavailable"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"
    NO_VALID_CA_CERTIFICATE = "NoValidCACertificate"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    NO_CONFLICTS = "NoConflicts"
    HOSTNAME_CONFLICT = "HostnameConflict"
    PROTOCOL_CONFLICT = "ProtocolConflict"
    RESOLVED_REFS = "ResolvedRefs"
    INVALID_CERTIFICATE_REF = "InvalidCertificateRef"
    INVALID_ROUTE_KINDS = "InvalidRouteKinds"
    REF_NOT_PERMITTED = "RefNotPermitted"
    INVALID_CA_CERTIFICATE_REF = "InvalidCACertificateRef"
    INVALID_CA_CERTIFICATE_KIND = "InvalidCACertificateKind"
    PROGRAMMED = "Programmed"
    INVALID = "Invalid"
    PENDING = "Pending"
    OVERLAPPING_HOSTNAMES = "OverlappingHostnames"
    OVERLAPPING_CERTIFICATES = "OverlappingCertificates"
    LISTENER_CONFLICT = "ListenerConflict"
    TOO_MANY_LISTENERS = "TooManyListeners"


class RouteReason(StrEnum):
    ACCEPTED = "Accepted"
    NOT_ALLOWED_BY_LISTENERS = "NotAllowedByListeners"
    NO_MATCHING_LISTENER_HOSTNAME = "NoMatchingListenerHostname"
    NO_MATCHING_PARENT = "NoMatchingParent"
    UNSUPPORTED_VALUE = "UnsupportedValue"
    PENDING = "Pending"
    INCOMPATIBLE_FILTERS = "IncompatibleFilters"
    RESOLVED_REFS = "ResolvedRefs"
    REF_NOT_PERMITTED = "RefNotPermitted"
    INVALID_KIND = "InvalidKind"
    BACKEND_NOT_FOUND = "BackendNotFound"
    UNSUPPORTED_PROTOCOL = "UnsupportedProtocol"


class PoolReason(StrEnum):
    """Reasons of an InferencePool's conditions, per parent."""

    ACCEPTED = "Accepted"
    NOT_SUPPORTED_BY_PARENT = "NotSupportedByParent"
    HTTP_ROUTE_NOT_ACCEPTED = "HTTPRouteNotAccepted"
    ENDPOINT_PICKER_REF_MISSING = "EndpointPickerRefMissing"
    RESOLVED_REFS = "ResolvedRefs"
    INVALID_EXTENSION_REF = "InvalidExtensionRef"
    EXPORTED = "Exported"
    NOT_REQUESTED = "NotRequested"
    NOT_SUPPORTED = "NotSupported"


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type, if there is one."""
    return next((condition for condition in conditions if condition.type == type_), None)
