"""Which pools a picker picks for, from its command line and environment. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from inferway.api import labels
from inferway.base.errors import UsageError

DEFAULT_NAMESPACE = "default"
# As InferencePool allows.
TARGET_PORTS_MAX = 8
# Each pool has its own scheduler and scrapes; each has a letter in the ids of its picks.
POOLS_MAX = 26
# A pool without a name is called as the picker's Deployment is: the Pod without its two hashes.
_DEPLOYMENT_OF_POD = re.compile(r"(.+)-[a-z0-9]+-[a-z0-9]+")
NAMELESS = "endpoints"


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One pool: an InferencePool, Pods by label, a file, or servers that are given."""

    namespace: str
    name: str
    group: str
    # Label selector and ports of Pods that no InferencePool selects.
    selector: str = ""
    ports: tuple[int, ...] = ()
    # host:port
    endpoints: tuple[str, ...] = ()
    # A file of servers, and whether it is read again.
    file: str = ""
    watch_file: bool = False
    # The servers are given, though there may be none.
    static: bool = False

    @property
    def in_cluster(self) -> bool:
        """Whether its servers are found in Kubernetes."""
        return not (self.static or self.file)

    @property
    def is_named_only(self) -> bool:
        """Whether no flag says where its servers are."""
        return self.in_cluster and not self.selector


def pool_specs(values: Mapping[str, str], env: Mapping[str, str]) -> tuple[PoolSpec, ...]:
    """At least one unless a configuration may still name a file of servers. Raises UsageError."""
    names = _split(values["pool-name"])
    namespaces = _split(values["pool-namespace"]) or (env.get("NAMESPACE") or DEFAULT_NAMESPACE,)
    groups = _split(values["pool-group"]) or ("",)
    selector = values["endpoint-selector"]
    endpoints = _endpoints(values["endpoints"])
    file = values["endpoints-file"]
    sources = [bool(endpoints), bool(file), bool(selector)]
    if sum(sources) > 1 or (selector and names):
        raise UsageError(
            "INFERWAY0405",
            "--pool-name, --endpoint-selector, --endpoints and --endpoints-file name servers in "
            "ways that exclude each other",
            fix="Give one of them; --pool-name may name the pool of --endpoints or "
            "--endpoints-file.",
        )
    if any(sources):
        if len(names) > 1:
            raise UsageError(
                "INFERWAY0405",
                f"one list of servers can not be {len(names)} pools",
                fix="Give one --pool-name.",
            )
        base = _pool(names[0] if names else nameless(env), namespaces[0], groups[0])
        if selector:
            return (replace(base, selector=_selector(selector), ports=_ports(values)),)
        if file:
            return (replace(base, file=file, watch_file=True),)
        return (replace(base, endpoints=endpoints, static=True),)
    _same_length("pool-namespace", namespaces, names)
    _same_length("pool-group", groups, names)
    found = [
        _pool(
            name,
            namespaces[index if len(namespaces) > 1 else 0],
            groups[index if len(groups) > 1 else 0],
        )
        for index, name in enumerate(names)
    ]
    _distinct(found)
    return tuple(found)


def file_pool(
    values: Mapping[str, str], env: Mapping[str, str], path: str, watch: bool
) -> PoolSpec:
    """The one pool of a file that a configuration names."""
    asked = {"pool-name": values["pool-name"] or nameless(env), "endpoints-file": path}
    return replace(pool_specs({**values, **asked}, env)[0], watch_file=watch)


def nameless(env: Mapping[str, str]) -> str:
    """What a pool is called that nobody gave a name."""
    match = _DEPLOYMENT_OF_POD.fullmatch(env.get("POD_NAME", ""))
    return match[1] if match else NAMELESS


def _pool(text: str, namespace: str, group: str) -> PoolSpec:
    """``name``, or ``namespace/name``."""
    own, slash, name = text.rpartition("/")
    return PoolSpec(own if slash else namespace, name, group)


def _distinct(pools: list[PoolSpec]) -> None:
    if len(pools) > POOLS_MAX:
        raise UsageError(
            "INFERWAY0405",
            f"--pool-name names {len(pools)} pools; a picker has {POOLS_MAX} at most",
            fix="Start further pickers.",
        )
    keys = [f"{pool.namespace}/{pool.name}" for pool in pools]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(
                "INFERWAY0405",
                f"--pool-name names {key} twice",
                fix="Name each pool once; a pool of each group needs its own name or namespace.",
            )


def _same_length(flag: str, values: tuple[str, ...], names: tuple[str, ...]) -> None:
    if len(values) > 1 and len(values) != len(names):
        raise UsageError(
            "INFERWAY0405",
            f"--{flag} has {len(values)} parts, --pool-name {len(names)}",
            fix=f"Give --{flag} once, or once for each pool.",
        )


def _selector(text: str) -> str:
    try:
        labels.parse(text)
    except ValueError as error:
        raise UsageError(
            "INFERWAY0403",
            f"--endpoint-selector: {error}",
            fix="--endpoint-selector 'app=vllm,tier in (a,b)'",
        ) from None
    return text


def _ports(values: Mapping[str, str]) -> tuple[int, ...]:
    parts = _split(values["endpoint-target-ports"])
    ports = tuple(dict.fromkeys(int(p) for p in parts if p.isdigit() and 0 < int(p) < 65536))
    if not ports or len(parts) > TARGET_PORTS_MAX or not all(p.isdigit() for p in parts):
        raise UsageError(
            "INFERWAY0403",
            f"--endpoint-target-ports: {values['endpoint-target-ports']!r} is not a list of 1 to "
            f"{TARGET_PORTS_MAX} ports",
            fix="--endpoint-target-ports 8000,8001",
        )
    return ports


def _endpoints(text: str) -> tuple[str, ...]:
    parts = _split(text)
    for address in parts:
        host, colon, port = address.rpartition(":")
        bare = ":" not in host or (host.startswith("[") and host.endswith("]"))
        if not (host and colon and bare and port.isdigit() and 0 < int(port) < 65536):
            raise UsageError(
                "INFERWAY0403",
                f"--endpoints: {address!r} is not host:port",
                fix="--endpoints 127.0.0.1:8000,[::1]:8001",
            )
    return parts


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
