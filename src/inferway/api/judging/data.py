"""ConfigMaps and Secrets."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from inferway.api.codec import Object
from inferway.api.judging import words
from inferway.api.judging.words import Errors
from inferway.api.schema import errors

# What etcd takes, and so what Kubernetes promises.
TOTAL_BYTES_MAX = 1_048_576


def judge_config_map(config_map: Object, old: Object | None) -> Errors:
    data, binary = (config_map.get(name) or {} for name in ("data", "binaryData"))
    for name in data:
        yield from words.config_key(errors.key("data", name), name)
        if name in binary:
            text = "duplicate of key present in binaryData"
            yield errors.invalid(errors.key("data", name), name, text)
    for name in binary:
        yield from words.config_key(errors.key("binaryData", name), name)
    total = sum(len(value.encode()) for value in data.values()) + _decoded_bytes(binary)
    if total > TOTAL_BYTES_MAX:
        yield errors.too_long("", TOTAL_BYTES_MAX)
    yield from _immutable(config_map, old, ("data", "binaryData"))


def judge_secret(secret: Object, old: Object | None) -> Errors:
    data = secret.get("data") or {}
    for name in data:
        yield from words.config_key(errors.key("data", name), name)
    if _decoded_bytes(data) > TOTAL_BYTES_MAX:
        yield errors.too_long("data", TOTAL_BYTES_MAX)
    wanted = _WANTED_KEYS.get(secret.get("type") or "", ())
    for name in wanted:
        if name not in data:
            yield errors.required(errors.key("data", name))
    yield from _immutable(secret, old, ("data",))


_WANTED_KEYS = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _decoded_bytes(values: Mapping[str, str]) -> int:
    total = 0
    for value in values.values():
        try:
            total += len(base64.b64decode(value))
        except (binascii.Error, ValueError):
            total += len(value)
    return total


def _immutable(obj: Object, old: Object | None, names: tuple[str, ...]) -> Errors:
    if old is None or not old.get("immutable"):
        return
    text = "field is immutable when `immutable` is set"
    if not obj.get("immutable"):
        yield errors.forbidden("immutable", text)
    for name in names:
        if (obj.get(name) or {}) != (old.get(name) or {}):
            yield errors.forbidden(name, text)
