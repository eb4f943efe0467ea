"""Hostnames of listeners and routes: ``*`` matches all, ``*.example.com`` one label or more."""

from __future__ import annotations

from collections.abc import Iterator

ANY = "*"


def intersect(listener: str, route: str) -> str | None:
    """The hosts that both mean, or None. Empty means any; the result is ``*`` for any."""
    if not route or route == ANY:
        return listener or ANY
    if not listener or listener in (ANY, route):
        return route
    if listener.startswith("*.") and _under(route, listener):
        return route
    if route.startswith("*.") and _under(listener, route):
        return listener
    return None


def _under(host: str, wildcard: str) -> bool:
    return host.endswith(wildcard[1:]) and host != wildcard[1:]


def covering(host: str) -> Iterator[str]:
    """``host`` itself and everything wider that matches it, most specific first."""
    yield host
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.split(".", 1)[1]
        yield f"*.{rest}"
    if host != ANY:
        yield ANY


def specificity(host: str) -> tuple[int, int]:
    """Sorts the most specific first: exact before wildcard, longer before shorter."""
    return (host.startswith("*"), -len(host))
