"""Starts containers of a Pod in podman or docker, for the entries of the image table that say so.

Joins what ``containerargs`` makes with what ``containerengine`` does. Errors are ImageProblems.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inferway.api.pods import Container, Pod, Probe
from inferway.base.errors import UsageError
from inferway.local.node import images, launching
from inferway.local.node.containerargs import (
    LABEL_POD,
    LABEL_STATE,
    ContainerCall,
    ContainerNetwork,
    make_container,
)
from inferway.local.node.containerengine import ContainerEngine
from inferway.local.node.launching import Machine
from inferway.local.node.machine import values as v
from inferway.local.node.parts import NodeParts
from inferway.local.node.placing import PodFolder
from inferway.local.node.podsandbox import Contained, PodSandbox
from inferway.local.node.sandboxes import Isolation


@dataclass(frozen=True, slots=True)
class ContainerStart:
    """What is to be started, and where."""

    container: Container
    mapping: images.Mapping
    place: launching.PodPlace
    restart_count: int


@dataclass(frozen=True, slots=True)
class Containing:
    """Starts the containers of one Pod; ``put`` takes events of the Pod's machine."""

    parts: NodeParts
    folder: PodFolder
    put: Callable[[v.Event], None]

    async def start(self, wish: ContainerStart, sandbox: PodSandbox) -> images.ImageProblem | None:
        """Fetches the image and starts the container, or says why not.

        Raises MissingError, InferwayError, OSError.
        """
        container = wish.container
        engine = engine_of(images.runtime_of(self.parts.table, wish.mapping), self.parts.machine)
        if isinstance(engine, images.ImageProblem):
            return engine
        image = await engine.image(
            container.image,
            container.image_pull_policy,
            self.parts.steady.now,
            lambda: self.put(v.Pulling(container.name)),
        )
        if isinstance(image, images.ImageProblem):
            return image
        async with sandbox.starting:
            network = self._network(container, wish.mapping, sandbox)
            name = sandbox.next_name(self.folder.pod.metadata.uid, container.name)
            call = self._call(engine, name, container, network)
            sources = self.folder.environment()
            launch = make_container(
                container, wish.mapping, wish.place, sources, call, wish.restart_count
            )
            Path(launch.log).parent.mkdir(parents=True, exist_ok=True)
            _remember(self.parts.options.state, engine.runtime)
            publishes = network.mode == "publish"
            run = Contained(engine, name, image.ident, image.pulled, publishes)
            await sandbox.start_contained(container.name, launch, run)
            if publishes:
                # The next container joins the network that this one makes.
                await sandbox.until_running(container.name, run)
        return None

    def _call(
        self, engine: ContainerEngine, name: str, container: Container, network: ContainerNetwork
    ) -> ContainerCall:
        pod = self.folder.pod
        uid = pod.metadata.uid
        return ContainerCall(
            program=engine.program,
            name=name,
            image=container.image,
            network=network,
            labels={LABEL_STATE: state_label(self.parts.options.state), LABEL_POD: uid},
            client=engine.environment,
            host_name=pod.spec.hostname or pod.metadata.name,
            with_limits=_may_limit(self.parts, engine.runtime),
            pod_security=pod.spec.security_context,
        )

    def _network(
        self, container: Container, mapping: images.Mapping, sandbox: PodSandbox
    ) -> ContainerNetwork:
        pod = self.folder.pod
        asked = launching.asks_for_host_network(pod)
        if asked or (asked is None and mapping.network == "host"):
            return ContainerNetwork("host")
        runtime = images.runtime_of(self.parts.table, mapping)
        if can_join(runtime, self.parts.isolation):
            return ContainerNetwork("join", sandbox.network_path)
        if sandbox.publisher:
            return ContainerNetwork("share", sandbox.publisher)
        ports = sorted(
            port for one in contained_specs(self.parts.table, pod) for port in known_ports(one)
        )
        return ContainerNetwork("publish", self.folder.pod_ip, tuple(dict.fromkeys(ports)))


def engine_of(runtime: images.Runtime, machine: Machine) -> ContainerEngine | images.ImageProblem:
    """The container engine of this machine."""
    program = machine.programs.find(runtime)
    if program is None:
        return images.ImageProblem("CreateContainerError", _not_there(runtime))
    return ContainerEngine(runtime, program, machine.environment)


def _not_there(runtime: str) -> str:
    return (
        f"{runtime} is not installed [INFERWAY0209]: install it (on Debian: apt install "
        f"{runtime if runtime == 'podman' else 'docker.io'}), or let a program of this machine "
        "stand for the image: runtime: process"
    )


async def require_engine(runtime: images.Runtime, machine: Machine) -> None:
    """Raises UsageError where ``--runtime`` names what this machine does not have."""
    if runtime == "process":
        return
    about = f"--runtime {runtime}"
    engine = engine_of(runtime, machine)
    if isinstance(engine, images.ImageProblem):
        raise UsageError(
            "INFERWAY0209",
            f"{runtime} is not installed",
            about=about,
            fix="Install it, or leave --runtime out: programs of this machine stand for images.",
        )
    reason = await engine.complaint()
    if reason:
        raise UsageError(
            "INFERWAY0209",
            f"{runtime} does not work: {reason}",
            about=about,
            fix=f"See what `{runtime} info` says, or leave --runtime out.",
        )


def can_join(runtime: images.Runtime, isolation: Isolation) -> bool:
    """A container can be put into the Pod's own network: by root's podman only."""
    own = isolation.level != "none" and isolation.network and not isolation.user_namespace
    return runtime == "podman" and own and os.geteuid() == 0


def contained_specs(table: images.ImageTable, pod: Pod) -> list[Container]:
    """The containers of a Pod that an engine runs."""
    found = []
    for container in (*pod.spec.init_containers, *pod.spec.containers):
        mapping = images.find_mapping(table, container.image, pull_never=False)
        if isinstance(mapping, images.Mapping) and images.runtime_of(table, mapping) != "process":
            found.append(container)
    return found


def leaves_pod_network(table: images.ImageTable, pod: Pod, isolation: Isolation) -> bool:
    """Some container cannot be in the Pod's own network, so the Pod has none."""
    for container in contained_specs(table, pod):
        mapping = images.find_mapping(table, container.image, pull_never=False)
        assert isinstance(mapping, images.Mapping)
        if not can_join(images.runtime_of(table, mapping), isolation):
            return True
    return False


def known_ports(container: Container) -> list[int]:
    """The ports that a container declares, and those of its probes."""
    ports = [port.container_port for port in container.ports if port.protocol == "TCP"]
    probes = (container.liveness_probe, container.readiness_probe, container.startup_probe)
    return ports + [port for probe in probes if probe is not None for port in _probe_ports(probe)]


def _probe_ports(probe: Probe) -> list[int]:
    actions = (probe.http_get, probe.tcp_socket, probe.grpc)
    found = [action.port for action in actions if action is not None]
    return [port for port in found if isinstance(port, int)]


def _may_limit(parts: NodeParts, runtime: images.Runtime) -> bool:
    return runtime == "docker" or os.geteuid() == 0 or parts.limits.folder is not None


def state_label(state: Path) -> str:
    """What marks the containers of one stack."""
    return hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:16]


def _remember(state: Path, runtime: images.Runtime) -> None:
    """A later node looks for leftovers only where there can be some."""
    folder = state / "engines"
    folder.mkdir(exist_ok=True)
    (folder / runtime).touch()


async def remove_leftovers(state: Path, machine: Machine) -> int:
    """Removes containers of a node that was killed; how many there were."""
    count = 0
    runtimes: tuple[images.Runtime, ...] = ("podman", "docker")
    for runtime in runtimes:
        engine = engine_of(runtime, machine)
        if isinstance(engine, images.ImageProblem) or not (state / "engines" / runtime).exists():
            continue
        names = await engine.leftovers(f"{LABEL_STATE}={state_label(state)}")
        await engine.remove(names)
        count += len(names)
    return count
