"""The certificate of the ext_proc port: the files of a folder, read again as they change, or own.

The proxies of other gateways do not verify it: a pool has no place to say what to trust.
"""

from __future__ import annotations

import datetime
import ipaddress
import logging
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inferway.base.errors import InferwayError, UsageError

_log = logging.getLogger(__name__)

CERTIFICATE_FILE = "tls.crt"
KEY_FILE = "tls.key"
# The reference picker's own; it is made anew with each start.
SELF_SIGNED_DAYS = 3650
# A certificate with its chain and a key; more is some other file.
FILE_BYTES_MAX = 1024 * 1024

SUITES_VARIABLE = "GRPC_SSL_CIPHER_SUITES"
# Go's names of suites with forward secrecy, and OpenSSL's.
SUITES = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}

Pair = tuple[bytes, bytes]


def self_signed(now: datetime.datetime, *, name: str = "inferway-picker") -> Pair:
    """A new key and a certificate for it, both as PEM: (key, certificate)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName(name),
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A proxy whose clock is behind has to take it too.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


class CertificateFolder:
    """``tls.crt`` and ``tls.key`` of a folder, as a Secret is mounted.

    Files that can not be used leave the pair that is there in place, with a warning.
    """

    def __init__(self, folder: Path) -> None:
        """Raises InferwayError if there is no usable pair to begin with."""
        self._folder = folder
        self._seen = self._state()
        try:
            self.pair = self._read()
        except (OSError, ValueError) as error:
            raise InferwayError(
                "INFERWAY0415",
                f"no certificate can be read from {folder}: {error}",
                about="--cert-path",
                fix=f"Put a PEM certificate into {CERTIFICATE_FILE} and its key into {KEY_FILE}, "
                "or leave --cert-path out for a self-signed one.",
            ) from None

    def changed(self) -> Pair | None:
        """The new pair if the files have changed and are usable, else None."""
        state = self._state()
        if state == self._seen:
            return None
        self._seen = state
        try:
            pair = self._read()
        except (OSError, ValueError) as error:
            _log.warning(
                "certificate not taken",
                extra={"data": {"folder": str(self._folder), "error": str(error)}},
            )
            return None
        if pair == self.pair:
            return None
        self.pair = pair
        _log.info("certificate reloaded", extra={"data": {"folder": str(self._folder)}})
        return pair

    def _state(self) -> tuple[object, ...]:
        state: list[object] = []
        for name in (CERTIFICATE_FILE, KEY_FILE):
            try:
                found = (self._folder / name).stat()
            except OSError:
                state.append(None)
                continue
            state.append((found.st_ino, found.st_size, found.st_mtime_ns))
        return tuple(state)

    def _read(self) -> Pair:
        """(key, certificate). Raises OSError and ValueError."""
        certificate, key = (_bounded(self._folder / name) for name in (CERTIFICATE_FILE, KEY_FILE))
        chain = x509.load_pem_x509_certificates(certificate)
        try:
            private = serialization.load_pem_private_key(key, None)
        except TypeError as error:
            raise ValueError(f"{KEY_FILE}: {error}") from None
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
            raise ValueError(f"{KEY_FILE} is not the key of {CERTIFICATE_FILE}")
        return key, certificate


def credentials(folder: CertificateFolder | None, now: datetime.datetime) -> Any:
    """Of a gRPC server; with a folder every new connection gets what its files say then."""
    if folder is None:
        return grpc.ssl_server_credentials([self_signed(now)])

    def fetch() -> Any:
        pair = folder.changed()
        return None if pair is None else grpc.ssl_server_certificate_configuration([pair])

    first = grpc.ssl_server_certificate_configuration([folder.pair])
    return grpc.dynamic_ssl_server_credentials(first, fetch)


def use_suites(names: Sequence[str], env: MutableMapping[str, str]) -> None:
    """Restricts TLS 1.2 to these suites, which have Go's names. Raises UsageError.

    gRPC reads the variable as the first server of the process is made, and knows no other way.
    """
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise UsageError(
            "INFERWAY0416",
            f"the cipher suite {unknown[0]!r} is not known",
            about="--tls-cipher-suites",
            fix=f"Known are {', '.join(SUITES)}; those of TLS 1.3 can not be chosen.",
        )
    if names:
        env[SUITES_VARIABLE] = ":".join(SUITES[name] for name in names)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"{path.name} is larger than {FILE_BYTES_MAX} bytes")
    return data
