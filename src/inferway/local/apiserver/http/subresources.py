"""Subresources that are writes or other forms of an object: scale, binding, eviction, finalize,
token requests."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.web_request import BaseRequest
from cryptography.hazmat.primitives.asymmetric import ec

from inferway.base.clock import Clock, rfc3339
from inferway.local.apiserver import tokens
from inferway.local.apiserver.http import negotiate, parameters
from inferway.local.apiserver.http.answers import respond
from inferway.local.apiserver.http.bodies import Bodies, read_body
from inferway.local.apiserver.http.handler import Asked, Subresource
from inferway.local.apiserver.registry import errors, patching_verbs, pods, scaling
from inferway.local.apiserver.registry.kinds import KindTable
from inferway.local.apiserver.registry.options import Target
from inferway.local.apiserver.registry.registry import Registry, load

TOKEN_SECONDS_DEFAULT = 3600
# Kubernetes refuses shorter ones, because clients would renew all the time.
TOKEN_SECONDS_MIN = 600
TOKEN_SECONDS_MAX = 2**32


@dataclass(frozen=True, slots=True)
class Subresources:
    """Answers for the subresources of this module."""

    registry: Registry
    bodies: Bodies
    signing_key: ec.EllipticCurvePrivateKey
    clock: Clock

    def table(self) -> dict[tuple[str, str], Subresource]:
        return {
            ("", "scale"): self.scale,
            ("pods.", "binding"): self.binding,
            ("pods.", "eviction"): self.eviction,
            ("namespaces.", "finalize"): self.finalize,
            ("serviceaccounts.", "token"): self.token,
        }

    async def scale(self, asked: Asked) -> web.StreamResponse:
        request, target = asked.request, asked.target
        _allow(request, "GET", "PUT", "PATCH")
        current = scaling.scale_of(target.kind, self.registry.get(target))
        if request.method == "GET":
            return respond(current)
        options = parameters.write_options(request.query, _agent(request))
        if request.method == "PUT":
            scale = await self.bodies.value(request)
        else:
            scale = self._patched(request, current, await read_body(request))
        return respond(scaling.write_scale(self.registry, target, scale, options).object)

    def _patched(self, request: BaseRequest, current: dict[str, Any], body: bytes) -> Any:
        media = request.headers.get("Content-Type", "").split(";")[0].strip()
        patch = negotiate.decode_body(media, body)
        if media == patching_verbs.JSON_PATCH:
            return self.registry.rules.json_patch(current, patch)
        if media not in patching_verbs.PATCH_TYPES:
            raise errors.unsupported_media_type(list(patching_verbs.PATCH_TYPES))
        patched = self.registry.rules.merge(current, patch)
        # A patch without a resourceVersion means whatever is current.
        patched["metadata"] = (patch.get("metadata") or {}) if isinstance(patch, dict) else {}
        return patched

    async def binding(self, asked: Asked) -> web.StreamResponse:
        _allow(asked.request, "POST")
        options = parameters.write_options(asked.request.query, _agent(asked.request))
        body = await self.bodies.value(asked.request)
        return respond(pods.bind(self.registry, asked.target, body, options), status=201)

    async def eviction(self, asked: Asked) -> web.StreamResponse:
        _allow(asked.request, "POST")
        body = await self.bodies.value(asked.request)
        given = body.get("deleteOptions") if isinstance(body, dict) else None
        options = parameters.delete_options(asked.request.query, given)
        return respond(pods.evict(self.registry, asked.target, body, options), status=201)

    async def finalize(self, asked: Asked) -> web.StreamResponse:
        """Takes finalizers of a namespace's spec away; the last one lets it go."""
        _allow(asked.request, "PUT")
        target = asked.target
        body = await self.bodies.value(asked.request)
        finalizers = (body.get("spec") or {}).get("finalizers") if isinstance(body, dict) else None
        stored = self.registry.stored(target)
        old = load(target.kind, stored)
        version = (body.get("metadata") or {}).get("resourceVersion")
        if version and version != old["metadata"]["resourceVersion"]:
            raise errors.modified(target.kind.subject(target.name))
        changed = copy.deepcopy(old)
        changed["spec"] = {"finalizers": finalizers} if finalizers else {}
        whole = Target(target.kind, "", target.name)
        return respond(self.registry.finalize(whole, stored, changed))

    async def token(self, asked: Asked) -> web.StreamResponse:
        """``serviceaccounts/NAME/token``: a TokenRequest is answered with its token."""
        _allow(asked.request, "POST")
        target = asked.target
        body = await self.bodies.value(asked.request)
        spec = (body.get("spec") or {}) if isinstance(body, dict) else {}
        seconds = spec.get("expirationSeconds") or TOKEN_SECONDS_DEFAULT
        subject = errors.Subject("authentication.k8s.io", "tokenrequests", "", "TokenRequest")
        if not isinstance(seconds, int) or not TOKEN_SECONDS_MIN <= seconds <= TOKEN_SECONDS_MAX:
            text = f"Invalid value: {seconds}: may not specify a duration less than 10 minutes"
            cause = errors.Cause("FieldValueInvalid", "spec.expirationSeconds", text)
            raise errors.invalid(subject, [cause])
        account = self.registry.get(target)
        binding = self._binding(target, account["metadata"]["uid"], spec.get("boundObjectRef"))
        audiences = [str(name) for name in spec.get("audiences") or ()] or [tokens.ISSUER]
        now = self.clock.wall()
        token = tokens.sign(self.signing_key, binding, audiences, now, now + seconds)
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": target.name,
                "namespace": target.namespace,
                "creationTimestamp": rfc3339(now),
            },
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {"token": token, "expirationTimestamp": rfc3339(now + seconds)},
        }
        return respond(answer, status=201)

    def _binding(self, target: Target, uid: str, reference: Any) -> tokens.Binding:
        plain = tokens.Binding(target.namespace, target.name, uid)
        if not isinstance(reference, dict):
            return plain
        kind_name, name = str(reference.get("kind")), str(reference.get("name") or "")
        plurals = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
        if kind_name not in plurals:
            raise errors.bad_request(f"cannot bind token to object of kind {kind_name}")
        kind = self._kinds().find("", "v1", plurals[kind_name])
        assert kind is not None
        bound = Target(kind, target.namespace if kind.namespaced else "", name)
        bound_uid = self.registry.get(bound)["metadata"]["uid"]
        if reference.get("uid") and reference["uid"] != bound_uid:
            raise errors.conflict(
                kind.subject(name),
                f"the UID in the bound object reference ({reference['uid']}) does not match the "
                f"UID in record. The object might have been deleted and then recreated",
            )
        return tokens.Binding(target.namespace, target.name, uid, kind_name, name, bound_uid)

    def _kinds(self) -> KindTable:
        return self.registry.kinds


def _allow(request: BaseRequest, *methods: str) -> None:
    if request.method not in methods:
        raise errors.method_not_allowed()


def _agent(request: BaseRequest) -> str:
    return request.headers.get("User-Agent", "")
