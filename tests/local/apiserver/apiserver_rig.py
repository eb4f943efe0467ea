"""An API server in the test's own loop, a raw HTTPS client, and real programs against it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from inferway.local.apiserver.server import ApiServer, ApiServerOptions

PROGRAM_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Answer:
    """One response: status, JSON body, headers."""

    status: int
    body: Any
    headers: dict[str, str]
    warnings: list[str]

    @property
    def message(self) -> str:
        return str(self.body["message"])


@dataclass(frozen=True)
class Rig:
    """A running server and ways to talk to it."""

    server: ApiServer
    session: aiohttp.ClientSession
    token: str

    async def call(
        self, method: str, path: str, body: Any = None, *, media: str = "", **headers: str
    ) -> Answer:
        """One request with the admin's token; ``headers`` use ``_`` for ``-``."""
        sent = {"Authorization": f"Bearer {self.token}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = None
        if body is not None:
            data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
            sent["Content-Type"] = media or "application/json"
        async with self.session.request(
            method, self.server.url + path, data=data, headers=sent
        ) as response:
            raw = await response.read()
            value = json.loads(raw) if response.content_type == "application/json" else raw
            return Answer(
                response.status,
                value,
                dict(response.headers),
                response.headers.getall("Warning", []),
            )

    async def ok(self, method: str, path: str, body: Any = None, *, media: str = "") -> Any:
        """The body of an answer that has to be a success."""
        answer = await self.call(method, path, body, media=media)
        assert answer.status < 300, answer.body
        return answer.body

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The events of a watch."""
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.session.get(self.server.url + path, headers=headers) as response:
            assert response.status == 200, await response.text()

            async def events() -> AsyncIterator[dict[str, Any]]:
                async for line in response.content:
                    yield json.loads(line)

            yield events()

    async def run(
        self, program: Path | str, *args: str, text: str = "", env: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Runs kubectl or helm against the server: code, stdout, stderr."""
        home = self.server.options.state / "home"
        process = await asyncio.create_subprocess_exec(
            str(program),
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ
            | {"KUBECONFIG": str(self.server.kubeconfig), "HOME": str(home)}
            | (env or {}),
        )
        async with asyncio.timeout(PROGRAM_SECONDS_MAX):
            out, err = await process.communicate(text.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def must(self, program: Path | str, *args: str, text: str = "") -> str:
        """The output of a program that has to succeed."""
        code, out, err = await self.run(program, *args, text=text)
        assert code == 0, f"{' '.join(args)}: {err}{out}"
        return out


@asynccontextmanager
async def running(state: Path, **options: Any) -> AsyncIterator[Rig]:
    """A server on a free port."""
    async with ApiServer(ApiServerOptions(state, port=0, **options)) as server:
        kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
        context = ssl.create_default_context(cafile=str(state / "pki" / "ca.crt"))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield Rig(server, session, kubeconfig["users"][0]["user"]["token"])


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }


def config_map(name: str, data: dict[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": data or {},
    }


def widget_definition(**version: Any) -> dict[str, Any]:
    """A small CustomResourceDefinition."""
    schema = {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1},
                    "color": {"type": "string", "default": "red"},
                },
            },
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    **version,
                }
            ],
        },
    }


CORE = "/api/v1/namespaces/default"
CONFIG_MAPS = f"{CORE}/configmaps"
PODS = f"{CORE}/pods"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.com/v1/namespaces/default/widgets"
