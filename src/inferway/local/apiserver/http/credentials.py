"""Who asks: client certificates of the cluster's CA, the admin's token, service account tokens."""

from __future__ import annotations

import hmac
import ssl
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp.web_request import BaseRequest

from inferway.base.clock import Clock
from inferway.local.apiserver import tokens
from inferway.local.apiserver.pki import Pki
from inferway.local.apiserver.registry import errors
from inferway.local.apiserver.storage.store import Store
from inferway.local.apiserver.storage.values import Key

ADMIN = "kubernetes-admin"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated client."""

    name: str
    groups: tuple[str, ...]
    uid: str = ""


class Credentials:
    """Judges the credential of a request."""

    def __init__(self, pki: Pki, store: Store, clock: Clock) -> None:
        self._pki = pki
        self._store = store
        self._clock = clock
        self._public_key = pki.signing_key.public_key()

    def user_of(self, request: BaseRequest) -> User:
        """The client, or whom it wants to be taken for. Raises StatusError 401."""
        user = self._credential(request)
        name = request.headers.get("Impersonate-User")
        if name:
            # Every client may do everything, so it may be anybody too.
            groups = request.headers.getall("Impersonate-Group", [])
            return User(name, (*groups, "system:authenticated"))
        return user

    def _credential(self, request: BaseRequest) -> User:
        user = _certificate_user(request)
        if user is not None:
            return user
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token.strip():
            user = self.token_user(token.strip())
            if user is not None:
                return user
        raise errors.unauthorized()

    def token_user(self, token: str, audience: str = tokens.ISSUER) -> User | None:
        """The user behind a bearer token; None if it is not good."""
        if hmac.compare_digest(token.encode(), self._pki.admin_token.encode()):
            return User(ADMIN, ("system:masters", "system:authenticated"))
        binding = tokens.verify(self._public_key, token, audience, self._clock.wall())
        if binding is None or not self._alive(binding):
            return None
        return User(
            f"system:serviceaccount:{binding.namespace}:{binding.account}",
            (
                "system:serviceaccounts",
                f"system:serviceaccounts:{binding.namespace}",
                "system:authenticated",
            ),
            binding.account_uid,
        )

    def _alive(self, binding: tokens.Binding) -> bool:
        """A token dies with its account, and with the Pod or Secret that it is bound to."""
        account = Key("serviceaccounts.", binding.namespace, binding.account)
        if not self._has(account, binding.account_uid):
            return False
        if not binding.bound_kind:
            return True
        namespace = "" if binding.bound_kind == "Node" else binding.namespace
        bound = Key(f"{binding.bound_kind.lower()}s.", namespace, binding.bound_name)
        return self._has(bound, binding.bound_uid)

    def _has(self, key: Key, uid: str) -> bool:
        stored = self._store.get(key)
        return stored is not None and msgspec.json.decode(stored.body)["metadata"]["uid"] == uid


def _certificate_user(request: BaseRequest) -> User | None:
    """The subject of a client certificate; TLS has verified that our CA signed it."""
    transport = request.transport
    secured = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate = secured.getpeercert() if isinstance(secured, ssl.SSLObject) else None
    if not certificate:
        return None
    name, groups = "", []
    subject: Any = certificate.get("subject", ())
    for relative in subject:
        for key, value in relative:
            if key == "commonName":
                name = str(value)
            elif key == "organizationName":
                groups.append(str(value))
    return User(name, (*groups, "system:authenticated"))
