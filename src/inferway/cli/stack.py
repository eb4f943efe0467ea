"""The cluster that ``inferway up`` is: API server, controllers and node in one event loop.

They talk to each other over the API server's address only, as separate processes would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from inferway.cli.state import API_PORT, StateFolder
from inferway.cluster import kubeconfig
from inferway.cluster.client import KubeClient
from inferway.local.apiserver.server import ApiServer, ApiServerOptions
from inferway.local.controllers import main as controllers
from inferway.local.node import main as node
from inferway.local.node.images import Engine, Runtime
from inferway.local.node.options import NodeOptions


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Where a stack lives and what its node claims to have."""

    folder: StateFolder
    network: str
    node_capacity: str | None
    images: str | None
    user_images: Path | None = None
    runtime: Runtime = "process"
    engine: Engine = "simulator"
    engine_programs: Path | None = None


@asynccontextmanager
async def running_stack(options: StackOptions) -> AsyncIterator[None]:
    """Runs the cluster while the block runs; a part that fails ends the block.

    The node ends its Pods before the API server goes, so that their last words are recorded.
    """
    folder = options.folder
    server = ApiServer(
        ApiServerOptions(
            state=folder.api,
            address=f"{options.network}.0.1",
            port=API_PORT,
            kubeconfig=folder.kubeconfig,
        )
    )
    async with (
        server,
        KubeClient(kubeconfig.load(folder.kubeconfig)) as client,
        asyncio.TaskGroup() as group,
    ):
        parts = [
            group.create_task(
                controllers.run(client, controllers.ControllerOptions.for_stack(options.network)),
                name="controllers",
            ),
            group.create_task(node.run(client, _node_options(options)), name="node"),
        ]
        try:
            yield
        finally:
            for part in parts:
                part.cancel()


def _node_options(options: StackOptions) -> NodeOptions:
    return NodeOptions(
        state=options.folder.node,
        network=options.network,
        capacity=options.node_capacity,
        images=Path(options.images).absolute() if options.images else None,
        user_images=options.user_images,
        runtime=options.runtime,
        engine=options.engine,
        engine_programs=options.engine_programs,
        client_ca=options.folder.api / "pki" / "ca.crt",
    )
