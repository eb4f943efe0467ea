"""Questions about credentials and permissions, answered and not stored.

Any authenticated user may do everything, so every access review says yes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from inferway.local.apiserver import tokens
from inferway.local.apiserver.http.answers import respond
from inferway.local.apiserver.http.bodies import Bodies
from inferway.local.apiserver.http.credentials import Credentials, User
from inferway.local.apiserver.http.handler import Asked, Subresource
from inferway.local.apiserver.registry import errors

_ACCESS = ("selfsubjectaccessreviews", "subjectaccessreviews", "localsubjectaccessreviews")
_REASON = "every authenticated user of a local cluster may do everything"


@dataclass(frozen=True, slots=True)
class Reviews:
    """Answers for the review kinds."""

    credentials: Credentials
    bodies: Bodies

    def table(self) -> dict[tuple[str, str], Subresource]:
        authorization, authentication = "authorization.k8s.io", "authentication.k8s.io"
        return {
            **{(f"{plural}.{authorization}", ""): self.access for plural in _ACCESS},
            (f"selfsubjectrulesreviews.{authorization}", ""): self.rules,
            (f"selfsubjectreviews.{authentication}", ""): self.own_self,
            (f"tokenreviews.{authentication}", ""): self.token,
        }

    async def _asked(self, asked: Asked) -> dict[str, Any]:
        if asked.request.method != "POST" or asked.target.name:
            raise errors.method_not_allowed()
        body = await self.bodies.value(asked.request)
        if not isinstance(body, dict):
            raise errors.bad_request(f"the object provided is not a {asked.target.kind.kind}")
        kind = asked.target.kind
        return {
            "kind": kind.kind,
            "apiVersion": kind.api_version,
            "metadata": body.get("metadata") or {},
            "spec": body.get("spec") or {},
        }

    async def access(self, asked: Asked) -> web.StreamResponse:
        review = await self._asked(asked)
        return respond({**review, "status": {"allowed": True, "reason": _REASON}}, status=201)

    async def rules(self, asked: Asked) -> web.StreamResponse:
        review = await self._asked(asked)
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        status = {
            "resourceRules": [everything],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
        return respond({**review, "status": status}, status=201)

    async def own_self(self, asked: Asked) -> web.StreamResponse:
        review = await self._asked(asked)
        review.pop("spec")
        return respond({**review, "status": {"userInfo": _user_info(asked.user)}}, status=201)

    async def token(self, asked: Asked) -> web.StreamResponse:
        review = await self._asked(asked)
        audiences = [str(name) for name in review["spec"].get("audiences") or ()]
        token = str(review["spec"].get("token") or "")
        review["spec"] = {"audiences": audiences}
        for audience in audiences or [tokens.ISSUER]:
            user = self.credentials.token_user(token, audience) if token else None
            if user is not None:
                status = {
                    "authenticated": True,
                    "user": _user_info(user),
                    "audiences": [audience],
                }
                return respond({**review, "status": status}, status=201)
        failed = {"authenticated": False, "error": "the token is not good"}
        return respond({**review, "status": failed}, status=201)


def _user_info(user: User) -> dict[str, Any]:
    info: dict[str, Any] = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info
