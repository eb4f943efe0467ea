"""Who may read metrics and debug pages: bearers of a token that the cluster accepts.

As the published pickers do: a TokenReview says whose the token is, a SubjectAccessReview whether
that account may get the path. Answers are kept for a while, so that a scrape costs the cluster
nothing most times. Probes are for everybody.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from aiohttp import web

from inferway.base.errors import InferwayError, UsageError

_log = logging.getLogger(__name__)

PROTECTED = ("/metrics", "/debug/")
# As the published pickers have it: what is allowed is asked again after some scrapes, what is not
# soon, because somebody is about to allow it.
ALLOWED_SECONDS = 60.0
DENIED_SECONDS = 10.0
# Scrapers have a token each; others only make guesses.
ANSWERS_MAX = 256
TOKEN_BYTES_MAX = 16 * 1024
_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Cluster(Protocol):
    """What is asked of the API server."""

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer. Raises InferwayError."""
        ...


class TokenGuard:
    """Asks the cluster about bearers."""

    def __init__(self, cluster: Cluster, now: Callable[[], float]) -> None:
        self._cluster = cluster
        self._now = now
        # Hash of a token, and path -> status, and until when it counts. No token is kept.
        self._answers: OrderedDict[tuple[bytes, str], tuple[int, float]] = OrderedDict()

    async def status(self, authorization: str, path: str) -> int:
        """200, or the status of the refusal: 401, 403, 500."""
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_BYTES_MAX:
            return 401
        key = hashlib.sha256(token.encode()).digest(), path
        known = self._answers.get(key)
        if known is not None and known[1] > self._now():
            return known[0]
        try:
            status = await self._ask(token, path)
        except InferwayError as error:
            _log.warning("the cluster did not say who may read metrics: %s", error.code)
            return 500
        lasts = ALLOWED_SECONDS if status == 200 else DENIED_SECONDS
        self._answers[key] = (status, self._now() + lasts)
        self._answers.move_to_end(key)
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        return status

    async def _ask(self, token: str, path: str) -> int:
        kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        review = await self._cluster.request("POST", _REVIEWS, {**kind, "spec": {"token": token}})
        said = review.get("status") or {}
        if not said.get("authenticated"):
            return 401
        user = said.get("user") or {}
        spec = {
            "user": user.get("username", ""),
            "uid": user.get("uid", ""),
            "groups": user.get("groups") or [],
            "extra": user.get("extra") or {},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        }
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        access = await self._cluster.request("POST", _ACCESS, {**kind, "spec": spec})
        return 200 if (access.get("status") or {}).get("allowed") else 403


_WORDS = {
    401: "A bearer token of the cluster is needed.\n",
    403: "This account may not get this path; a ClusterRole with nonResourceURLs allows it.\n",
    500: "The cluster does not answer; may the picker's account create tokenreviews?\n",
}


def protect(app: web.Application, guard: TokenGuard) -> None:
    """Closes the pages that tell something to all but those the guard lets in."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(PROTECTED):
            status = await guard.status(request.headers.get("authorization", ""), request.path)
            if status != 200:
                headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
                return web.Response(text=_WORDS[status], status=status, headers=headers)
        return await handler(request)

    app.middlewares.append(check)


def tls(folder: str, client_ca: str) -> ssl.SSLContext | None:
    """TLS of the metrics port; with a CA only its clients may connect. Raises UsageError."""
    if not folder:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(Path(folder, "tls.crt"), Path(folder, "tls.key"))
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "INFERWAY0409",
            f"the certificates of metrics can not be used: {error}",
            about=client_ca or folder,
            fix="--metrics-cert-dir has tls.crt and tls.key, --metrics-client-ca-file is PEM.",
        ) from None
    return context
