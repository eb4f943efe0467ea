"""TLS contexts and bearer tokens made from a ClusterConfig.

Knows the ssl module and the file system. Key material that came as data goes through memory-backed
files, because the ssl module reads certificates from paths only.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from inferway.base.clock import Clock
from inferway.cluster.errors import KubeconfigError
from inferway.cluster.kubeconfig import ClusterConfig

# A kubelet renews a token at 80 % of its life, ten minutes at least; a minute is fresh enough.
TOKEN_REREAD_SECONDS = 60.0


def ssl_context(config: ClusterConfig) -> ssl.SSLContext | None:
    """The TLS context for a server, None for plain HTTP. Raises KubeconfigError."""
    if config.server.startswith("http://"):
        return None
    try:
        context = ssl.create_default_context(cadata=config.ca.decode() if config.ca else None)
        if config.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if config.certificate is not None and config.key is not None:
            _load_pair(context, config.certificate, config.key)
    except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
        raise KubeconfigError(
            config.server, f"the certificates can not be used: {error}", "Mend the kubeconfig."
        ) from None
    return context


def _load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    descriptors = []
    try:
        for name, data in (("certificate", certificate), ("key", key)):
            descriptor = os.memfd_create(name)
            descriptors.append(descriptor)
            os.write(descriptor, data)
        # The encrypted-key prompt of OpenSSL would block, so an empty password is offered.
        context.load_cert_chain(
            f"/proc/self/fd/{descriptors[0]}", f"/proc/self/fd/{descriptors[1]}", password=""
        )
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class TokenSource:
    """The bearer token of the moment; a file is read again when its content may have changed."""

    def __init__(self, config: ClusterConfig, clock: Clock) -> None:
        self._fixed = config.token
        self._path = Path(config.token_file) if config.token_file else None
        self._clock = clock
        self._cached = config.token
        self._read_at = float("-inf")

    def token(self) -> str:
        """The token, empty if the credential is not a token."""
        if self._path is None:
            return self._fixed
        now = self._clock.monotonic()
        if now - self._read_at >= TOKEN_REREAD_SECONDS:
            try:
                self._cached = self._path.read_text().strip()
                self._read_at = now
            except OSError:
                # The kubelet swaps the file; the last token is good until the next look.
                pass
        return self._cached

    def expire(self) -> bool:
        """Forgets the cached token after a 401; True if reading again may help."""
        if self._path is None:
            return False
        before = self._cached
        self._read_at = float("-inf")
        return self.token() != before
