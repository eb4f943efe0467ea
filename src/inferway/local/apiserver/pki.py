"""The cluster's certificate authority and what it signs; all files 0600 in one folder.

Knows X.509 and files. Everything is made once and read again after a restart, so that kubeconfigs
and tokens stay good. Raises InferwayError INFERWAY0153.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inferway.base.errors import InferwayError

# Longer than any local stack lives; a new state folder makes new ones.
VALID_DAYS = 3650
# Clocks of one machine do not differ; certificates still begin a little in the past.
BACKDATE = timedelta(minutes=5)
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key as PEM bytes."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Pki:
    """Everything secret of one cluster."""

    folder: Path
    ca: Pair
    serving: Pair
    admin: Pair
    kubelet_client: Pair
    admin_token: str
    signing_key: ec.EllipticCurvePrivateKey
    """Signs service account tokens."""

    def serving_context(self) -> ssl.SSLContext:
        """TLS of the server; a client certificate is asked for and not demanded."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "serving.crt", self.folder / "serving.key")
        context.load_verify_locations(cadata=self.ca.certificate.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def kubelet_context(self) -> ssl.SSLContext:
        """TLS towards a node. As in Kubernetes' default, its certificate is not verified."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(
            self.folder / "kubelet-client.crt", self.folder / "kubelet-client.key"
        )
        return context


def load_or_create(folder: Path, address: str) -> Pki:
    """The cluster's credentials, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _load_or_create(folder, address)
    except (ValueError, TypeError, OSError) as error:
        raise InferwayError(
            "INFERWAY0153",
            f"the cluster's certificates can not be used: {error}",
            about=str(folder),
            fix="Restore the folder from a copy, or remove it: new credentials are made then.",
        ) from None


def _load_or_create(folder: Path, address: str) -> Pki:
    ca_key = _key(folder / "ca.key")
    ca = _Signer(_ca_certificate(folder / "ca.crt", ca_key), ca_key)
    serving = ca.pair(
        folder,
        "serving",
        _Wanted("inferway-apiserver", names=server_names(address), server=True),
    )
    admin = ca.pair(folder, "admin", _Wanted("kubernetes-admin", "system:masters"))
    kubelet = ca.pair(
        folder, "kubelet-client", _Wanted("kube-apiserver-kubelet-client", "system:masters")
    )
    token_file = folder / "admin.token"
    if not token_file.exists():
        write_secret(token_file, secrets.token_urlsafe(TOKEN_BYTES).encode())
    ca_pair = Pair((folder / "ca.crt").read_bytes(), (folder / "ca.key").read_bytes())
    return Pki(
        folder,
        ca_pair,
        serving,
        admin,
        kubelet,
        token_file.read_text().strip(),
        _key(folder / "service-accounts.key"),
    )


def server_names(address: str) -> tuple[str, ...]:
    """The names under which clients reach the API server."""
    service = "kubernetes.default.svc"
    local = ("localhost", "127.0.0.1")
    return (
        address,
        *local,
        "kubernetes",
        "kubernetes.default",
        service,
        f"{service}.cluster.local",
    )


def write_secret(file: Path, content: bytes) -> None:
    """Writes a file of mode 0600 as a whole or not at all. Raises OSError."""
    temporary = file.with_name(f".{file.name}.new")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    try:
        temporary.replace(file)
    except OSError:
        temporary.unlink()
        raise


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    if not file.exists():
        write_secret(file, _key_bytes(ec.generate_private_key(ec.SECP256R1())))
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{file.name} is not an elliptic curve key")
    return key


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common_name: str, organization: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) - BACKDATE
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=VALID_DAYS))
    )


def _ca_certificate(file: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    if not file.exists():
        name = _name("inferway-ca")
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            _builder(name, name)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        write_secret(file, certificate.public_bytes(serialization.Encoding.PEM))
    return x509.load_pem_x509_certificate(file.read_bytes())


@dataclass(frozen=True, slots=True)
class _Wanted:
    common_name: str
    organization: str = ""
    names: Sequence[str] = ()
    server: bool = False


@dataclass(frozen=True, slots=True)
class _Signer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pair(self, folder: Path, stem: str, wanted: _Wanted) -> Pair:
        """The pair ``stem.crt`` and ``stem.key``; signed again if it has other names."""
        key = _key(folder / f"{stem}.key")
        file = folder / f"{stem}.crt"
        if not file.exists() or not self._fits(file, wanted):
            certificate = self._sign(key, wanted)
            write_secret(file, certificate.public_bytes(serialization.Encoding.PEM))
        return Pair(file.read_bytes(), (folder / f"{stem}.key").read_bytes())

    def _fits(self, file: Path, wanted: _Wanted) -> bool:
        if not wanted.names:
            return True
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return set(extension.value) == set(_alternative_names(wanted.names))

    def _sign(self, key: ec.EllipticCurvePrivateKey, wanted: _Wanted) -> x509.Certificate:
        subject = _name(wanted.common_name, wanted.organization)
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH if wanted.server else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(subject, self.certificate.subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(authority, critical=False)
        )
        if wanted.names:
            names = x509.SubjectAlternativeName(_alternative_names(wanted.names))
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def _alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    result: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result
