"""``pods/NAME/log``: the node's log face, passed through.

The server asks ``/containerLogs/NAMESPACE/POD/CONTAINER`` at the Pod's node, as kube-apiserver
does, and presents a client certificate of the cluster's authority.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from inferway.local.apiserver.http import parameters
from inferway.local.apiserver.http.handler import Asked
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.registry.kinds import Object
from inferway.local.apiserver.registry.options import Target
from inferway.local.apiserver.registry.registry import Registry

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
CONNECT_SECONDS_MAX = 5.0
ERROR_BYTES_MAX = 64 * 1024
_NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")
_FLAGS = ("follow", "previous", "timestamps")
_OTHERS = ("container", "sinceTime", "pretty", "insecureSkipTLSVerifyBackend", "stream")


@dataclass(frozen=True, slots=True)
class PodLogs:
    """Answers log requests over one client session."""

    registry: Registry
    session: aiohttp.ClientSession

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        request = asked.request
        if request.method != "GET":
            raise errors.method_not_allowed()
        for name in request.query:
            if name not in (*_NUMBERS, *_FLAGS, *_OTHERS):
                raise errors.bad_request(f'unknown parameter of logs: "{name}"')
        query = {name: request.query[name] for name in _NUMBERS if name in request.query}
        for name in _NUMBERS:
            parameters.number(request.query, name)
        query |= {name: "true" for name in _FLAGS if parameters.flag(request.query, name)}
        query |= {n: request.query[n] for n in ("sinceTime", "stream") if n in request.query}
        pod = self.registry.get(asked.target)
        container = container_of(pod, request.query.get("container", ""))
        namespace, name = asked.target.namespace, asked.target.name
        url = f"{self._node(pod)}/containerLogs/{namespace}/{name}/{container}"
        try:
            async with self.session.get(url, params=query) as answer:
                return await _pass_on(asked, answer)
        except aiohttp.ClientError as error:
            node = pod["spec"]["nodeName"]
            raise errors.internal(f'the node "{node}" can not be asked for logs: {error}') from None

    def _node(self, pod: Object) -> str:
        """The address of the node's log face. Raises StatusError."""
        name = (pod.get("spec") or {}).get("nodeName")
        if not name:
            pod_name = pod["metadata"]["name"]
            raise errors.bad_request(f"pod {pod_name} does not have a host assigned")
        kind = self.registry.kinds.find("", "v1", "nodes")
        assert kind is not None
        status: dict[str, Any] = self.registry.get(Target(kind, "", name)).get("status") or {}
        endpoints = status.get("daemonEndpoints") or {}
        port = (endpoints.get("kubeletEndpoint") or {}).get("Port")
        addresses = {a.get("type"): a.get("address") for a in status.get("addresses") or ()}
        host = addresses.get("InternalIP") or addresses.get("Hostname")
        if not port or not host:
            raise errors.internal(f'node "{name}" does not say where its kubelet face is')
        return f"https://{host}:{port}"


async def _pass_on(asked: Asked, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    if answer.status >= 400:
        text = (await answer.content.read(ERROR_BYTES_MAX)).decode(errors="replace").strip()
        reasons = {400: "BadRequest", 404: "NotFound", 403: "Forbidden"}
        reason = reasons.get(answer.status, "InternalError")
        raise errors.StatusError(answer.status, reason, text or f"the node said {answer.status}")
    response = web.StreamResponse()
    response.content_type = "text/plain"
    response.enable_chunked_encoding()
    await response.prepare(asked.request)
    async for chunk in answer.content.iter_any():
        await response.write(chunk)
    await response.write_eof()
    return response


def container_of(pod: Object, asked: str) -> str:
    """The container whose log is meant. Raises StatusError 400 in Kubernetes' words."""
    spec = pod.get("spec") or {}
    name = pod["metadata"]["name"]
    main = [container["name"] for container in spec.get("containers") or ()]
    init = [container["name"] for container in spec.get("initContainers") or ()]
    if asked:
        if asked not in main and asked not in init:
            raise errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    if annotated in main:
        return str(annotated)
    if len(main) == 1:
        return str(main[0])
    choices = f"choose one of: [{' '.join(main)}]"
    if init:
        choices += f" or one of the init containers: [{' '.join(init)}]"
    raise errors.bad_request(f"a container name must be specified for pod {name}, {choices}")


@asynccontextmanager
async def node_session(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    """Connections to nodes. A followed log has no end, so only connecting is bounded."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS_MAX)
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield session
