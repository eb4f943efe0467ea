"""GatewayClasses: which are ours, whether their parameters exist, what the gateway can do."""

from __future__ import annotations

from inferway.api.conditions import ConditionType, GatewayClassReason
from inferway.api.gateway import GatewayClass
from inferway.gateway.translate.snapshot import CONTROLLER_NAME, Key, Snapshot
from inferway.gateway.translate.verdicts import Object, Problem, judged

PARAMETERS_GROUP = "inferway.dev"
PARAMETERS_KIND = "GatewayParameters"
# Names of Gateway API's features, sorted, as the field demands.
SUPPORTED_FEATURES = (
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
)


def ours(snapshot: Snapshot) -> dict[str, GatewayClass]:
    """The classes of this controller by name."""
    return {
        item.metadata.name: item
        for item in snapshot.gateway_classes.values()
        if item.spec.controller_name == CONTROLLER_NAME
    }


def parameters_problem(snapshot: Snapshot, group: str, kind: str, key: Key) -> Problem | None:
    """What is wrong with a reference to parameters; both reasons of the API are the same word."""
    if group != PARAMETERS_GROUP or kind != PARAMETERS_KIND:
        return Problem(
            GatewayClassReason.INVALID_PARAMETERS,
            f"parametersRef: kind {kind} of group {group!r} is not supported; use "
            f"{PARAMETERS_KIND} ({PARAMETERS_GROUP}).",
        )
    if key not in snapshot.gateway_parameters:
        return Problem(
            GatewayClassReason.INVALID_PARAMETERS,
            f"parametersRef: there is no {PARAMETERS_KIND} {key[1]} in namespace {key[0]!r}.",
        )
    return None


def status(snapshot: Snapshot, item: GatewayClass) -> Object:
    """The status of a class of ours."""
    ref = item.spec.parameters_ref
    problem = None
    if ref is not None:
        key = (ref.namespace or "", ref.name)
        problem = parameters_problem(snapshot, ref.group, ref.kind, key)
    accepted = judged(
        ConditionType.ACCEPTED,
        [problem] if problem is not None else [],
        (GatewayClassReason.ACCEPTED, "Inferway serves this class."),
        item.metadata.generation,
    )
    return {
        "conditions": [accepted],
        "supportedFeatures": [{"name": name} for name in SUPPORTED_FEATURES],
    }
