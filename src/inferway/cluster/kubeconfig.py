"""Where the API server is and who we are: from a kubeconfig, or from inside of a Pod.

Knows the kubeconfig format (clusters, users, contexts; files or base64 data) and the files that a
kubelet gives a Pod. Credential plugins (``exec``, ``auth-provider``) are refused with a way out.
Raises KubeconfigError and NotInClusterError.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inferway.cluster.errors import KubeconfigError, NotInClusterError

SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """One server and one credential. ``ca``, ``certificate`` and ``key`` are PEM bytes.

    ``token_file`` is read again while the program runs, because its content rotates.
    """

    server: str
    ca: bytes | None = None
    token: str = ""
    token_file: str = ""
    certificate: bytes | None = None
    key: bytes | None = None
    insecure: bool = False
    server_name: str = ""
    namespace: str = "default"


def load(path: str | Path, context: str = "") -> ClusterConfig:
    """The configuration of a kubeconfig's current context, or of the named one."""
    file = Path(path)
    try:
        document = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise KubeconfigError(
            str(path), "there is no kubeconfig", "Start a stack, or give another file."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(str(path), f"it can not be read: {error}", "Mend the file.") from None
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise KubeconfigError(str(path), f"it is not YAML: {what}", "Mend the file.") from None
    if not isinstance(document, dict):
        raise KubeconfigError(str(path), "it is not a kubeconfig", "Give a kubeconfig file.")
    return _Reader(file, document).read(context)


@dataclass(frozen=True, slots=True)
class _Reader:
    file: Path
    document: dict[str, Any]

    def read(self, context_name: str) -> ClusterConfig:
        name = context_name or str(self.document.get("current-context") or "")
        if not name:
            raise self.wrong("it has no current-context", "Choose one: kubectl config use-context.")
        context = self.entry("contexts", "context", name)
        cluster = self.entry("clusters", "cluster", str(context.get("cluster") or ""))
        user_name = str(context.get("user") or "")
        user = self.entry("users", "user", user_name) if user_name else {}
        server = cluster.get("server")
        if not isinstance(server, str) or not server.startswith(("https://", "http://")):
            raise self.wrong("the cluster has no server address", "Set clusters[].cluster.server.")
        for plugin in ("exec", "auth-provider"):
            if plugin in user:
                raise self.wrong(
                    f"the user needs the credential plugin {plugin!r}, which is not supported",
                    "Use a kubeconfig with a token or a client certificate.",
                )
        certificate = self.pem(user, "client-certificate")
        key = self.pem(user, "client-key")
        if (certificate is None) != (key is None):
            raise self.wrong(
                "a client certificate needs its key",
                "Set client-certificate(-data) and client-key(-data) together.",
            )
        token_file = str(user.get("tokenFile") or "")
        return ClusterConfig(
            server=server.rstrip("/"),
            ca=self.pem(cluster, "certificate-authority"),
            token=str(user.get("token") or ""),
            token_file=str(self.file.parent / token_file) if token_file else "",
            certificate=certificate,
            key=key,
            insecure=bool(cluster.get("insecure-skip-tls-verify")),
            server_name=str(cluster.get("tls-server-name") or ""),
            namespace=str(context.get("namespace") or "default"),
        )

    def entry(self, list_name: str, field: str, name: str) -> dict[str, Any]:
        for item in self.document.get(list_name) or []:
            if isinstance(item, dict) and item.get("name") == name:
                value = item.get(field)
                return value if isinstance(value, dict) else {}
        raise self.wrong(f"{list_name} has no entry {name!r}", "Mend the file.")

    def pem(self, holder: dict[str, Any], field: str) -> bytes | None:
        data = holder.get(f"{field}-data")
        if data:
            try:
                return base64.b64decode(str(data), validate=True)
            except (binascii.Error, ValueError):
                raise self.wrong(f"{field}-data is not base64", "Mend the file.") from None
        path = holder.get(field)
        if not path:
            return None
        try:
            # Relative paths are relative to the kubeconfig, as for kubectl.
            return (self.file.parent / str(path)).read_bytes()
        except OSError as error:
            raise self.wrong(f"{field} can not be read: {error}", "Mend the path.") from None

    def wrong(self, what: str, fix: str) -> KubeconfigError:
        return KubeconfigError(str(self.file), what, fix)


def in_cluster(env: Mapping[str, str]) -> ClusterConfig:
    """The configuration that a kubelet, or Inferway's node, gives to a Pod."""
    host = env.get("KUBERNETES_SERVICE_HOST", "")
    port = env.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise NotInClusterError("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    folder = Path(env.get("INFERWAY_SERVICE_ACCOUNT_DIR") or SERVICE_ACCOUNT_DIR)
    token = folder / "token"
    if not token.is_file():
        raise NotInClusterError(f"there is no service account token at {token}")
    try:
        ca = (folder / "ca.crt").read_bytes()
    except OSError as error:
        raise NotInClusterError(f"the certificate authority can not be read: {error}") from None
    namespace_file = folder / "namespace"
    namespace = namespace_file.read_text().strip() if namespace_file.is_file() else "default"
    address = f"[{host}]" if ":" in host else host
    return ClusterConfig(
        server=f"https://{address}:{port}", ca=ca, token_file=str(token), namespace=namespace
    )
