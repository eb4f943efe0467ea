"""From a container of a Pod to the process to start: program, environment, mounts, limits.

Pure: everything that is looked up comes in as a value. Raises MissingError for a source that the
container needs; returns an ImageProblem for an image that cannot run.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from inferway.api.pods import Container, Pod
from inferway.local.node import images
from inferway.local.node.environment import (
    EnvironmentSources,
    MissingError,
    container_environment,
    expand,
)
from inferway.local.node.sandbox.rootfs import Mount
from inferway.local.node.sandboxes import Launch

# Taken over from the node's own environment: where programs are, and how this user writes.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "PYTHONPATH", "SSL_CERT_FILE")
PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class PodPlace:
    """Where a Pod runs. ``folders`` maps volume names to (folder or file, read-only)."""

    pod_ip: str
    host_network: bool
    isolated: bool
    folders: Mapping[str, tuple[str, bool]]
    logs: Path
    extra_mounts: tuple[Mount, ...] = ()
    account_dir: str = ""
    pick_socket: str = ""
    services: Mapping[str, str] = field(default_factory=dict)
    api_server: tuple[str, str] = ("", "")
    port_offset: int = 0
    bind_ip: str = ""
    """Where a proxy listens for the Service that it serves; empty: at ``pod_ip``."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the launch needs to know of this machine."""

    programs: images.Programs
    environment: Mapping[str, str]
    pick_module: str = ""
    """Where Envoy finds the native pick filter; empty: nowhere."""


def make_launch(
    container: Container,
    program_of: images.Mapping,
    place: PodPlace,
    sources: EnvironmentSources,
    machine: Machine,
    restart_count: int,
) -> Launch | images.ImageProblem:
    """The process of a container."""
    base = {**_own(sources.pod, machine), **place.services, **promised(place)}
    values = container_environment(container, sources, base)
    values |= promised(place)
    values |= mapped_environment(program_of, place, machine.pick_module)
    if program_of.path:
        values["PATH"] = ":".join([*machine.programs.folders(program_of), values["PATH"]])
    program = images.resolve(
        program_of,
        [expand(word, values) for word in container.command],
        [expand(word, values) for word in container.args],
        machine.programs,
    )
    if isinstance(program, images.ImageProblem):
        return program
    if program.is_picker and place.pick_socket:
        values["INFERWAY_PICK_SOCKET"] = place.pick_socket
    mounts = volume_mounts(container, place, values)
    argv = program.argv
    if not place.isolated:
        argv, values = _rewritten(argv, values, mounts)
        if place.account_dir:
            values["INFERWAY_SERVICE_ACCOUNT_DIR"] = place.account_dir
        mounts = []
    return Launch(
        argv=argv,
        env=values,
        log=str(log_file(place.logs, container.name, restart_count)),
        cwd=container.working_dir or "/",
        mounts=mounts,
        limits=_limits(),
        ports=[port.container_port for port in container.ports if port.protocol == "TCP"],
    )


def log_file(logs: Path, container: str, restart_count: int) -> Path:
    """Where a run of a container writes, as a kubelet names it."""
    return logs / container / f"{restart_count}.log"


def _own(pod: Pod, machine: Machine) -> dict[str, str]:
    values = {name: machine.environment[name] for name in INHERITED if name in machine.environment}
    beside = os.path.dirname(machine.programs.python)  # noqa: PTH120 - a text, not a file.
    values["PATH"] = f"{beside}:{values.get('PATH') or PATH_DEFAULT}"
    values["HOSTNAME"] = pod.spec.hostname or pod.metadata.name
    return values


def mapped_environment(
    mapping: images.Mapping, place: PodPlace, pick_module: str = ""
) -> dict[str, str]:
    """What an entry of the image table sets."""
    return {
        name: text.replace("{pod_ip}", place.pod_ip)
        .replace("{bind_ip}", place.bind_ip or place.pod_ip)
        .replace("{port_offset}", str(place.port_offset))
        .replace("{pick_module}", pick_module)
        for name, text in mapping.env.items()
    }


def promised(place: PodPlace) -> dict[str, str]:
    """What the node promises every container; see docs/design/contracts.md."""
    host, port = place.api_server
    values = {
        "INFERWAY_POD_IP": place.pod_ip,
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": port,
        "KUBERNETES_SERVICE_PORT_HTTPS": port,
    }
    if place.host_network:
        values["INFERWAY_LOCALHOST"] = place.pod_ip
    return values


def volume_mounts(container: Container, place: PodPlace, values: Mapping[str, str]) -> list[Mount]:
    """Where a container sees which folder. Raises MissingError."""
    mounts = list(place.extra_mounts)
    for mount in container.volume_mounts:
        if mount.name not in place.folders:
            raise MissingError(f'volume "{mount.name}" of the mount {mount.mount_path} not found')
        source, read_only = place.folders[mount.name]
        inner = mount.sub_path or expand(mount.sub_path_expr, values)
        if inner:
            source = _sub_path(source, inner)
        target = mount.mount_path if mount.mount_path.startswith("/") else f"/{mount.mount_path}"
        mounts.append((source, target.rstrip("/") or "/", read_only or mount.read_only))
    return mounts


def _sub_path(source: str, inner: str) -> str:
    if inner.startswith("/") or ".." in inner.split("/"):
        raise MissingError(f"subPath {inner!r} must be a path below its volume")
    path = os.path.join(source, inner)  # noqa: PTH118
    if not os.path.exists(path):  # noqa: PTH110
        os.makedirs(path, exist_ok=True)  # noqa: PTH103
    # Of a ConfigMap the file of this moment is bound; as in a cluster, updates do not reach it.
    return os.path.realpath(path)


def _rewritten(
    argv: list[str], values: dict[str, str], mounts: list[Mount]
) -> tuple[list[str], dict[str, str]]:
    """Where nothing can be mounted, words that begin with a mount path name the folder itself."""
    longest_first = sorted(mounts, key=lambda mount: -len(mount[1]))

    def rewrite(text: str) -> str:
        option, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
        for source, target, _ in longest_first:
            if value == target or value.startswith(target.rstrip("/") + "/"):
                return f"{option}{equals}{source}{value[len(target) :]}"
        return text

    kept = set(INHERITED)
    return (
        [argv[0], *[rewrite(word) for word in argv[1:]]],
        {name: text if name in kept else rewrite(text) for name, text in values.items()},
    )


def _limits() -> dict[str, tuple[int, int]]:
    """No core files; memory limits are a control group's, as an address space says too little."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    return {"RLIMIT_CORE": (0, hard)}


def asks_for_host_network(pod: Pod) -> bool | None:
    """What the Pod itself says; None if it leaves that to its images."""
    if pod.spec.host_network:
        return True
    wish = pod.metadata.annotations.get("inferway.dev/network", "")
    return wish == "host" if wish in {"host", "pod"} else None


def wants_host_network(pod: Pod, mappings: list[images.Mapping], *, isolated: bool) -> bool:
    """A Pod is on the host's network by wish, or if all its images are."""
    if not isolated:
        return True
    asked = asks_for_host_network(pod)
    if asked is not None:
        return asked
    return bool(mappings) and all(mapping.network == "host" for mapping in mappings)
