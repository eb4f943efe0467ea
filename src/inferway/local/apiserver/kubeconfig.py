"""The kubeconfig that a stack hands to its user, mode 0600."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from inferway.base.errors import InferwayError
from inferway.local.apiserver.pki import Pki, write_secret

NAME = "inferway"


def write(file: Path, server: str, pki: Pki) -> None:
    """Writes the admin's kubeconfig with certificate and token. Raises InferwayError 0155."""
    user = {
        "client-certificate-data": _text(pki.admin.certificate),
        "client-key-data": _text(pki.admin.key),
        "token": pki.admin_token,
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": NAME,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _text(pki.ca.certificate),
                },
            }
        ],
        "users": [{"name": NAME, "user": user}],
        "contexts": [
            {"name": NAME, "context": {"cluster": NAME, "user": NAME, "namespace": "default"}}
        ],
        "current-context": NAME,
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_secret(file, yaml.safe_dump(document, sort_keys=False).encode())
    except OSError as error:
        raise InferwayError(
            "INFERWAY0155",
            f"the kubeconfig can not be written: {error.strerror}",
            about=str(file),
            fix="Move away what stands there, or choose another folder with --state.",
        ) from None


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
