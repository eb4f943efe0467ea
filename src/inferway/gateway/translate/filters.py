"""Filters of HTTPRoute rules and of their backends.

A filter that is not supported makes the route's value unsupported, never silently ineffective.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from inferway.api.gateway import HeaderFilter, HTTPRouteFilter, RedirectFilter
from inferway.gateway.translate.ir import (
    NO_CHANGES,
    HeaderChanges,
    MatchKind,
    Redirect,
    RequestMatch,
)
from inferway.gateway.translate.matches import UnsupportedValueError

_TOKEN = re.compile(r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
# The gateway's own; a route that could set them could choose a server or invent a pick.
_RESERVED = re.compile(r"^(?:x-inferway-|x-(?:gateway|llm-d)-destination-endpoint)", re.IGNORECASE)
_STATUS_CODES = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Filters:
    """What the filters of a rule or of a backend do."""

    request: HeaderChanges = NO_CHANGES
    response: HeaderChanges = NO_CHANGES
    redirect: Redirect | None = None


def filters(
    items: Iterable[HTTPRouteFilter], matches: list[RequestMatch], *, on_backend: bool
) -> Filters:
    """All filters together. Raises UnsupportedValueError."""
    request, response, redirect = NO_CHANGES, NO_CHANGES, None
    seen: set[str] = set()
    for item in items:
        if item.type in seen:
            raise UnsupportedValueError(f"filter {item.type} is given twice")
        seen.add(item.type)
        if item.type == "RequestHeaderModifier" and item.request_header_modifier is not None:
            request = _changes(item.request_header_modifier)
        elif item.type == "ResponseHeaderModifier" and item.response_header_modifier is not None:
            response = _changes(item.response_header_modifier)
        elif item.type == "RequestRedirect" and item.request_redirect is not None:
            if on_backend:
                raise UnsupportedValueError("filter RequestRedirect on a backend is not supported")
            redirect = _redirect(item.request_redirect, matches)
        else:
            raise UnsupportedValueError(f"filter {item.type} is not supported")
    return Filters(request, response, redirect)


def _changes(modifier: HeaderFilter) -> HeaderChanges:
    put = tuple((item.name, item.value) for item in modifier.set or ())
    add = tuple((item.name, item.value) for item in modifier.add or ())
    remove = tuple(modifier.remove or ())
    for name in (*(name for name, _ in (*put, *add)), *remove):
        if not _TOKEN.match(name):
            raise UnsupportedValueError(f"header name {name!r} is not valid")
        if name.lower() == "host":
            raise UnsupportedValueError("header Host can not be changed by a header modifier")
        if _RESERVED.match(name):
            raise UnsupportedValueError(f"header {name} belongs to the gateway")
    return HeaderChanges(put, add, remove)


def _redirect(item: RedirectFilter, matches: list[RequestMatch]) -> Redirect:
    status = item.status_code or 302
    if status not in _STATUS_CODES:
        raise UnsupportedValueError(f"redirect with status code {status} is not supported")
    full_path, prefix = None, None
    if item.path is not None:
        if item.path.type == "ReplaceFullPath":
            full_path = item.path.replace_full_path or "/"
        elif item.path.type == "ReplacePrefixMatch":
            prefix = item.path.replace_prefix_match or "/"
            if any(match.path.kind is not MatchKind.PREFIX for match in matches):
                raise UnsupportedValueError(
                    "ReplacePrefixMatch needs path matches of type PathPrefix"
                )
        else:
            raise UnsupportedValueError(f"path modifier {item.path.type} is not known")
    return Redirect(
        status=status,
        scheme=item.scheme or "",
        hostname=item.hostname or "",
        port=item.port or 0,
        full_path=full_path,
        prefix=prefix,
    )
