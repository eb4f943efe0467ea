"""Kubeconfigs and in-cluster files, right and wrong."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferway.cluster import kubeconfig
from inferway.cluster.credentials import ssl_context
from inferway.cluster.errors import KubeconfigError, NotInClusterError
from inferway.cluster.kubeconfig import ClusterConfig


def document(cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "n"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }


def write(folder: Path, value: Any) -> Path:
    path = folder / "config"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_data_and_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"CA")
    encoded = base64.b64encode(b"CERT").decode()
    user = {"client-certificate-data": encoded, "client-key-data": encoded}
    path = write(tmp_path, document({"certificate-authority": "ca.pem"}, user))
    assert kubeconfig.load(path) == ClusterConfig(
        "https://127.0.0.1:6443", ca=b"CA", certificate=b"CERT", key=b"CERT", namespace="n"
    )


def test_tokens(tmp_path: Path) -> None:
    path = write(tmp_path, document({}, {"token": "t"}))
    assert kubeconfig.load(path).token == "t"
    path = write(tmp_path, document({"insecure-skip-tls-verify": True}, {"tokenFile": "t"}))
    loaded = kubeconfig.load(path)
    assert (loaded.token_file, loaded.insecure) == (str(tmp_path / "t"), True)


WRONG: list[tuple[Any, str]] = [
    ("{", "not YAML"),
    ("hello", "not a kubeconfig"),
    ({}, "no current-context"),
    ({"current-context": "c"}, "contexts has no entry 'c'"),
    (document({"server": "localhost"}, {}), "no server address"),
    (document({}, {"exec": {}}), "credential plugin 'exec'"),
    (document({"certificate-authority-data": "%"}, {}), "not base64"),
    (document({"certificate-authority": "none"}, {}), "can not be read"),
    (document({}, {"client-certificate-data": "QQ=="}), "needs its key"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_a_wrong_file_is_one_clear_error(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(KubeconfigError, match=message) as caught:
        kubeconfig.load(write(tmp_path, value))
    assert caught.value.exit_code == 2


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="INFERWAY0709"):
        kubeconfig.load(tmp_path / "none")


def test_certificates_that_are_none() -> None:
    with pytest.raises(KubeconfigError, match="can not be used"):
        ssl_context(ClusterConfig("https://x", ca=b"CA"))


def test_in_cluster(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(b"CA")
    (tmp_path / "namespace").write_text("shop\n")
    env = {
        "KUBERNETES_SERVICE_HOST": "::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "INFERWAY_SERVICE_ACCOUNT_DIR": str(tmp_path),
    }
    loaded = kubeconfig.in_cluster(env)
    assert loaded.server == "https://[::1]:443"
    assert (loaded.ca, loaded.namespace) == (b"CA", "shop")
    assert loaded.token_file == str(tmp_path / "token")
    with pytest.raises(NotInClusterError, match="are not set"):
        kubeconfig.in_cluster({})
    with pytest.raises(NotInClusterError, match="no service account token"):
        kubeconfig.in_cluster({**env, "INFERWAY_SERVICE_ACCOUNT_DIR": str(tmp_path / "x")})
