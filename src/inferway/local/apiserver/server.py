"""The embedded API server as a whole: starts, listens, stops.

Knows how the parts are put together. ``async with ApiServer(options)`` yields when it listens.
Raises InferwayError INFERWAY0150 to 0154.
"""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from inferway.api.schema.catalog import Catalog
from inferway.base.clock import Clock, SystemClock
from inferway.base.errors import InferwayError
from inferway.base.ids import Ids, RandomIds
from inferway.local.apiserver import kubeconfig, pki
from inferway.local.apiserver.http.bodies import Bodies
from inferway.local.apiserver.http.credentials import Credentials
from inferway.local.apiserver.http.handler import Handler, Subresource
from inferway.local.apiserver.http.objects import ObjectVerbs
from inferway.local.apiserver.http.openapi import OpenApi, components_of
from inferway.local.apiserver.http.podlogs import PodLogs, node_session
from inferway.local.apiserver.http.portforward import PortForward
from inferway.local.apiserver.http.protobuf import load_table
from inferway.local.apiserver.http.reviews import Reviews
from inferway.local.apiserver.http.streams import Watchers
from inferway.local.apiserver.http.subresources import Subresources
from inferway.local.apiserver.registry.bootstrap import bootstrap
from inferway.local.apiserver.registry.builtin import builtin_kinds
from inferway.local.apiserver.registry.index import index_of
from inferway.local.apiserver.registry.kinds import KindTable
from inferway.local.apiserver.registry.registry import Parts, Registry
from inferway.local.apiserver.registry.rules import SchemaRules
from inferway.local.apiserver.storage.database import Database
from inferway.local.apiserver.storage.store import Store, StoreLimits

# Watches end with the server; nobody waits longer for a slow client.
SHUTDOWN_SECONDS_MAX = 1.0
# Idle connections of kubectl and client-go; longer than their own 90 s.
KEEPALIVE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ApiServerOptions:
    """``state`` is the server's own folder; ``kubeconfig`` the file it writes for its user."""

    state: Path
    address: str = "127.0.0.1"
    port: int = 6443
    kubeconfig: Path | None = None
    clock: Clock = field(default_factory=SystemClock)
    ids: Ids = field(default_factory=RandomIds)
    limits: StoreLimits = field(default_factory=StoreLimits)


class ApiServer:
    """One embedded API server. Port 0 takes a free one; ``port`` tells which."""

    def __init__(self, options: ApiServerOptions) -> None:
        self.options = options
        self.port = options.port
        self._exits = AsyncExitStack()
        self._store: Store | None = None
        self._watchers = Watchers()

    @property
    def url(self) -> str:
        return f"https://{self.options.address}:{self.port}"

    @property
    def revision(self) -> int:
        """The resourceVersion of the latest write."""
        return self._store.revision if self._store is not None else 0

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return self._watchers.running

    @property
    def kubeconfig(self) -> Path:
        return self.options.kubeconfig or self.options.state / "kubeconfig"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            await self._start(exits)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exits.aclose()

    async def _start(self, exits: AsyncExitStack) -> None:
        options = self.options
        database = Database(options.state / "objects.db")
        exits.callback(database.close)
        credentials = pki.load_or_create(options.state / "pki", options.address)
        store = Store(database, index_of, options.limits)
        self._store = store
        kinds = KindTable(builtin_kinds())
        catalog = Catalog.load()
        rules = SchemaRules(catalog)
        registry = Registry(Parts(store, kinds, rules, options.clock, options.ids))
        session = await exits.enter_async_context(node_session(credentials.kubelet_context()))
        documents = OpenApi(kinds, components_of(catalog)).answer
        faces = _faces(registry, credentials, session)
        verbs = ObjectVerbs(registry, self._watchers, faces.bodies)
        handler = Handler(kinds, faces.judge, verbs, faces.subresources, documents)
        runner = web.ServerRunner(
            web.Server(
                handler,
                # A watch or a followed log ends with its client, not with its next event.
                handler_cancellation=True,
                access_log=None,
                keepalive_timeout=KEEPALIVE_SECONDS,
            ),
            shutdown_timeout=SHUTDOWN_SECONDS_MAX,
        )
        await runner.setup()
        exits.push_async_callback(runner.cleanup)
        site = web.TCPSite(
            runner,
            options.address,
            options.port,
            ssl_context=credentials.serving_context(),
        )
        try:
            await site.start()
        except OSError as error:
            raise _cannot_listen(options, error) from None
        self.port = int(runner.addresses[0][1])
        bootstrap(registry, options.address, self.port, credentials.ca.certificate.decode())
        kubeconfig.write(self.kubeconfig, self.url, credentials)


@dataclass(frozen=True, slots=True)
class _Faces:
    """What answers for more than plain objects."""

    bodies: Bodies
    judge: Credentials
    subresources: dict[tuple[str, str], Subresource]


def _faces(registry: Registry, credentials: pki.Pki, session: aiohttp.ClientSession) -> _Faces:
    bodies = Bodies(load_table())
    judge = Credentials(credentials, registry.store, registry.clock)
    writes = Subresources(registry, bodies, credentials.signing_key, registry.clock)
    table: dict[tuple[str, str], Subresource] = {
        **writes.table(),
        **Reviews(judge, bodies).table(),
        ("pods.", "log"): PodLogs(registry, session),
        ("pods.", "portforward"): PortForward(registry),
    }
    return _Faces(bodies, judge, table)


def _cannot_listen(options: ApiServerOptions, error: OSError) -> InferwayError:
    taken = error.errno == errno.EADDRINUSE
    return InferwayError(
        "INFERWAY0154",
        "the API server's address is in use" if taken else f"can not listen: {error.strerror}",
        about=f"{options.address}:{options.port}",
        fix="Stop the program that has it, or start this one with another address or port.",
    )
