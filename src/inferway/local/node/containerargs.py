"""The command line of ``podman run`` or ``docker run`` for a container of a Pod. Pure.

Both programs take the same options here. What a container sees is what a process of the node sees:
its environment, its volumes at their mount paths, its address. Raises MissingError as launching.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inferway.api.pods import Container
from inferway.base import quantities
from inferway.local.node import images, launching
from inferway.local.node.environment import (
    EnvironmentSources,
    MissingError,
    container_environment,
    expand,
)
from inferway.local.node.sandbox.rootfs import Mount
from inferway.local.node.sandboxes import Launch

LABEL_STATE = "dev.inferway.state"
LABEL_POD = "dev.inferway.pod"
# The client reads these itself, so that a container's own values are given on its command line.
# All other values are passed by name: a command line can be read by every user of the machine.
_CLIENT_VARIABLES = frozenset({"PATH", "HOME", "USER", "TMPDIR", "LANG", "SSL_CERT_FILE"})
_CLIENT_PREFIXES = ("XDG_", "DOCKER_", "CONTAINER", "PODMAN_", "DBUS_", "BUILDAH_", "STORAGE_")


@dataclass(frozen=True, slots=True)
class ContainerNetwork:
    """Where a container listens.

    ``mode``: ``host``; ``join``, the Pod's own network by the path ``value``; ``publish``, a
    network of its own whose ports are offered at the address ``value``; ``share``, the network of
    the container with the name ``value``.
    """

    mode: str
    value: str = ""
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerCall:
    """Who runs it, and as what. ``client`` is the environment of the program itself."""

    program: str
    name: str
    image: str
    network: ContainerNetwork
    labels: Mapping[str, str]
    client: Mapping[str, str]
    host_name: str = ""
    with_limits: bool = False
    pod_security: Mapping[str, Any] | None = None


def make_container(
    container: Container,
    mapping: images.Mapping,
    place: launching.PodPlace,
    sources: EnvironmentSources,
    call: ContainerCall,
    restart_count: int,
) -> Launch:
    """The process that runs a container and ends with it."""
    told = launching.promised(place)
    if call.network.mode != "host":
        # Here localhost is the container's, or the Pod's.
        told.pop("INFERWAY_LOCALHOST", None)
    values = container_environment(container, sources, {**place.services, **told})
    values |= {**told, **launching.mapped_environment(mapping, place)}
    mounts = launching.volume_mounts(container, place, values)
    options = [
        *("run", "--rm", "--name", call.name, "--pull", "never", "--log-driver", "none"),
        *_network(call),
        *(f"--label={name}={text}" for name, text in sorted(call.labels.items())),
        *_security(container, call.pod_security or {}),
        *(_limits(container) if call.with_limits else ()),
        *(word for mount in mounts for word in ("--volume", _volume(mount))),
    ]
    client = dict(call.client)
    for name, text in sorted(values.items()):
        if name in _CLIENT_VARIABLES or name.startswith(_CLIENT_PREFIXES):
            options += ["--env", f"{name}={text}"]
        else:
            options += ["--env", name]
            client[name] = text
    if container.working_dir:
        options += ["--workdir", container.working_dir]
    words = [expand(word, values) for word in container.command]
    args = [expand(word, values) for word in container.args]
    if words:
        # The rest of a command comes before the args; the image's own args are not taken then.
        options += ["--entrypoint", words[0]]
    return Launch(
        argv=[call.program, *options, call.image, *words[1:], *args],
        env=client,
        log=str(launching.log_file(place.logs, container.name, restart_count)),
    )


def _network(call: ContainerCall) -> list[str]:
    network = call.network
    named = ["--hostname", call.host_name] if call.host_name else []
    match network.mode:
        case "host":
            return ["--network", "host"]
        case "join":
            return ["--network", f"ns:{network.value}", *named]
        case "share":
            return ["--network", f"container:{network.value}"]
        case _:
            published = [f"--publish={network.value}:{port}:{port}/tcp" for port in network.ports]
            return [*named, *published]


def _volume(mount: Mount) -> str:
    source, target, read_only = mount
    if ":" in source or ":" in target:
        raise MissingError(f"a container cannot have a volume with a colon in its path: {target}")
    return f"{source}:{target}:ro" if read_only else f"{source}:{target}"


def _security(container: Container, of_pod: Mapping[str, Any]) -> list[str]:
    context = {**of_pod, **container.security_context}
    options = []
    if context.get("runAsUser") is not None:
        group = context.get("runAsGroup")
        options.append(f"--user={context['runAsUser']}" + ("" if group is None else f":{group}"))
    if context.get("privileged"):
        options.append("--privileged")
    if context.get("readOnlyRootFilesystem"):
        options.append("--read-only")
    if context.get("allowPrivilegeEscalation") is False:
        options.append("--security-opt=no-new-privileges")
    capabilities = context.get("capabilities") or {}
    options += [f"--cap-drop={name}" for name in capabilities.get("drop") or ()]
    options += [f"--cap-add={name}" for name in capabilities.get("add") or ()]
    return options


def _limits(container: Container) -> list[str]:
    limits = container.resources.limits
    options = []
    if "memory" in limits:
        options.append(f"--memory={int(quantities.parse(limits['memory']))}")
    if "cpu" in limits:
        options.append(f"--cpus={float(quantities.parse(limits['cpu'])):g}")
    return options
