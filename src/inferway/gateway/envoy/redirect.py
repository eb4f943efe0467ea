"""Redirects of routes, as Envoy's RedirectAction."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2

from inferway.gateway.translate.ir import MatchKind, PathMatch, Redirect

_Action = route_components_pb2.RedirectAction
_CODES = {
    301: _Action.MOVED_PERMANENTLY,
    302: _Action.FOUND,
    303: _Action.SEE_OTHER,
    307: _Action.TEMPORARY_REDIRECT,
    308: _Action.PERMANENT_REDIRECT,
}


def redirect_action(redirect: Redirect, path: PathMatch) -> route_components_pb2.RedirectAction:
    """The redirect of a route whose path matched as ``path`` says."""
    message = _Action(response_code=_CODES[redirect.status])
    if redirect.scheme:
        message.scheme_redirect = redirect.scheme
    if redirect.hostname:
        message.host_redirect = redirect.hostname
    if redirect.port:
        message.port_redirect = redirect.port
    if redirect.full_path is not None:
        message.path_redirect = redirect.full_path
    elif redirect.prefix is not None:
        _replace_prefix(message, redirect.prefix, path)
    return message


def _replace_prefix(
    message: route_components_pb2.RedirectAction, prefix: str, path: PathMatch
) -> None:
    matched = path.value.rstrip("/")
    if matched == "" and path.kind is MatchKind.PREFIX:
        # Everything matched: the new prefix stands before the whole path.
        message.prefix_rewrite = prefix.rstrip("/") + "/"
    elif prefix.rstrip("/") == "":
        # Envoy would leave an empty path, or two slashes.
        message.regex_rewrite.pattern.regex = f"^{_quoted(matched)}/*"
        message.regex_rewrite.substitution = "/"
    else:
        message.prefix_rewrite = prefix.rstrip("/")


def _quoted(text: str) -> str:
    """``text`` as a regular expression of RE2 that matches only itself."""
    return "".join(char if char.isalnum() or char in "/_-" else "\\" + char for char in text)
