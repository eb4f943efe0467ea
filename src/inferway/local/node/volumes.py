"""The files of ConfigMap, Secret, downwardAPI and projected volumes. Pure.

``volume_files`` says which files a volume is to have; ``atomic.py`` writes them. Raises
MissingError, in a kubelet's words, where something that is not optional is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from inferway.api.pods import (
    DownwardAPIFile,
    DownwardAPIVolume,
    KeyToPath,
    ObjectFieldSelector,
    Pod,
    ProjectedVolume,
    SecretProjection,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from inferway.local.node.environment import (
    EnvironmentSources,
    MissingError,
    field_value,
    resource_value,
)

SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3607
ROOT_CA = "kube-root-ca.crt"
_MODE_DEFAULT = 0o644

Data = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class File:
    """Content and permission bits."""

    content: bytes
    mode: int = _MODE_DEFAULT


@dataclass(frozen=True, slots=True)
class VolumeSources:
    """Where contents come from; the functions return None for an object that is not there."""

    environment: EnvironmentSources
    config_map: Callable[[str], Data | None]
    secret: Callable[[str], Data | None]
    token: Callable[[ServiceAccountTokenProjection], bytes | None]


def service_account_volume() -> Volume:
    """What the API server's admission adds to a Pod: token, CA and namespace."""
    return Volume(
        name="kube-api-access-inferway",
        projected=ProjectedVolume(
            sources=(
                VolumeProjection(
                    service_account_token=ServiceAccountTokenProjection(
                        path="token", expiration_seconds=TOKEN_SECONDS
                    )
                ),
                VolumeProjection(
                    config_map=SecretProjection(
                        name=ROOT_CA, items=(KeyToPath(key="ca.crt", path="ca.crt"),)
                    )
                ),
                VolumeProjection(downward_api=_namespace_file()),
            )
        ),
    )


def _namespace_file() -> DownwardAPIVolume:
    path = ObjectFieldSelector(field_path="metadata.namespace")
    return DownwardAPIVolume(items=(DownwardAPIFile(path="namespace", field_ref=path),))


def volume_files(volume: Volume, sources: VolumeSources) -> dict[str, File] | None:
    """Path to file; None for a volume that is not made of files that others write."""
    if volume.config_map is not None:
        spec = volume.config_map
        data = sources.config_map(spec.name)
        return _chosen(data, spec.items, spec.default_mode, ("configmap", spec.name, spec.optional))
    if volume.secret is not None:
        secret = volume.secret
        data = sources.secret(secret.secret_name)
        about = ("secret", secret.secret_name, secret.optional)
        return _chosen(data, secret.items, secret.default_mode, about)
    if volume.downward_api is not None:
        api = volume.downward_api
        return _downward(api.items, api.default_mode, sources.environment)
    if volume.projected is not None:
        found: dict[str, File] = {}
        for source in volume.projected.sources:
            found |= _projection(source, volume.projected.default_mode, sources)
        return found
    return None


def _projection(source: VolumeProjection, mode: int, sources: VolumeSources) -> dict[str, File]:
    if source.config_map is not None:
        part = source.config_map
        about = ("configmap", part.name, part.optional)
        return _chosen(sources.config_map(part.name), part.items, mode, about)
    if source.secret is not None:
        part = source.secret
        about = ("secret", part.name, part.optional)
        return _chosen(sources.secret(part.name), part.items, mode, about)
    if source.downward_api is not None:
        return _downward(source.downward_api.items, mode, sources.environment)
    if source.service_account_token is not None:
        token = sources.token(source.service_account_token)
        if token is None:
            raise MissingError("failed to fetch token")
        return {source.service_account_token.path: File(token, mode)}
    return {}


def _chosen(
    data: Data | None, items: tuple[KeyToPath, ...], mode: int, about: tuple[str, str, bool]
) -> dict[str, File]:
    kind, name, optional = about
    if data is None:
        if optional:
            return {}
        raise MissingError(f'{kind} "{name}" not found')
    if not items:
        return {key: File(content, mode) for key, content in data.items()}
    found = {}
    for item in items:
        if item.key not in data:
            if optional:
                continue
            raise MissingError(f"references non-existent {kind} key: {item.key}")
        found[item.path] = File(data[item.key], mode if item.mode is None else item.mode)
    return found


def _downward(
    items: tuple[DownwardAPIFile, ...], mode: int, sources: EnvironmentSources
) -> dict[str, File]:
    found = {}
    for item in items:
        text = ""
        if item.field_ref is not None:
            text = field_value(item.field_ref, sources)
        elif item.resource_field_ref is not None:
            own = sources.pod.spec.containers[0]
            text = resource_value(item.resource_field_ref, own, sources)
        found[item.path] = File(text.encode(), mode if item.mode is None else item.mode)
    return found


def pod_volumes(pod: Pod, *, with_account: bool) -> tuple[Volume, ...]:
    """The volumes of a Pod, and its service account's where nothing else is mounted there."""
    if with_account and needs_account(pod):
        return (*pod.spec.volumes, service_account_volume())
    return pod.spec.volumes


def needs_account(pod: Pod) -> bool:
    """No container mounts something at the service account's place itself."""
    return not any(
        mount.mount_path.rstrip("/") == SERVICE_ACCOUNT_DIR
        for container in (*pod.spec.containers, *pod.spec.init_containers)
        for mount in container.volume_mounts
    )


def uses(volumes: tuple[Volume, ...]) -> tuple[set[str], set[str]]:
    """Names of the ConfigMaps and of the Secrets whose changes matter."""
    maps: set[str] = set()
    secrets: set[str] = set()
    for volume in volumes:
        if volume.config_map is not None:
            maps.add(volume.config_map.name)
        if volume.secret is not None:
            secrets.add(volume.secret.secret_name)
        for source in volume.projected.sources if volume.projected is not None else ():
            if source.config_map is not None:
                maps.add(source.config_map.name)
            if source.secret is not None:
                secrets.add(source.secret.name)
    return maps, secrets
