"""One parent's entry in the status of an HTTPRoute."""

from __future__ import annotations

from inferway.api.conditions import ConditionType, RouteReason
from inferway.api.gateway import HTTPRoute, ParentReference
from inferway.gateway.translate.attach import GATEWAY_GROUP, Attached
from inferway.gateway.translate.rules import TranslatedRoute
from inferway.gateway.translate.snapshot import CONTROLLER_NAME
from inferway.gateway.translate.verdicts import Object, Problem, judged


def entry(route: HTTPRoute, attempt: Attached, rules: TranslatedRoute) -> Object:
    """The entry with its two conditions."""
    generation = route.metadata.generation
    problems = [attempt.problem] if attempt.problem is not None else []
    problems += [Problem(RouteReason.UNSUPPORTED_VALUE, text) for text in rules.unsupported]
    accepted = judged(ConditionType.ACCEPTED, problems, (RouteReason.ACCEPTED, ""), generation)
    resolved = judged(
        ConditionType.RESOLVED_REFS,
        list(rules.refs),
        (RouteReason.RESOLVED_REFS, ""),
        generation,
    )
    return {
        "parentRef": parent_reference(attempt.parent),
        "controllerName": CONTROLLER_NAME,
        "conditions": [accepted, resolved],
    }


def parent_reference(parent: ParentReference) -> Object:
    """The reference as the route gives it, with the API's defaults filled in."""
    found: Object = {
        "group": parent.group or GATEWAY_GROUP,
        "kind": parent.kind or "Gateway",
        "name": parent.name,
    }
    if parent.namespace:
        found["namespace"] = parent.namespace
    if parent.section_name:
        found["sectionName"] = parent.section_name
    if parent.port:
        found["port"] = parent.port
    return found
