"""Service account tokens: JSON Web Tokens signed with ES256.

Knows the claims that Kubernetes puts in. Whether the account still exists is asked by the caller.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

ISSUER = "https://kubernetes.default.svc.cluster.local"
_HALF_BYTES = 32


@dataclass(frozen=True, slots=True)
class Binding:
    """Whose token it is. ``bound_kind`` is Pod, Secret, Node or empty."""

    namespace: str
    account: str
    account_uid: str
    bound_kind: str = ""
    bound_name: str = ""
    bound_uid: str = ""


def sign(
    key: ec.EllipticCurvePrivateKey,
    binding: Binding,
    audiences: list[str],
    issued_at: float,
    expires_at: float,
) -> str:
    """A token that is good from ``issued_at`` to ``expires_at`` (seconds since the epoch)."""
    inner: dict[str, Any] = {
        "namespace": binding.namespace,
        "serviceaccount": {"name": binding.account, "uid": binding.account_uid},
    }
    if binding.bound_kind:
        inner[binding.bound_kind.lower()] = {"name": binding.bound_name, "uid": binding.bound_uid}
    claims = {
        "aud": audiences,
        "exp": int(expires_at),
        "iat": int(issued_at),
        "nbf": int(issued_at),
        "iss": ISSUER,
        "kubernetes.io": inner,
        "sub": f"system:serviceaccount:{binding.namespace}:{binding.account}",
    }
    head = {"alg": "ES256", "typ": "JWT"}
    text = b".".join(_encode(msgspec.json.encode(part)) for part in (head, claims))
    r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(_HALF_BYTES, "big") + s.to_bytes(_HALF_BYTES, "big")
    return (text + b"." + _encode(signature)).decode()


def verify(key: ec.EllipticCurvePublicKey, token: str, audience: str, now: float) -> Binding | None:
    """The binding of a good token; None for anything else."""
    try:
        head, claims, signature = token.encode("ascii").split(b".")
        raw = _decode(signature)
        if len(raw) != 2 * _HALF_BYTES or msgspec.json.decode(_decode(head))["alg"] != "ES256":
            return None
        r, s = (int.from_bytes(half, "big") for half in (raw[:_HALF_BYTES], raw[_HALF_BYTES:]))
        key.verify(encode_dss_signature(r, s), head + b"." + claims, ec.ECDSA(hashes.SHA256()))
        content = msgspec.json.decode(_decode(claims))
        good = (
            content["iss"] == ISSUER
            and content["nbf"] <= now < content["exp"]
            and audience in content["aud"]
        )
        return _binding(content["kubernetes.io"]) if good else None
    except (ValueError, KeyError, TypeError, InvalidSignature, binascii.Error):
        return None


def _binding(inner: dict[str, Any]) -> Binding:
    account = inner["serviceaccount"]
    plain = Binding(inner["namespace"], account["name"], account["uid"])
    for kind in ("Pod", "Secret", "Node"):
        bound = inner.get(kind.lower())
        if bound:
            return replace(plain, bound_kind=kind, bound_name=bound["name"], bound_uid=bound["uid"])
    return plain


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decode(data: bytes) -> bytes:
    return base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4))
