"""What the node is told by whoever starts it, and what its parts share."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from inferway.base.clock import Clock, SystemClock
from inferway.local.node.images import Engine, Runtime

KUBELET_PORT = 10250


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """``state`` is the node's own folder; ``network`` the first two bytes, such as ``127.77``.

    Without ``serving_certificate`` and ``serving_key`` (PEM files) the node makes its own, and
    without ``client_ca`` (PEM file) nobody may call it but for /healthz.
    """

    state: Path
    network: str = "127.77"
    name: str = "inferway"
    capacity: str | None = None
    images: Path | None = None
    serving_certificate: Path | None = None
    serving_key: Path | None = None
    client_ca: Path | None = None
    kubelet_port: int = KUBELET_PORT
    python: str = sys.executable
    user_images: Path | None = None
    """Image mappings of all stacks of a user; looked at after those of this stack."""
    runtime: Runtime = "process"
    """What runs images whose entry in the image table does not say."""
    engine: Engine = "simulator"
    """What stands for images of vLLM: entries of the image table may hold for one engine only."""
    engine_programs: Path | None = None
    """With engine vllm the folder of its programs ``vllm`` and ``python3``: ``{vllm}`` there."""
    host_only: bool = False
    """Behaves as on a machine that refuses namespaces."""
    end_seconds: float = 10.0
    """How long Pods may take to end when the node does."""
    clock: Clock = field(default_factory=SystemClock)

    @property
    def host_ip(self) -> str:
        """The node's own address."""
        return f"{self.network}.0.2"
