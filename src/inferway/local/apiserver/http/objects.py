"""The verbs of objects over HTTP: which method on which path does what."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aiohttp import web
from aiohttp.web_request import BaseRequest

from inferway.local.apiserver.http import negotiate, parameters
from inferway.local.apiserver.http.answers import (
    LIST_FORMS,
    OBJECT_FORMS,
    Form,
    include_of,
    list_response,
    respond,
)
from inferway.local.apiserver.http.bodies import Bodies, read_body
from inferway.local.apiserver.http.streams import Watchers, stream_watch
from inferway.local.apiserver.registry import deleting, errors, patching_verbs, reading
from inferway.local.apiserver.registry.kinds import Kind
from inferway.local.apiserver.registry.options import Target, Written
from inferway.local.apiserver.registry.registry import Registry
from inferway.local.apiserver.registry.selectors import Requirement


@dataclass(frozen=True, slots=True)
class ObjectVerbs:
    """Answers requests for objects and collections of any kind."""

    registry: Registry
    watchers: Watchers
    bodies: Bodies

    async def handle(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        method = request.method
        self._check_verb(request, target)
        if method in ("GET", "HEAD"):
            return await self._read(request, target)
        if method == "POST":
            return await self._create(request, target)
        if method == "PUT":
            return await self._update(request, target)
        if method == "PATCH":
            return await self._patch(request, target)
        return await self._delete(request, target)

    def _check_verb(self, request: BaseRequest, target: Target) -> None:
        """Raises StatusError 405 for what the path does not take."""
        on_object = ("GET", "HEAD", "PUT", "PATCH", "DELETE")
        on_collection = ("GET", "HEAD", "POST", "DELETE")
        kind = target.kind
        if request.method not in (on_object if target.name else on_collection):
            raise errors.method_not_allowed()
        if request.method == "DELETE" and target.subresource:
            raise errors.method_not_allowed()
        needs_namespace = kind.namespaced and not target.namespace
        if needs_namespace and (target.name or request.method != "GET"):
            raise errors.method_not_allowed()
        if target.namespace and not kind.namespaced:
            raise errors.path_not_found()

    def _form(self, request: BaseRequest, forms: tuple[str, ...]) -> Form:
        accepted = negotiate.accept(request.headers.get("Accept", ""), as_kinds=forms)
        include = include_of(request.query.get("includeObject", ""))
        return Form(accepted, include, self.registry.clock)

    async def _read(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        query = request.query
        if parameters.flag(query, "watch"):
            return await self._watch(request, target)
        if target.name:
            form = self._form(request, OBJECT_FORMS)
            obj = self.registry.get(target)
            return respond(form.object(target.kind, obj), form.accept)
        form = self._form(request, LIST_FORMS)
        options = parameters.list_options(query, target.kind)
        return list_response(target.kind, reading.list_page(self.registry, target, options), form)

    async def _watch(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        # A watch of PartialObjectMetadata is asked for with either name.
        form = self._form(request, (*OBJECT_FORMS, "PartialObjectMetadataList"))
        options = parameters.watch_options(request.query, target.kind)
        if target.name:
            term = Requirement("metadata.name", "in", frozenset({target.name}))
            fields = (*options.selector.fields, term)
            options = replace(options, selector=replace(options.selector, fields=fields))
        self.watchers.enter()
        try:
            return await stream_watch(request, self.registry, target, options, form)
        finally:
            self.watchers.leave()

    async def _create(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        form = self._form(request, OBJECT_FORMS)
        options = parameters.write_options(request.query, _agent(request))
        body = await self.bodies.value(request)
        return self._written(self.registry.create(target, body, options), target.kind, form)

    async def _update(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        form = self._form(request, OBJECT_FORMS)
        options = parameters.write_options(request.query, _agent(request))
        body = await self.bodies.value(request)
        return self._written(self.registry.update(target, body, options), target.kind, form)

    async def _patch(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        form = self._form(request, OBJECT_FORMS)
        media = request.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if media not in patching_verbs.PATCH_TYPES:
            raise errors.unsupported_media_type(list(patching_verbs.PATCH_TYPES))
        apply = media == patching_verbs.APPLY_PATCH
        options = parameters.write_options(request.query, _agent(request), apply=apply)
        body = negotiate.decode_body(media, await read_body(request))
        written = patching_verbs.patch(self.registry, target, media, body, options)
        return self._written(written, target.kind, form)

    async def _delete(self, request: BaseRequest, target: Target) -> web.StreamResponse:
        form = self._form(request, OBJECT_FORMS)
        given = await self.bodies.optional(request)
        options = parameters.delete_options(request.query, given)
        if target.name:
            written = deleting.delete(self.registry, target, options)
            return self._written(written, target.kind, form)
        chosen = parameters.selector(request.query, target.kind)
        items = deleting.delete_collection(self.registry, target, chosen, options)
        kind = target.kind
        metadata = {"resourceVersion": str(self.registry.store.revision)}
        return respond(
            {
                "kind": kind.name_of_list,
                "apiVersion": kind.api_version,
                "metadata": metadata,
                "items": items,
            }
        )

    def _written(self, written: Written, kind: Kind, form: Form) -> web.Response:
        if written.status is not None:
            return respond(written.status, form.accept, warnings=written.warnings)
        status = 201 if written.created else 200
        value = form.object(kind, written.object)
        return respond(value, form.accept, status=status, warnings=written.warnings)


def _agent(request: BaseRequest) -> str:
    return request.headers.get("User-Agent", "")
