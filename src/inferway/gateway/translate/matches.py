"""Matches of HTTPRoutes, and which of two matches is asked first."""

from __future__ import annotations

import re

from inferway.api.gateway import HTTPRouteMatch
from inferway.gateway.translate.ir import MatchKind, PathMatch, RequestMatch, ValueMatch

Precedence = tuple[int, int, int, int, int]

# What Python's expressions have and RE2, which Envoy uses, does not.
_NOT_RE2 = re.compile(r"\(\?(?:=|!|<=|<!|>|\()|\\[1-9]|\(\?P=|[*+?}]\+")
_RANK = {MatchKind.EXACT: 0, MatchKind.REGEX: 1, MatchKind.PREFIX: 2}
_PATH_KINDS = {
    "": MatchKind.PREFIX,
    "Exact": MatchKind.EXACT,
    "PathPrefix": MatchKind.PREFIX,
    "RegularExpression": MatchKind.REGEX,
}
_VALUE_KINDS = {
    "": MatchKind.EXACT,
    "Exact": MatchKind.EXACT,
    "RegularExpression": MatchKind.REGEX,
}


class UnsupportedValueError(ValueError):
    """A value of a route that can not be served; caught where the route is translated."""


def request_match(match: HTTPRouteMatch) -> RequestMatch:
    """The match as the IR has it. Raises UnsupportedValueError."""
    return RequestMatch(
        path=_path(match),
        headers=_values(match.headers or (), "header", lower=True),
        query=_values(match.query_params or (), "query parameter", lower=False),
        method=match.method or "",
    )


def precedence(match: RequestMatch) -> Precedence:
    """Sorts as Gateway API says: path, its length, method, headers, query parameters."""
    return (
        _RANK[match.path.kind],
        -len(match.path.value),
        0 if match.method else 1,
        -len(match.headers),
        -len(match.query),
    )


def _path(match: HTTPRouteMatch) -> PathMatch:
    if match.path is None:
        return PathMatch()
    kind = _PATH_KINDS.get(match.path.type or "")
    if kind is None:
        raise UnsupportedValueError(f"path match type {match.path.type} is not known")
    value = match.path.value or "/"
    if kind is MatchKind.REGEX:
        _check_regex(value, "path")
    elif not value.startswith("/"):
        raise UnsupportedValueError(f"path {value!r} must begin with /")
    return PathMatch(kind, value)


def _values(items: tuple[object, ...], what: str, *, lower: bool) -> tuple[ValueMatch, ...]:
    found: dict[str, ValueMatch] = {}
    for item in items:
        name: str = item.name  # type: ignore[attr-defined]
        text: str = item.value  # type: ignore[attr-defined]
        type_: str = item.type or ""  # type: ignore[attr-defined]
        kind = _VALUE_KINDS.get(type_)
        if kind is None:
            raise UnsupportedValueError(f"{what} match type {type_} is not known")
        if kind is MatchKind.REGEX:
            _check_regex(text, f"{what} {name}")
        key = name.lower() if lower else name
        # Of equal names the first counts, as the API says.
        found.setdefault(key, ValueMatch(key, text, kind))
    return tuple(found.values())


def _check_regex(text: str, what: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise UnsupportedValueError(f"regular expression of {what}: {error}") from None
    if _NOT_RE2.search(text):
        raise UnsupportedValueError(
            f"regular expression of {what}: look-around, back references and possessive "
            "repetition are not supported"
        )
