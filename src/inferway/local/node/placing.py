"""Keeps the folders of one Pod's volumes as the Pod and the objects behind it say.

Knows the caches, the TokenRequest API and the file system. ``prepare`` makes everything or raises
MissingError; ``refresh`` brings changed sources into files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inferway.api.pods import (
    Container,
    HostPathVolume,
    Pod,
    ServiceAccountTokenProjection,
    Volume,
)
from inferway.api.resources import SERVICE_ACCOUNTS
from inferway.base.clock import parse_rfc3339
from inferway.base.errors import InferwayError
from inferway.cluster.store import Key
from inferway.local.node import volumes
from inferway.local.node.atomic import write_files
from inferway.local.node.environment import (
    EnvironmentSources,
    MissingError,
    config_map_data,
    secret_data,
)
from inferway.local.node.parts import NodeParts
from inferway.local.node.sandbox.rootfs import Mount

# A kubelet renews a token when four fifths of its life are over.
TOKEN_LIFE_USED = 0.8
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
Data = dict[str, bytes]


@dataclass(slots=True)
class _Token:
    text: bytes
    renew_at: float


@dataclass(slots=True)
class PodFolder:
    """One Pod's folder under the node's state."""

    parts: NodeParts
    pod: Pod
    root: Path
    pod_ip: str = ""
    folders: dict[str, tuple[str, bool]] = field(default_factory=dict)
    specs: tuple[Volume, ...] = ()
    account_dir: str = ""
    _seen: tuple[object, ...] = ()
    _tokens: dict[tuple[str, str], _Token] = field(default_factory=dict)
    _maps: dict[str, Data | None] = field(default_factory=dict)
    _secrets: dict[str, Data | None] = field(default_factory=dict)

    async def prepare(self) -> None:
        """Makes all volumes. Raises MissingError, OSError, InferwayError."""
        with_account = await self._wants_account()
        self.specs = volumes.pod_volumes(self.pod, with_account=with_account)
        for volume in self.specs:
            self._place(volume)
        await self.refresh()

    def is_stale(self) -> bool:
        """An object behind the files has changed since the last ``refresh``."""
        renewal = self.token_renewal()
        due = renewal is not None and self.parts.steady.now() >= renewal
        return due or self._versions() != self._seen

    def _versions(self) -> tuple[object, ...]:
        namespace, meta = self.pod.metadata.namespace, self.pod.metadata
        maps, secrets = volumes.uses(self.specs)
        caches = self.parts.caches
        found: list[object] = [meta.labels, meta.annotations]
        for cache, names in ((caches.config_maps, maps), (caches.secrets, secrets)):
            for name in sorted(names):
                entry = cache.store.entry(Key(namespace, name))
                found.append(None if entry is None else (entry.uid, entry.version))
        return tuple(found)

    async def refresh(self) -> bool:
        """Writes what has changed; True if something had. Raises as ``prepare``."""
        self._seen = self._versions()
        await self._look_up()
        sources = self.sources()
        changed = False
        for volume in self.specs:
            try:
                files = volumes.volume_files(volume, sources)
            except MissingError as error:
                raise MissingError(
                    f'MountVolume.SetUp failed for volume "{volume.name}" : {error}'
                ) from None
            if files is not None:
                changed = write_files(self.root / "volumes" / volume.name, files) or changed
        return changed

    def token_renewal(self) -> float | None:
        """When the next token must be renewed, in seconds since the epoch."""
        return min((token.renew_at for token in self._tokens.values()), default=None)

    def environment(self) -> EnvironmentSources:
        """Where variables come from, as of the last look."""

        def text(data: Data | None) -> dict[str, str] | None:
            if data is None:
                return None
            return {key: value.decode(errors="replace") for key, value in data.items()}

        return EnvironmentSources(
            pod=self.pod,
            pod_ip=self.pod_ip,
            host_ip=self.parts.options.host_ip,
            node_name=self.parts.options.name,
            config_map=lambda name: text(self._maps.get(name)),
            secret=lambda name: text(self._secrets.get(name)),
            allocatable=self.parts.allocatable,
        )

    def sources(self) -> volumes.VolumeSources:
        return volumes.VolumeSources(
            self.environment(), self._maps.get, self._secrets.get, self._token
        )

    async def look_up_environment(self, container: Container) -> None:
        """Reads the objects that a container's variables name."""
        maps, secrets = environment_names(container)
        await self._read(maps, secrets)

    def extra_mounts(self, host_name: str) -> tuple[Mount, ...]:
        """Files that every container sees: its names, and its service account."""
        hosts = self.root / "hosts"
        lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
        lines += [f"{self.pod_ip} {host_name}"]
        lines += [f"{alias.ip} {' '.join(alias.hostnames)}" for alias in self.pod.spec.host_aliases]
        hosts.write_text("\n".join(lines) + "\n")
        mounts: list[Mount] = [(str(hosts), "/etc/hosts", False)]
        if self.account_dir:
            mounts.append((self.account_dir, volumes.SERVICE_ACCOUNT_DIR, True))
        return tuple(mounts)

    def remove(self) -> None:
        """Takes everything away."""
        shutil.rmtree(self.root, ignore_errors=True)
        for volume in self.specs:
            shutil.rmtree(self._memory_folder(volume), ignore_errors=True)

    async def _wants_account(self) -> bool:
        spec = self.pod.spec
        if not spec.automount_service_account_token:
            return False
        name = spec.service_account_name or "default"
        accounts = self.parts.caches.accounts
        account = await self.parts.find(accounts, self.pod.metadata.namespace, name)
        if account is None:
            # The API server's admission refuses such Pods; without it the account may come later.
            raise MissingError(f'serviceaccount "{name}" not found')
        return account.get("automountServiceAccountToken") is not False

    def _place(self, volume: Volume) -> None:
        folder = self.root / "volumes" / volume.name
        read_only = False
        if volume.host_path is not None:
            folder = _host_path(volume.host_path)
        elif volume.empty_dir is not None and volume.empty_dir.medium == "Memory":
            folder = self._memory_folder(volume)
            folder.mkdir(parents=True, exist_ok=True)
        elif volume.persistent_volume_claim is not None:
            raise MissingError(
                f'volume "{volume.name}" is a persistentVolumeClaim, which this node does not '
                "have [INFERWAY0207]: use an emptyDir or a hostPath"
            )
        else:
            folder.mkdir(parents=True, exist_ok=True)
            read_only = any((volume.config_map, volume.secret, volume.downward_api))
            read_only = read_only or volume.projected is not None
        self.folders[volume.name] = (str(folder.resolve()), read_only)
        if volume.name == volumes.service_account_volume().name:
            self.account_dir = str(folder.resolve())

    def _memory_folder(self, volume: Volume) -> Path:
        if not os.access(SHARED_MEMORY, os.W_OK):
            return self.root / "volumes" / volume.name
        prefix = memory_prefix(self.parts.options.state)
        return SHARED_MEMORY / f"{prefix}{self.pod.metadata.uid}-{volume.name}"

    async def _look_up(self) -> None:
        maps, secrets = volumes.uses(self.specs)
        await self._read(maps, secrets)
        now = self.parts.steady.now()
        for volume in self.specs:
            for source in volume.projected.sources if volume.projected is not None else ():
                wish = source.service_account_token
                if wish is None:
                    continue
                known = self._tokens.get((wish.path, wish.audience))
                if known is None or now >= known.renew_at:
                    self._tokens[wish.path, wish.audience] = await self._request_token(wish)

    async def _read(self, maps: set[str], secrets: set[str]) -> None:
        namespace = self.pod.metadata.namespace
        for name in maps:
            found = await self.parts.find(self.parts.caches.config_maps, namespace, name)
            self._maps[name] = None if found is None else config_map_data(found)
            if found is None and name == volumes.ROOT_CA:
                ca = self.parts.client.config.ca
                self._maps[name] = {"ca.crt": ca} if ca is not None else None
        for name in secrets:
            found = await self.parts.find(self.parts.caches.secrets, namespace, name)
            self._secrets[name] = None if found is None else secret_data(found)

    def _token(self, wish: ServiceAccountTokenProjection) -> bytes | None:
        known = self._tokens.get((wish.path, wish.audience))
        return known.text if known is not None else None

    async def _request_token(self, wish: ServiceAccountTokenProjection) -> _Token:
        name = self.pod.spec.service_account_name or "default"
        meta = self.pod.metadata
        body: dict[str, Any] = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [wish.audience] if wish.audience else [],
                "expirationSeconds": wish.expiration_seconds,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "name": meta.name,
                    "uid": meta.uid,
                },
            },
        }
        path = f"{SERVICE_ACCOUNTS.path(meta.namespace, name)}/token"
        try:
            answer = await self.parts.client.request("POST", path, body)
            status = answer["status"]
            ends = parse_rfc3339(status["expirationTimestamp"])
        except InferwayError as error:
            raise MissingError(f"failed to fetch token: {error}") from None
        now = self.parts.steady.now()
        return _Token(str(status["token"]).encode(), now + (ends - now) * TOKEN_LIFE_USED)


def memory_prefix(state: Path) -> str:
    """The beginning of names under /dev/shm that belong to one state folder."""
    return f"inferway-{hashlib.sha256(str(state).encode()).hexdigest()[:8]}-"


def _host_path(volume: HostPathVolume) -> Path:
    path = Path(volume.path)
    if volume.type == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif volume.type == "FileOrCreate":
        path.touch(exist_ok=True)
    elif not path.exists():
        raise MissingError(f"hostPath {volume.path} does not exist")
    return path


def environment_names(container: Container) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and Secrets that a container's variables come from."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for source in container.env_from:
        if source.config_map_ref is not None:
            maps.add(source.config_map_ref.name)
        if source.secret_ref is not None:
            secrets.add(source.secret_ref.name)
    for variable in container.env:
        origin = variable.value_from
        if origin is not None and origin.config_map_key_ref is not None:
            maps.add(origin.config_map_key_ref.name)
        if origin is not None and origin.secret_key_ref is not None:
            secrets.add(origin.secret_key_ref.name)
    return maps, secrets
