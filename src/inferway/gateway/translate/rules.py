"""Rules of an HTTPRoute as routes of the IR, before they meet a listener."""

from __future__ import annotations

from dataclasses import dataclass

from inferway.api.gateway import HTTPRoute, HTTPRouteMatch, HTTPRouteRule
from inferway.base import durations
from inferway.gateway.translate.backends import Backends
from inferway.gateway.translate.filters import filters
from inferway.gateway.translate.ir import RequestMatch, Route, Share
from inferway.gateway.translate.matches import (
    Precedence,
    UnsupportedValueError,
    precedence,
    request_match,
)
from inferway.gateway.translate.verdicts import Problem

Rank = tuple[Precedence, str, str, int, int]
"""Sorts candidates of one hostname: match, age, name, rule, match within the rule."""

# The route's own limit is 16 rules of 64 matches; this only keeps a broken server's data small.
ROUTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Candidate:
    """A route of the IR and its rank among others of its hostname."""

    rank: Rank
    route: Route


@dataclass(frozen=True, slots=True)
class TranslatedRoute:
    """``unsupported`` refuses the whole route; ``refs`` are broken references, which answer 500."""

    candidates: tuple[Candidate, ...] = ()
    refs: tuple[Problem, ...] = ()
    unsupported: tuple[str, ...] = ()


def translate_rules(route: HTTPRoute, backends: Backends) -> TranslatedRoute:
    """All rules of a route."""
    candidates: list[Candidate] = []
    refs: list[Problem] = []
    unsupported: list[str] = []
    for index, rule in enumerate(route.spec.rules or ()):
        try:
            found, problems = _rule(route, index, rule, backends)
        except UnsupportedValueError as error:
            unsupported.append(f"rule {index}: {error}.")
            continue
        candidates += found
        refs += problems
    if len(candidates) > ROUTES_MAX:
        unsupported.append(f"the route has more than {ROUTES_MAX} matches.")
    return TranslatedRoute(tuple(candidates), tuple(refs), tuple(unsupported))


def _rule(
    route: HTTPRoute, index: int, rule: HTTPRouteRule, backends: Backends
) -> tuple[list[Candidate], list[Problem]]:
    _refuse_what_is_missing(rule)
    meta = route.metadata
    matches = [request_match(item) for item in rule.matches or (HTTPRouteMatch(),)]
    chosen = filters(rule.filters or (), matches, on_backend=False)
    shares: list[Share] = []
    problems: list[Problem] = []
    for ref in rule.backend_refs or ():
        changes = filters(ref.filters or (), matches, on_backend=True)
        share, problem = backends.share(ref, meta.namespace, changes)
        shares.append(share)
        if problem is not None:
            problems.append(problem)
    request_seconds, attempt_seconds = _timeouts(rule)
    found = [
        Candidate(
            _rank(route, match, index, number),
            Route(
                name=f"{meta.namespace}/{meta.name}/{index}/{number}",
                match=match,
                shares=() if chosen.redirect is not None else tuple(shares),
                redirect=chosen.redirect,
                request=chosen.request,
                response=chosen.response,
                request_seconds=request_seconds,
                attempt_seconds=attempt_seconds,
            ),
        )
        for number, match in enumerate(matches)
    ]
    return found, problems


def _rank(route: HTTPRoute, match: RequestMatch, index: int, number: int) -> Rank:
    meta = route.metadata
    name = f"{meta.namespace}/{meta.name}"
    return (precedence(match), meta.creation_timestamp, name, index, number)


def _refuse_what_is_missing(rule: HTTPRouteRule) -> None:
    if rule.retry is not None:
        raise UnsupportedValueError("retry is not supported")
    if rule.session_persistence is not None:
        raise UnsupportedValueError("sessionPersistence is not supported")


def _timeouts(rule: HTTPRouteRule) -> tuple[float | None, float | None]:
    if rule.timeouts is None:
        return None, None
    return (
        _seconds(rule.timeouts.request, "timeouts.request"),
        _seconds(rule.timeouts.backend_request, "timeouts.backendRequest"),
    )


def _seconds(text: str | None, field: str) -> float | None:
    if not text:
        return None
    try:
        # Zero switches a timeout off, as the API says.
        return durations.parse_gateway(text) or None
    except ValueError as error:
        raise UnsupportedValueError(f"{field}: {error}") from None
